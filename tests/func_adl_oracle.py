"""func_adl_uproot on arrays in memory, and our own answer to the same query text."""

from __future__ import annotations

import warnings
from typing import Any

import awkward as ak
import numpy as np
import pytest
import qastle
import uproot

from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.types import Type, without_names
from servicex_server.run.filter import evaluate, from_awkward

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import dask
    import dask_awkward
    import func_adl_uproot


def to_text(python: str) -> str:
    """The text form of a query: `events` stands for the data set."""
    if python.startswith("("):
        return python
    body = python.removeprefix("events")
    text: str = qastle.python_source_to_text_ast(f"EventDataset('f.root', 'Events'){body}")
    return text


def theirs(text: str, rows: ak.Array) -> ak.Array:
    """What the package gives for a table of these rows; bare numbers and records as arrays of one."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        patch.setattr(uproot, "dask", lambda *_, **__: dask_awkward.from_awkward(rows, 1))
        with dask.config.set(scheduler="synchronous"):
            value = func_adl_uproot.generate_function(text)("f.root", "Events")
    return plain(as_rows(value))


def ours(text: str, rows: ak.Array, *, n_chunks: int = 1) -> tuple[ak.Array, BoundOutput]:
    """Our answer, evaluated in so many parts if that is allowed, and the plan."""
    columns = {name: rows[name] for name in rows.fields}
    types = {name: from_awkward(column.type.content) for name, column in columns.items()}
    (output,) = bind(parse("uproot", text), MemoryFile((MemoryTree("Events", types),))).outputs
    n_chunks = n_chunks if output.is_chunkable else 1
    edges = [len(rows) * i // n_chunks for i in range(n_chunks + 1)]
    parts = [
        evaluate(output, {name: columns[name][start:stop] for name in output.columns})
        for start, stop in zip(edges, edges[1:], strict=False)
    ]
    return parts[0] if len(parts) == 1 else ak.concatenate(parts), output


def as_rows(value: Any) -> ak.Array:
    """An array; of a bare number or record an array of one."""
    if isinstance(value, ak.Array):
        return value
    if isinstance(value, ak.Record):
        return ak.Array(value.layout.array[value.layout.at : value.layout.at + 1])
    return ak.Array(np.array([value]))


def plain(array: ak.Array) -> ak.Array:
    """The array with its vectors as plain records, as results are written."""

    def rename(layout: Any, continuation: Any = None, **_: object) -> Any:
        if not layout.is_record:
            return None
        record = continuation()
        return ak.contents.RecordArray(
            record.contents, None if record.is_tuple else record.fields, record.length
        )

    return ak.transform(rename, ak.Array(array.layout))


def assert_same(result: ak.Array, expected: ak.Array) -> None:
    """Equal values, of equal types."""
    assert str(result.type) == str(expected.type)
    assert ak.array_equal(result, expected, equal_nan=True, dtype_exact=True, check_parameters=False)


def assert_schema_fits(output: BoundOutput, result: ak.Array) -> None:
    """The types that were known before reading are those of the result."""
    names = [""] if output.is_unnamed else result.fields
    got: dict[str, Type] = {
        name: without_names(from_awkward((result[name] if name else result).type.content)) for name in names
    }
    assert dict(output.schema) == got
