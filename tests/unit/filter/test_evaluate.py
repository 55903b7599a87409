"""Bound expressions on arrays: values, structure, bounds."""

from __future__ import annotations

import json
from typing import Any

import awkward as ak
import numpy as np
import pytest
import qastle

from servicex_server.errors import QueryTypeError, ResourceExhausted
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import empty_rows, evaluate, from_awkward

ROWS: dict[str, Any] = {
    "met": np.array([1.0, 2.0, 3.0], np.float32),
    "n": np.array([2, 0, 1], np.int32),
    "mu": [[10.0, 20.0], [], [30.0]],
    "el": [[1.0], [2.0, 3.0], [4.0, 5.0]],
    "text": ["a", "b", "ccc"],
    "fixed": np.arange(6, dtype=np.float64).reshape(3, 2),
    "tiny": np.array([1, 2, 3], np.uint8),
    "many": [list(range(300))] * 3,
}
COLUMNS = {name: ak.Array(values) for name, values in ROWS.items()}
FILE = MemoryFile(
    (MemoryTree("t", {name: from_awkward(array.type.content) for name, array in COLUMNS.items()}),)
)


def bound(query: str) -> BoundOutput:
    text = qastle.python_source_to_text_ast(f"EventDataset('f.root', 't'){query}")
    (output,) = bind(parse("uproot", text), FILE).outputs
    return output


def bound_raw(**entry: Any) -> BoundOutput:
    (output,) = bind(parse("uproot-raw", json.dumps([{"treename": "t", **entry}])), FILE).outputs
    return output


def run(output: BoundOutput, n_rows: int | None = None, **options: Any) -> ak.Array:
    return evaluate(output, {name: COLUMNS[name][:n_rows] for name in output.columns}, **options)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        # every lambda has its own axis; outer values are repeated along inner axes
        (".Select(lambda e: e.mu.Select(lambda m: e.el.Select(lambda l: m + l)))",
         [[[11.0], [21.0]], [], [[34.0, 35.0]]]),
        (".Select(lambda e: e.mu.Select(lambda m: e.el.Where(lambda l: l * 7 > m).Count()))",
         [[0, 0], [], [1]]),
        (".Select(lambda e: e.mu.Select(lambda m: e.el.Count()))", [[1, 1], [], [2]]),
        (".Select(lambda e: e.mu.Select(lambda m: e.met))", [[1.0, 1.0], [], [3.0]]),
        (".Select(lambda e: e.mu.Select(lambda m: e.el))", [[[1.0], [1.0]], [], [[4.0, 5.0]]]),
        (".Select(lambda e: e.mu.Select(lambda m: m + e.el))", [[[11.0], [21.0]], [], [[34.0, 35.0]]]),
        (".Select(lambda e: e.mu.Where(lambda m: e.met > 2))", [[], [], [30.0]]),
        (".Select(lambda e: e.mu.Where(lambda m: True))", [[10.0, 20.0], [], [30.0]]),
        (".Select(lambda e: e.mu.Any(lambda m: e.el.Any(lambda l: l * 10 == m)))", [True, False, False]),
        (".Select(lambda e: e.mu.Select(lambda a: e.mu.Select(lambda b: e.el.Select(lambda c: a + b + c))))",
         [[[[21.0], [31.0]], [[31.0], [41.0]]], [], [[[64.0, 65.0]]]]),
        (".Select(lambda e: e.mu.SelectMany(lambda m: e.el.Select(lambda l: m + l)))",
         [[11.0, 21.0], [], [34.0, 35.0]]),
        (".Select(lambda e: e.mu.Select(lambda m: e.mu.Contains(m)))", [[True, True], [], [True]]),
        (".Select(lambda e: e.mu.Contains(e.el))", [[False], [False, False], [False, False]]),
        (".Select(lambda e: e.el.Contains(2))", [False, True, False]),
        (".Select(lambda e: e.mu.Select(lambda m: {'m': m, 'x': e.met, 'k': 1}))",
         [[{"m": 10.0, "x": 1.0, "k": 1}, {"m": 20.0, "x": 1.0, "k": 1}], [],
          [{"m": 30.0, "x": 3.0, "k": 1}]]),
        (".Select(lambda e: e.mu.Select(lambda m: 'x'))", [["x", "x"], [], ["x"]]),
        (".Select(lambda e: {'s': 'x', 't': e.text})",
         [{"s": "x", "t": "a"}, {"s": "x", "t": "b"}, {"s": "x", "t": "ccc"}]),
        # lists of fixed length behave as other lists do
        (".Select(lambda e: e.fixed * e.met)", [[0.0, 1.0], [4.0, 6.0], [12.0, 15.0]]),
        (".Select(lambda e: e.fixed.Where(lambda x: x > 1))", [[], [2.0, 3.0], [4.0, 5.0]]),
        (".Select(lambda e: e.fixed.Select(lambda x: e.el.Select(lambda l: x + l)))",
         [[[1.0], [2.0]], [[4.0, 5.0], [5.0, 6.0]], [[8.0, 9.0], [9.0, 10.0]]]),
        (".Where(lambda e: e.text == 'ccc').Select(lambda e: e.met)", [3.0]),
        (".Select(lambda e: Contains(['a', 'b'], e.text))", [True, True, False]),
        (".Count()", [3]),
        (".Select(lambda e: e.met).Max()", [3.0]),
        (".Select(lambda e: e.met).Max() - 1", [2.0]),
        (".Select(lambda e: e.text).First()", ["a"]),
        (".First()", [{name: COLUMNS[name].to_list()[0] for name in COLUMNS}]),
        (".Select(lambda e: {'a': e.n, 'b': e.mu}).Last()", [{"a": 1, "b": [30.0]}]),
        (".OrderByDescending(lambda e: e.met).Select(lambda e: e.n)", [1, 0, 2]),
    ],
)  # fmt: skip
def test_values(query: str, expected: list[Any]) -> None:
    assert run(bound(query)).to_list() == expected


