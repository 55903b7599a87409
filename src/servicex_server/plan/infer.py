"""The type that each operation gives, by the rules of numpy and awkward.

Here a type includes the rows: a flat column is `List(Number(…))`. A type that an operation does not fit
raises `QueryTypeError` with the reason alone; who calls adds the construct and its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, cast

import numpy as np

from servicex_server.errors import QueryTypeError
from servicex_server.plan.function import SCALAR_TYPES
from servicex_server.plan.ir import Scalar
from servicex_server.plan.types import (
    Bool,
    List,
    Number,
    Option,
    Record,
    String,
    Type,
    Unknown,
    depth_of,
    leaf_of,
    strip_option,
)

STRING_FUNCTIONS = frozenset({"equal", "not_equal"})
_FLOAT_SPECIAL = frozenset({"erf", "erfc", "factorial", "gamma", "lgamma"})


@dataclass(frozen=True, slots=True)
class Weak:
    """A Python constant, which takes the dtype of the arrays that it meets."""

    value: Scalar


Operand = Type | Weak


def fail(problem: str) -> NoReturn:
    """Raises the error for a type that does not fit."""
    raise QueryTypeError(problem)


def strong(operand: Operand) -> Type:
    """The operand's own type: a constant as if it were an array."""
    if not isinstance(operand, Weak):
        return operand
    match operand.value:
        case bool():
            return Bool()
        case int():
            return Number("int64" if operand.value < 1 << 63 else "uint64")
        case float():
            return Number("float64")
        case str():
            return String()
        case None:
            fail("None is not a value here")


def dtype_of(value: Type) -> np.dtype[np.generic] | None:
    """The numpy dtype of a number or bool; None for anything else."""
    match value:
        case Number(dtype=name):
            return np.dtype(name)
        case Bool():
            return np.dtype(np.bool_)
        case _:
            return None


def from_dtype(dtype: np.dtype[np.generic]) -> Type:
    """The type of a numpy dtype."""
    return Bool() if dtype.kind == "b" else Number(dtype.name)


def describe(operand: Operand) -> str:
    """The innermost type in words."""
    if isinstance(operand, Weak):
        return f"the constant {operand.value!r:.50}"
    match operand:
        case String():
            return "text"
        case Record(name=str(name)):
            return f"vectors ({name})"
        case Record():
            return f"records with fields {', '.join(operand.names[:5])}"
        case Unknown(typename=name):
            return f"values of the type {name}, which cannot be computed with"
        case List() | Option():
            return f"values of type {operand}"
        case _:
            return f"{operand} values"


def broadcast(operands: Sequence[Operand], leaf: Callable[[Sequence[Operand]], Type]) -> Type:
    """The type of an elementwise function of values broadcast against each other."""
    if any(isinstance(operand, Option) for operand in operands):
        contents = [operand.content if isinstance(operand, Option) else operand for operand in operands]
        inner = broadcast(contents, leaf)
        return inner if isinstance(inner, Option) else Option(inner)
    lists = [operand for operand in operands if isinstance(operand, List)]
    if not lists:
        return leaf(operands)
    contents = [operand.content if isinstance(operand, List) else operand for operand in operands]
    return List(broadcast(contents, leaf), common_size(operands))


def common_size(operands: Sequence[Operand]) -> int | None:
    """The fixed length that lists broadcast against each other keep, if all have the same."""
    sizes = {
        operand.size if isinstance(operand, List) else None
        for operand in operands
        if not isinstance(operand, Weak)
    }
    return sizes.pop() if len(sizes) == 1 else None


def elementwise(function: str, operands: Sequence[Operand]) -> Type:
    """The type of a ufunc (or special function) of the operands."""
    if any(isinstance(operand, List) for operand in operands):
        # A single value beside rows (the maximum of a column, say) is there whenever there are rows.
        operands = [operand.content if isinstance(operand, Option) else operand for operand in operands]
    return broadcast(operands, lambda leaves: _leaf_of_ufunc(function, leaves))


def _leaf_of_ufunc(function: str, leaves: Sequence[Operand]) -> Type:
    texts = [
        leaf
        for leaf in leaves
        if isinstance(leaf, String) or (isinstance(leaf, Weak) and isinstance(leaf.value, str))
    ]
    if texts:
        if len(texts) != len(leaves):
            fail(
                f"text cannot be combined with {describe(next(leaf for leaf in leaves if leaf not in texts))}"
            )
        if function not in STRING_FUNCTIONS:
            fail("text can only be compared with == and !=")
        return Bool()
    signature = [_promotable(leaf) for leaf in leaves]
    if function in SCALAR_TYPES:
        return from_dtype(np.dtype(SCALAR_TYPES[function]))
    if function in _FLOAT_SPECIAL or function in {"round", "real", "imag"}:
        return _leaf_of_special(function, strong(leaves[0]))
    ufunc = cast(np.ufunc, getattr(np, function))
    try:
        resolved = ufunc.resolve_dtypes((*signature, None))
    except TypeError:
        resolved = None
    if resolved is None:
        fail(f"it does not apply to {' and '.join(describe(leaf) for leaf in leaves)}")
    return from_dtype(resolved[-1])


