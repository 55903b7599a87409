"""Rows that wait to be written hold no more memory than they need."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.held import let_go, let_go_rows
from servicex_server.run.write.open import new_result

N = 10_000


def few_of_many(kind: str, part: slice) -> tuple[ak.Array, list[weakref.ref[Any]]]:
    """Rows that are views of much larger memory, and what tells whether that is still held."""
    # One piece of memory for two columns, as the reader allocates it.
    room = np.arange(2 * N, dtype=np.float64)
    flat = {"x": room[:N], "y": room[N:]}
    letters = np.full(N, ord("a"), np.uint8)
    content: Any = ak.contents.NumpyArray(room[:N])
    match kind:
        case "flat":
            rows = ak.Array({name: values[part] for name, values in flat.items()})
        case "lists":
            offsets = ak.index.Index64(np.arange(0, N + 1, 2))
            rows = ak.Array({"x": ak.Array(ak.contents.ListOffsetArray(offsets, content))[part]})
        case "text":
            characters = ak.contents.NumpyArray(letters, parameters={"__array__": "char"})
            offsets = ak.index.Index64(np.arange(0, N + 1, 2))
            texts = ak.contents.ListOffsetArray(offsets, characters, parameters={"__array__": "string"})
            rows = ak.Array({"x": ak.Array(texts)[part]})
        case _:
            # Records that may be missing: ours does not encode them, pyarrow does.
            record = ak.contents.RecordArray([content], ["a"])
            maybe = ak.contents.IndexedOptionArray(ak.index.Index64(np.arange(N)), record)
            rows = ak.Array({"x": ak.Array(maybe)[part]})
    return rows, [weakref.ref(room), weakref.ref(letters)]


FORMATS = (ResultFormat.PARQUET, ResultFormat.ARROW, ResultFormat.HDF5)
CASES = [
    (kind, result_format)
    for kind in ("flat", "lists", "text", "maybe_record")
    for result_format in FORMATS
    if (kind, result_format) != ("maybe_record", ResultFormat.HDF5)  # it cannot hold these
]


@pytest.mark.parametrize(("kind", "result_format"), CASES)
def test_a_few_rows_do_not_hold_the_chunk_that_they_are_of(
    kind: str, result_format: ResultFormat, tmp_path: Path
) -> None:
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    rows, _ = few_of_many(kind, slice(0, 0))
    schema = schema_of(rows)
    with new_result(tmp_path / "out", result_format) as writer:
        writer.begin(BoundOutput("in", "t", (), (), nothing, schema), rows)
        rows, memory = few_of_many(kind, slice(100, 103))
        writer.write(writer.encode(rows))
        del rows
        gc.collect()
        assert all(held() is None for held in memory)


def test_what_is_used_stays_where_it_is() -> None:
    room = np.arange(100)
    halves = {"x": room[:50], "y": room[50:90]}
    kept = let_go(halves)
    assert all(kept[name] is halves[name] for name in halves)
    rows = ak.Array(room)
    assert np.shares_memory(ak.to_numpy(let_go_rows(rows)), room)


def test_views_of_the_same_values_get_one_copy() -> None:
    room = np.arange(1000)
    kept = let_go({"x": room[5:10], "y": room[5:10], "z": room[20:22]})
    assert kept["x"] is kept["y"]
    assert kept["x"].tolist() == [5, 6, 7, 8, 9]
    assert kept["z"].base is None


def test_bytes_are_memory_too() -> None:
    data = bytes(range(200))
    kept = let_go(
        {"x": np.frombuffer(data, np.uint8)[:3], "y": np.frombuffer(memoryview(data), np.uint8)[3:5]}
    )
    assert kept["x"].base is None
    assert kept["y"].tolist() == [3, 4]