@pytest.mark.parametrize(
    "query",
    [".Select(lambda e: {'a': e.met, 'b': e.mu.Where(lambda m: m > 15)})", ".SelectMany(lambda e: e.mu)",
     ".Where(lambda e: e.met > 1).Select(lambda e: e.mu.Select(lambda m: e.el.Select(lambda l: m + l)))"],
)  # fmt: skip
def test_chunks_together_give_the_whole(query: str) -> None:
    output = bound(query)
    assert output.is_chunkable
    chunks = [evaluate(output, {name: COLUMNS[name][i : i + 1] for name in output.columns}) for i in range(3)]
    assert ak.concatenate(chunks).to_list() == run(output).to_list()


@pytest.mark.parametrize(
    "query",
    [".Select(lambda e: e.met)", ".Select(lambda e: {'a': e.text, 'b': e.mu.Max(), 'c': e.fixed})",
     ".Select(lambda e: (e.n, e.mu))", ".Select(lambda e: e.mu.Select(lambda m: {'m': m, 't': e.met}))",
     ".Select(lambda e: e.mu.Choose(2))", ".Where(lambda e: e.met > 1)", ".Select(lambda e: e.met).Max()",
     ".Count()",
     ".Select(lambda e: e.met).Max() - 1", ".Select(lambda e: 'x')"],
)  # fmt: skip
def test_no_rows_have_the_type_of_some(query: str) -> None:
    output = bound(query)
    some, none = run(output), empty_rows(output)
    assert len(none) == 0
    assert str(none.type.content) == str(some.type.content)
    assert str(run(output, 0).type.content) == str(some.type.content)


def test_padding_gives_options_whatever_lists_a_cut_leaves() -> None:
    output = bound_raw(expressions=["pad_none(el, 0, clip=False)"], cut="met > 1")

    (padded,) = ak.unzip(run(output))

    assert str(padded.type) == "2 * var * ?float64"
    assert output.schema == {"pad_none(el, 0, clip=False)": from_awkward(padded.type.content)}


def test_an_extreme_of_no_rows_is_one_missing_row() -> None:
    assert run(bound(".Select(lambda e: e.met).Max()"), 0).to_list() == []
    assert (
        run(bound_raw(expressions="met - max(met, axis=None)"), 0)["met - max(met, axis=None)"].to_list()
        == []
    )


def test_input_arrays_are_not_changed() -> None:
    before = {name: array.to_list() for name, array in COLUMNS.items()}
    run(bound(".Where(lambda e: e.met > 1)"))
    assert {name: array.to_list() for name, array in COLUMNS.items()} == before


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (".Select(lambda e: e.mu.First())", "First (at character"),
        (".Select(lambda e: e.mu.ElementAt(7))", "no such element"),
        (".Select(lambda e: e.mu + e.el)", "'+' (at character"),
        (".Select(lambda e: {'a': e.mu, 'b': e.el}).Select(lambda r: r.a * r.b)", "'*' (at character"),
        (".Select(lambda e: e.tiny + 300)", "out of bounds"),
        (".Select(lambda e: Zip({'a': e.mu, 'b': e.el}))", "Zip (at character"),
    ],
)
def test_failures_name_the_construct_in_one_line(query: str, problem: str) -> None:
    with pytest.raises(QueryTypeError) as caught:
        run(bound(query))
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "expression",
    ["combinations(many, 6)", "argcombinations(many, 20)", "cartesian([many, many, many, many, many])",
     "argcartesian([many, many, many, many])", "pad_none(many, 1000000000)"],
)  # fmt: skip
def test_combinatorial_explosions_are_refused_before_they_happen(expression: str) -> None:
    with pytest.raises(ResourceExhausted, match="GiB are allowed"):
        run(bound_raw(expressions=expression))


def test_nested_loops_are_bounded_too() -> None:
    body = "a + b + c + d + f"
    for name in "abcdf":
        body = f"e.many.Select(lambda {name}: {body})"
    with pytest.raises(ResourceExhausted, match="GiB are allowed"):
        run(bound(f".Select(lambda e: {body})"))


def test_repeated_doubling_is_bounded() -> None:
    query = "e.many"
    for _ in range(25):
        query = f"(lambda x: x.Concat(x))({query})"
    with pytest.raises(ResourceExhausted):
        run(bound(f".Select(lambda e: {query})"), max_bytes=1 << 22)


def test_the_bound_is_an_argument() -> None:
    with pytest.raises(ResourceExhausted):
        run(bound(".Select(lambda e: e.many * 2)"), max_bytes=100)


def test_a_value_used_often_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "np.sqrt(e.met)"
    for _ in range(40):
        body = f"(lambda x: x + x)({body})"
    output = bound(f".Select(lambda e: {body})")
    calls: list[Any] = []
    sqrt = np.sqrt

    def counted(value: Any) -> Any:
        calls.append(value)
        return sqrt(value)

    monkeypatch.setattr(np, "sqrt", counted)
    assert run(output).to_list()[0] == 2.0**40
    assert len(calls) == 1