def _promotable(leaf: Operand) -> np.dtype[np.generic] | type[int | float]:
    if isinstance(leaf, Weak):
        match leaf.value:
            case bool():
                return np.dtype(np.bool_)
            case int():
                return int
            case float():
                return float
            case _:
                fail(f"it does not apply to {describe(leaf)}")
    dtype = dtype_of(leaf)
    if dtype is None:
        fail(f"it does not apply to {describe(leaf)}")
    return dtype


def _leaf_of_special(function: str, value: Type) -> Type:
    dtype = dtype_of(value)
    if dtype is None:
        fail(f"it does not apply to {describe(value)}")
    match function, dtype.kind:
        case "real" | "imag", "c":
            return from_dtype(np.empty(0, dtype).real.dtype)
        case "round" | "real" | "imag", _:
            return from_dtype(dtype)
        case _, "c":
            fail(f"it does not apply to {describe(value)}")
        case _, "f":
            return from_dtype(dtype)
        case _:
            return Number("float64")


def merge(left: Operand, right: Operand) -> Type:
    """The common type of two values that become elements of one array."""
    one, two = strong(left), strong(right)
    if one == two:
        return one
    if isinstance(one, Option) or isinstance(two, Option):
        return Option(strip_option(merge(strip_option(one), strip_option(two))))
    if isinstance(one, List) and isinstance(two, List):
        return List(merge(one.content, two.content))
    if (
        isinstance(one, Record)
        and isinstance(two, Record)
        and one.names == two.names
        and (one.is_tuple, one.name) == (two.is_tuple, two.name)
    ):
        fields = tuple((name, merge(a, b)) for (name, a), (_, b) in zip(one.fields, two.fields, strict=True))
        return Record(fields, one.is_tuple, one.name)
    return _merge_leaves(one, two)


def _merge_leaves(one: Type, two: Type) -> Type:
    dtypes = dtype_of(one), dtype_of(two)
    if dtypes[0] is None or dtypes[1] is None:
        fail(f"{describe(one)} and {describe(two)} cannot be elements of one array")
    if Bool() in (one, two):
        return two if one == Bool() else one
    return from_dtype(np.result_type(dtypes[0], dtypes[1]))


def choose(condition: Type, then: Operand, otherwise: Operand) -> Type:
    """The type of a conditional: `then` and `otherwise` are broadcast to the condition, then merged."""
    match condition:
        case Option(content=content):
            inner = choose(content, then, otherwise)
            return inner if isinstance(inner, Option) else Option(inner)
        case List(content=content):
            below = [
                operand.content if isinstance(operand, List) else operand for operand in (then, otherwise)
            ]
            return List(choose(content, below[0], below[1]))
        case Bool() | Number():
            return merge(then, otherwise)
        case _:
            fail(f"the condition is {describe(condition)}, not true or false")


def jagged(value: Type) -> Type:
    """The type without fixed list lengths."""
    match value:
        case List(content=content):
            return List(jagged(content))
        case Option(content=content):
            return Option(jagged(content))
        case _:
            return value


def at_axis(value: Type, axis: int, change: Callable[[List], Type]) -> Type:
    """The type with the list at `axis` replaced by what `change` makes of it."""
    match value:
        case Option(content=content):
            inner = at_axis(content, axis, change)
            return inner if isinstance(inner, Option) else Option(inner)
        case List() if axis == 0:
            return change(value)
        case List(content=content, size=size):
            return List(at_axis(content, axis - 1, change), size)
        case _:
            fail(no_list(value, axis))


def no_list(value: Type, axis: int) -> str:
    """Why there is no list at an axis, in words."""
    del axis
    return f"it needs a collection, but each element is one of {describe(value)}"


def has_axis(value: Type, axis: int) -> bool:
    """Whether there is a list at the axis."""
    return depth_of(value) > axis


def positive_axis(value: Type, axis: int) -> int:
    """The axis counted from the outside; negative ones count from the innermost list."""
    depth = depth_of(value)
    if axis >= depth:
        leaf = describe(leaf_of(value))
        fail(f"it needs a collection, but each element is one of {leaf} (there is no axis {axis})")
    if axis < -depth:
        fail(f"there is no axis {axis}: the values have {depth}")
    return axis % depth


def map_leaf(value: Type, change: Callable[[Type], Type]) -> Type:
    """The type with the innermost one changed, lists and options kept."""
    match value:
        case List(content=content, size=size):
            return List(map_leaf(content, change), size)
        case Option(content=content):
            inner = map_leaf(content, change)
            return inner if isinstance(inner, Option) else Option(inner)
        case _:
            return change(value)


