"""One layout per type, so that all chunks of a table look alike to an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak

from servicex_server.plan.plan import UNNAMED_COLUMN
from servicex_server.plan.types import Type
from servicex_server.run.read.form import to_type


def to_canonical(array: ak.Array) -> ak.Array:
    """The same values with 64-bit offsets, contiguous lists and one kind of option."""
    return ak.Array(_canonical(array.layout))


def schema_of(array: ak.Array) -> dict[str, Type]:
    """Name and type of each column; the single column "" for an array without field names."""
    form = array.layout.form
    if _is_table(array):
        return {name: to_type(form.content(name)) for name in form.fields}
    return {UNNAMED_COLUMN: to_type(form)}


def columns_of(array: ak.Array) -> Mapping[str, ak.Array]:
    """The columns of a table; the array itself under "" if it has no field names."""
    return {name: array[name] for name in array.fields} if _is_table(array) else {UNNAMED_COLUMN: array}


def _is_table(array: ak.Array) -> bool:
    # Lists of records have fields, too, but those are not columns.
    return bool(array.layout.is_record)


def _canonical(layout: Any) -> Any:
    match layout:
        case ak.contents.NumpyArray():
            return layout.to_RegularArray() if len(layout.shape) > 1 else layout
        case ak.contents.RecordArray():
            contents = [_canonical(content[: layout.length]) for content in layout.contents]
            return ak.contents.RecordArray(
                contents,
                layout.fields if not layout.is_tuple else None,
                layout.length,
                parameters=layout.parameters,
            )
        case ak.contents.RegularArray():
            return ak.contents.RegularArray(
                _canonical(layout.content), layout.size, layout.length, parameters=layout.parameters
            )
        case ak.contents.ListOffsetArray() | ak.contents.ListArray():
            lists = layout.to_ListOffsetArray64(True)
            content = lists.content[: lists.offsets[-1]]
            return ak.contents.ListOffsetArray(
                lists.offsets, _canonical(content), parameters=layout.parameters
            )
        case ak.contents.IndexedArray():
            return _canonical(layout.project())
    if layout.is_option:
        indexed = layout.to_IndexedOptionArray64()
        return ak.contents.IndexedOptionArray.simplified(
            indexed.index, _canonical(indexed.content), parameters=layout.parameters
        )
    return layout
