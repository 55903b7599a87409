"""Operations on contents and offsets give what awkward gives, in values and types."""

from __future__ import annotations

from typing import Any

import awkward as ak
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servicex_server.plan.ir import Apply, Call, Choice, Column, Expr, Index, Literal, Mask, Span, Zip
from servicex_server.run.filter import execution
from servicex_server.run.filter.flat import FlatKernels, to_flat

DTYPES = ("bool", "int8", "uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")
counts = st.lists(st.integers(0, 4), min_size=0, max_size=8)


def jagged(lengths: list[int], dtype: str, seed: int) -> ak.Array:
    numbers = np.random.default_rng(seed).integers(0, 5, sum(lengths)).astype(dtype)
    return ak.unflatten(ak.Array(numbers), np.array(lengths, np.int64))


def same(one: Any, other: Any) -> bool:
    return str(one.type) == str(other.type) and bool(ak.array_equal(one, other, equal_nan=True))


def check(node: Expr, values: dict[Expr, Any], *, is_flat: bool = True) -> None:
    """The kernel gives what awkward gives, which must not be reached by the kernel itself."""
    with np.errstate(all="ignore"):
        result = FlatKernels().compute(node, values)
        expected = execution._value_of(node, values)
    assert (result is not None) == is_flat
    if result is not None:
        assert same(result, expected)


@settings(deadline=None, max_examples=60)
@given(lengths=counts, one=st.sampled_from(DTYPES), other=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_elementwise_operations_promote_as_awkward_does(
    lengths: list[int], one: str, other: str, seed: int
) -> None:
    a, b, c = Column("a"), Column("b"), Column("c")
    values: dict[Expr, Any] = {
        a: jagged(lengths, one, seed),
        b: jagged(lengths, other, seed + 1),
        c: ak.Array(np.arange(len(lengths)).astype(other)),
    }
    for pair in ((a, b), (a, c), (c, a), (c, c)):
        for function in ("add", "multiply", "less", "equal", "logical_and", "arctan2", "true_divide"):
            check(Apply(function, pair), values)


@settings(deadline=None, max_examples=40)
@given(lengths=counts, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_constants_promote_as_awkward_does(lengths: list[int], dtype: str, seed: int) -> None:
    a, c, k = Column("a"), Column("c"), Literal(0)
    values: dict[Expr, Any] = {a: jagged(lengths, dtype, seed), c: jagged(lengths, "bool", seed)}
    for constant in (2, 2.5, True):
        values[k] = constant
        for function in ("add", "greater", "minimum"):
            check(Apply(function, (a, k)), values)
        check(Choice(c, a, k), values)
        check(Choice(c, k, a), values)


@settings(deadline=None, max_examples=60)
@given(lengths=counts, dtype=st.sampled_from(DTYPES), seed=st.integers(0, 99))
def test_masks_reductions_and_picks(lengths: list[int], dtype: str, seed: int) -> None:
    a, elements, rows = Column("a"), Column("elements"), Column("rows")
    values: dict[Expr, Any] = {
        a: jagged(lengths, dtype, seed),
        elements: jagged(lengths, "bool", seed),
        rows: ak.Array(np.arange(len(lengths)) % 2 == 0),
    }
    check(Mask(a, elements), values)
    check(Mask(a, rows), values)
    check(Mask(rows, rows), values)
    plain = (("axis", 1), ("keepdims", False), ("mask_identity", False))
    for function in ("count", "any", "all", "sum", "count_nonzero"):
        is_flat = dtype == "bool" or function == "count"
        check(Call(function, (a,), plain), values, is_flat=is_flat)
    check(Call("num", (a,), (("axis", 1),)), values)
    check(Zip(("x", "y"), (a, elements), None), values)
    check(Zip(("x", "y"), (a, rows), 1), values)
    check(Zip(None, (a, elements), 2), values)
    if all(length > 1 for length in lengths):
        check(Index(a, (Span(), 1)), values)


@pytest.mark.parametrize(
    "array",
    [
        ak.Array([[1, 2], [3]])[1:],
        ak.Array(["text"]),
        ak.Array([[[1.0]]]),
        ak.Array([1, None]),
        ak.Array(np.zeros((2, 3))),
        ak.Array([{"x": 1}]),
        ak.Array([[1, 2], [3]])[[1, 0]],
    ],
)
def test_other_shapes_are_left_to_awkward(array: ak.Array) -> None:
    assert to_flat(array) is None
    source = Column("a")
    assert FlatKernels().compute(Apply("negative", (source,)), {source: array}) is None


def test_a_missing_element_is_left_to_awkward() -> None:
    a = Column("a")
    assert FlatKernels().compute(Index(a, (Span(), 1)), {a: ak.Array([[1, 2], [3]])}) is None


def test_what_a_cut_selects_is_worked_out_once() -> None:
    offsets = np.array([0, 2, 3], np.int64)
    columns = [
        ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), ak.contents.NumpyArray(content)))
        for content in (np.array([1.0, 2.0, 3.0]), np.array([4, 5, 6]), np.array([True, False, True]))
    ]
    a, b, good = Column("a"), Column("b"), Column("good")
    values: dict[Expr, Any] = dict(zip((a, b, good), columns, strict=True))
    kernels = FlatKernels()
    one, other = kernels.compute(Mask(a, good), values), kernels.compute(Mask(b, good), values)
    assert one is not None
    assert other is not None
    assert one.layout.offsets.data is other.layout.offsets.data
    assert one.tolist() == [[1.0], [3.0]]