def mask(source: Type, predicate: Type) -> Type:
    """The type of `source[predicate]` for a boolean array."""
    match predicate:
        case Option(content=List()):
            return mask(source, predicate.content)
        case List(content=content):
            if not isinstance(strip_option(source), List):
                message = f"the condition has lists where there are none, but {describe(source)}"
                fail(f"{message}; it must be reduced to one answer for each, such as whether any holds")
            return _mask_lists(source, content)
        case _:
            fail(f"the condition is one value, {describe(predicate)}, for the whole file")


def _mask_lists(source: Type, content: Type) -> Type:
    if isinstance(source, Option):
        return Option(_mask_lists(source.content, content))
    outer = cast(List, source)
    is_optional = isinstance(content, Option)
    inner = strip_option(content)
    match inner:
        case Bool():
            kept = outer.content
            return List(Option(strip_option(kept)) if is_optional else kept)
        case List():
            kept = mask(outer.content, inner)
            return List(Option(strip_option(kept)) if is_optional else kept)
        case _:
            fail(f"the condition gives {describe(inner)}, not true or false")


def reduce(
    function: str, value: Type, axis: int | None, *, keepdims: bool = False, is_masked: bool = False
) -> Type:
    """The type of a reduction over one axis, or over everything (axis None)."""
    if axis is None:
        leaf = map_leaf(_innermost(value), lambda item: _leaf_of_reducer(function, item))
        return Option(strip_option(leaf)) if is_masked else strip_option(leaf)

    def reduced(lists: List) -> Type:
        leaf = map_leaf(lists.content, lambda item: _leaf_of_reducer(function, item))
        leaf = _without_leaf_option(leaf)
        leaf = map_leaf(leaf, Option) if is_masked else leaf
        return List(leaf, 1) if keepdims else leaf

    return at_axis(value, axis, reduced)


def _innermost(value: Type) -> Type:
    value = strip_option(value)
    while isinstance(value, List):
        value = strip_option(value.content)
    return value


def _without_leaf_option(value: Type) -> Type:
    match value:
        case Option(content=content) if not isinstance(content, List):
            return content
        case Option(content=content):
            return Option(_without_leaf_option(content))
        case List(content=content, size=size):
            return List(_without_leaf_option(content), size)
        case _:
            return value


_COUNTS = frozenset({"count", "count_nonzero", "argmin", "argmax", "nanargmin", "nanargmax"})
_TOTALS = frozenset({"sum", "prod", "nansum", "nanprod"})
_TRUTHS = frozenset({"any", "all"})
_EXTREMES = frozenset({"min", "max", "nanmin", "nanmax"})


def _leaf_of_reducer(function: str, leaf: Type) -> Type:
    dtype = dtype_of(leaf)
    if dtype is None:
        fail(f"it does not apply to {describe(leaf)}")
    if function in _COUNTS:
        return Number("int64")
    if function in _TRUTHS:
        return Bool()
    if function in _TOTALS:
        totals = {"b": "int64", "i": "int64", "u": "uint64"}
        return Number(totals[dtype.kind]) if dtype.kind in totals else leaf
    if dtype.kind == "c":
        fail("it does not apply to complex numbers")
    if function in _EXTREMES:
        return leaf
    return Number("float64")


def zip_fields(
    names: tuple[str, ...] | None, values: Sequence[Operand], depth_limit: int | None, depth: int = 0
) -> Type:
    """The type of records of values broadcast against each other down to `depth_limit` axes."""
    if depth_limit == depth or not any(
        isinstance(value, List | Option) and depth_of(cast(Type, value)) for value in values
    ):
        fields = names if names is not None else tuple(map(str, range(len(values))))
        contents = tuple((name, strong(value)) for name, value in zip(fields, values, strict=True))
        return Record(contents, is_tuple=names is None)
    if any(isinstance(value, Option) and depth_of(value) for value in values):
        below = [
            value.content if isinstance(value, Option) and depth_of(value) else value for value in values
        ]
        return Option(zip_fields(names, below, depth_limit, depth))
    below = [value.content if isinstance(value, List) else value for value in values]
    return List(zip_fields(names, below, depth_limit, depth + 1), common_size(values))


def align(source: Type, like: Type, axis: int) -> Type:
    """The type of what `source` has at `axis`, repeated for each element that `like` has there."""
    outer, other = strip_option(source), strip_option(like)
    if not isinstance(other, List):
        fail(no_list(like, axis))
    if axis == 0:
        result: Type = List(source)
        return Option(result) if isinstance(like, Option) else result
    if not isinstance(outer, List):
        fail(no_list(source, axis))
    result = List(align(outer.content, other.content, axis - 1))
    return Option(result) if isinstance(source, Option) or isinstance(like, Option) else result


def truncate(value: Type, axes: int, leaf: Type) -> Type:
    """The first `axes` lists of a type around another leaf."""
    if axes == 0:
        return leaf
    match value:
        case List(content=content):
            return List(truncate(content, axes - 1, leaf))
        case Option(content=content):
            return Option(truncate(content, axes, leaf))
        case _:
            fail(no_list(value, axes))
