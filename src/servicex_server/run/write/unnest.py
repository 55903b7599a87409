"""Nested arrays taken apart into plain columns: what a format of rectangular datasets can hold.

The columns of a type, in order, are: the numbers themselves; for lists their ends, then what is in them; for
values that may be missing whether they are there, then the values, with zeros and empty lists in the gaps;
for records the columns of each field.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from servicex_server.errors import FormatError
from servicex_server.plan.types import Bool, List, Number, Option, Record, Type
from servicex_server.run.write.canonical import to_canonical

CONTENT, OFFSETS, VALID = "content", "offsets", "valid"


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one plain column.

    Attributes:
        path: names that lead to it, from the outside to the inside.
        values: numpy array with one row per entry of the first axis; bytes objects for text.
        is_offsets: the values are ends of lists, counted from the start of this piece.
    """

    path: tuple[str, ...]
    values: Any
    is_offsets: bool = False


def unnest(columns: Mapping[str, ak.Array]) -> list[Piece]:
    """The plain columns of a table.

    Raises:
        FormatError: a text holds a NUL character.
    """
    return [
        piece for name, array in columns.items() for piece in _unnest(to_canonical(array).layout, (name,))
    ]


def groups(schema: Mapping[str, Type]) -> dict[tuple[str, ...], str]:
    """The kind of each nesting ("list", "option", "record", "tuple") by the path that leads to it."""
    return {path: kind for name, column in schema.items() for path, kind in _groups(column, (name,))}


def is_dense(kind: Type) -> bool:
    """Whether the values are numbers, or arrays of one shape of numbers."""
    while isinstance(kind, List) and kind.size:
        kind = kind.content
    return isinstance(kind, Number | Bool)


def _groups(kind: Type, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    match kind:
        case List(content=content) if not is_dense(kind):
            yield path, "list"
            yield from _groups(content, (*path, CONTENT))
        case Option(content=content):
            yield path, "option"
            yield from _groups(content, (*path, CONTENT))
        case Record(fields=fields):
            yield path, "tuple" if kind.is_tuple else "record"
            for name, content in fields:
                yield from _groups(content, (*path, name))


def _unnest(layout: Any, path: tuple[str, ...]) -> Iterator[Piece]:
    if layout.is_option:
        index = layout.index.data
        valid = index >= 0
        yield Piece((*path, VALID), valid)
        there = to_canonical(ak.Array(layout.project())).layout
        yield from _unnest(with_gaps(there, valid), (*path, CONTENT))
    elif layout.is_record:
        for name, content in zip(layout.fields, layout.contents, strict=True):
            yield from _unnest(content, (*path, name))
    elif layout.is_list and layout.parameter("__array__") == "string":
        yield Piece(path, _texts(layout.to_ListOffsetArray64(True), path))
    elif (dense := _dense(layout)) is not None:
        yield Piece(path, dense)
    else:
        lists = layout.to_ListOffsetArray64(True)
        offsets = lists.offsets.data
        yield Piece((*path, OFFSETS), offsets[1:], is_offsets=True)
        yield from _unnest(lists.content[: offsets[-1]], (*path, CONTENT))


def _dense(layout: Any) -> Any:
    """Numbers as a numpy array, with an axis for each list of fixed size; None if they are no such thing."""
    if layout.is_numpy:
        return layout.data
    if layout.is_regular and layout.size:
        content = _dense(layout.content[: layout.length * layout.size])
        return None if content is None else content.reshape(layout.length, layout.size, *content.shape[1:])
    return None


def _texts(lists: Any, path: tuple[str, ...]) -> Any:
    offsets = lists.offsets.data.tolist()
    content = lists.content.data[: offsets[-1]]
    if not content.all():
        # What HDF5 calls a string ends at a NUL.
        message = f"HDF5 cannot hold the text in {'.'.join(path)}: it has a NUL character"
        raise FormatError(message)
    data = content.tobytes()
    texts = np.empty(len(offsets) - 1, dtype=object)
    texts[:] = [data[start:stop] for start, stop in itertools.pairwise(offsets)]
    return texts


def with_gaps(layout: Any, valid: Any) -> Any:
    """As many rows as `valid` has: those of `layout` where it is true; zero, empty or missing elsewhere."""
    if layout.is_option:
        index = np.full(len(valid), -1, dtype=np.int64)
        index[valid] = layout.index.data
        return ak.contents.IndexedOptionArray(ak.index.Index64(index), layout.content)
    if layout.is_record:
        contents = [with_gaps(content, valid) for content in layout.contents]
        fields = None if layout.is_tuple else layout.fields
        return ak.contents.RecordArray(contents, fields, len(valid))
    if layout.is_numpy:
        numbers = np.zeros(len(valid), dtype=layout.data.dtype)
        numbers[valid] = layout.data
        return ak.contents.NumpyArray(numbers)
    if layout.is_regular and layout.parameter("__array__") is None:
        inner = with_gaps(layout.content[: layout.length * layout.size], np.repeat(valid, layout.size))
        return ak.contents.RegularArray(inner, layout.size, len(valid))
    lists = layout.to_ListOffsetArray64(True)
    offsets = np.zeros(len(valid) + 1, dtype=np.int64)
    offsets[1:][valid] = np.diff(lists.offsets.data)
    np.cumsum(offsets, out=offsets)
    return ak.contents.ListOffsetArray(ak.index.Index64(offsets), lists.content, parameters=layout.parameters)
