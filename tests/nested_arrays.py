"""Arrays of all the types that results may have, for the tests of formats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from hypothesis import strategies as st

from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.types import Type
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.open import new_result

JAGGED = ak.values_astype(ak.Array([[1.0, 2.0], [], [3.0]]), "float32")
COLUMNS: Mapping[str, ak.Array] = {
    "number": ak.Array(np.array([1, 2, 3], dtype="u2")),
    "half": ak.Array(np.array([1, 2, 3], dtype="f2")),
    "flag": ak.Array([True, False, True]),
    "jagged": JAGGED,
    "flags": JAGGED > 1,
    "fixed": ak.Array(np.arange(6, dtype="f4").reshape(3, 2)),
    "matrices": ak.Array(np.arange(18, dtype="f4").reshape(3, 2, 3)),
    "fixed_jagged": ak.unflatten(ak.Array(np.arange(6, dtype="f4").reshape(3, 2)), [2, 0, 1]),
    "text": ak.Array(["a", "", "žluť"]),
    "texts": ak.Array([["a"], [], ["b", "c"]]),
    "fixed_texts": ak.to_regular(ak.Array([["a", "b"], ["", "d"], ["e", "f"]]), axis=1),
    "record": ak.Array([{"a": 1, "b": 2.0}] * 3),
    "records": ak.zip({"pt": JAGGED, "eta": JAGGED * 2}),
    "lists_record": ak.zip({"pt": JAGGED, "eta": JAGGED}, depth_limit=1),
    "tuple": ak.Array([(1, 2.0)] * 3),
    "nested": ak.Array([[[1, 2]], [], [[], [3]]]),
    "maybe": ak.firsts(JAGGED),
    "maybes": ak.Array([[1, None], [], [2]]),
    "maybe_text": ak.Array(["a", None, "c"]),
    "maybe_list": ak.mask(JAGGED, [True, False, False]),
    "maybe_fixed": ak.mask(ak.Array(np.arange(6, dtype="f4").reshape(3, 2)), [False, True, True]),
    "maybe_record": ak.Array([{"a": 1, "b": [1.5]}, None, {"a": 2, "b": []}]),
    "maybe_in_maybe_record": ak.Array([{"a": None}, None, {"a": 2}]),
    "all_missing": ak.mask(ak.Array([1.5, 2.5, 3.5]), [False, False, False]),
    "nothing": ak.Array([[], [], []]),
    "union": ak.Array([1, "a", [2]]),
    "complex": ak.Array(np.array([1j, 2, 3])),
}
_NAMES = ("x", "y_1", "Muon.pt", "é")


def bound_output(
    schema: Mapping[str, Type], output_tree: str = "servicex", treename_column: str | None = None
) -> BoundOutput:
    """An output with what writers look at: names and types."""
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    return BoundOutput("in", output_tree, (), (), nothing, schema, treename_column=treename_column)


def write(
    path: Path, result_format: ResultFormat, chunks: Sequence[ak.Array], output: BoundOutput | None = None
) -> None:
    """Writes a result file of one table."""
    with new_result(path, result_format) as writer:
        writer.begin(output or bound_output(schema_of(chunks[0])), chunks[0][:0])
        for chunk in chunks:
            writer.write(writer.encode(chunk))


def same(one: ak.Array, other: ak.Array) -> bool:
    """Whether type and values are equal."""
    return str(one.type) == str(other.type) and ak.to_list(one) == ak.to_list(other)


def _types() -> st.SearchStrategy[str]:
    """Types of one row, as awkward writes them."""
    plain = st.sampled_from(
        ["int64", "int8", "uint16", "float32", "float64", "bool", "string", "3 * float32"]
    )

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        names = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)
        return st.one_of(
            inner.map(lambda kind: f"var * {kind}"),
            inner.map(lambda kind: kind if kind.startswith("option[") else f"option[{kind}]"),
            names.flatmap(
                lambda fields: st.tuples(*[inner] * len(fields)).map(
                    lambda kinds: "{" + ", ".join(map(": ".join, zip(fields, kinds, strict=True))) + "}"
                )
            ),
        )

    return st.recursive(plain, grow, max_leaves=4)


def _values(kind: Any) -> st.SearchStrategy[object]:
    """Python values of an awkward type."""
    match kind:
        case ak.types.NumpyType(primitive="bool"):
            return st.booleans()
        case ak.types.NumpyType(primitive=primitive) if primitive.startswith("float"):
            return st.floats(allow_nan=False, width=32)
        case ak.types.NumpyType(primitive=primitive):
            return st.integers(0, 127)
        case ak.types.OptionType(content=content):
            return st.none() | _values(content)
        case ak.types.ListType() if kind.parameters.get("__array__") == "string":
            return st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4)
        case ak.types.ListType(content=content):
            return st.lists(_values(content), max_size=3)
        case ak.types.RegularType(content=content, size=size):
            return st.lists(_values(content), min_size=size, max_size=size)
        case ak.types.RecordType(fields=fields, contents=contents):
            return st.fixed_dictionaries(
                {name: _values(content) for name, content in zip(fields, contents, strict=True)}
            )
    message = f"no values for {kind}"
    raise TypeError(message)


@st.composite
def tables(draw: st.DrawFn) -> ak.Array:
    """Tables of up to six rows with columns of any type that each format holds."""
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True))
    columns = {}
    n_rows = draw(st.integers(0, 6))
    for name in names:
        kind = ak.types.from_datashape(draw(_types()), highlevel=False)
        rows = draw(st.lists(_values(kind), min_size=n_rows, max_size=n_rows))
        columns[name] = _build(kind, rows)
    return ak.Array(ak.contents.RecordArray(list(columns.values()), list(columns), n_rows))


def _build(kind: Any, rows: Sequence[Any]) -> Any:
    """The layout of that type with those values (`ak.from_iter` guesses types, wrongly of empty lists)."""
    match kind:
        case ak.types.NumpyType(primitive=primitive):
            return ak.contents.NumpyArray(np.array(rows, dtype=primitive))
        case ak.types.OptionType(content=content):
            there = [row is not None for row in rows]
            index = np.where(there, np.cumsum(there) - 1, -1).astype(np.int64)
            inner = _build(content, [row for row in rows if row is not None])
            return ak.contents.IndexedOptionArray(ak.index.Index64(index), inner)
        case ak.types.RecordType(fields=fields, contents=contents):
            columns = [
                _build(content, [row[name] for row in rows])
                for name, content in zip(fields, contents, strict=True)
            ]
            return ak.contents.RecordArray(columns, fields, len(rows))
        case ak.types.RegularType(content=content, size=size):
            inner = _build(content, [value for row in rows for value in row])
            return ak.contents.RegularArray(inner, size, len(rows))
    is_text = kind.parameters.get("__array__") == "string"
    lists = [row.encode() for row in rows] if is_text else rows
    offsets = ak.index.Index64(np.cumsum([0, *map(len, lists)], dtype=np.int64))
    if is_text:
        characters = np.frombuffer(b"".join(lists), np.uint8)
        inner = ak.contents.NumpyArray(characters, parameters={"__array__": "char"})
        return ak.contents.ListOffsetArray(offsets, inner, parameters={"__array__": "string"})
    return ak.contents.ListOffsetArray(
        offsets, _build(kind.content, [value for row in lists for value in row])
    )
