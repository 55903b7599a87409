"""From one awkward array of rows to columns: levels and the values that are there.

Levels are made once for all columns that share offsets or masks. Which do is told by the place of these
in memory: the reader gives all columns of a collection the very same offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import offsets_of
from servicex_server.run.write.encode.levels import Levels, concatenate_levels
from servicex_server.run.write.encode.schema import (
    Content,
    FileSchema,
    LeafNode,
    ListNode,
    Node,
    RecordNode,
)
from servicex_server.run.write.held import let_go

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Text:
    """Strings of bytes.

    Attributes:
        offsets: int64, shape (n + 1,), from 0 to the length of `data`.
        data: uint8.
    """

    offsets: npt.NDArray[np.int64]
    data: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return self.offsets.nbytes + self.data.nbytes

    def __getitem__(self, part: slice) -> Text:
        offsets = self.offsets[part.start : part.stop + 1]
        return Text(offsets - offsets[0], self.data[offsets[0] : offsets[-1]])


Values = Array | Text


@dataclass(frozen=True, slots=True)
class Column:
    """All of a column in one chunk; `values` holds those that are there."""

    leaf: LeafNode
    levels: Levels
    values: Values


def shred(rows: ak.Array, schema: FileSchema) -> list[Column]:
    """The columns of a table.

    Raises:
        TypeError: the rows are not of the types of the schema.
    """
    layout = _without_index(rows.layout)
    shredder = _Shredder()
    levels = Levels(layout.length, layout.length)
    shredder.add(schema.root.contents[0] if schema.is_unnamed else schema.root, layout, levels)
    return shredder.columns


def compact(columns: Sequence[Column]) -> list[Column]:
    """The same columns, in memory that is not much larger than they are."""
    arrays: dict[tuple[int, str], Array] = {}
    for number, column in enumerate(columns):
        if isinstance(column.values, Text):
            arrays[number, "offsets"], arrays[number, "data"] = column.values.offsets, column.values.data
        else:
            arrays[number, "data"] = column.values
    kept = let_go(arrays)
    return [
        replace(
            column,
            values=Text(kept[number, "offsets"], kept[number, "data"])
            if isinstance(column.values, Text)
            else kept[number, "data"],
        )
        for number, column in enumerate(columns)
    ]


def n_bytes(columns: Sequence[Column]) -> int:
    """Bytes of all values and levels in memory."""
    levels = {id(column.levels): column.levels.n_bytes for column in columns}
    return sum(column.values.nbytes for column in columns) + sum(levels.values())


def concatenate(chunks: Sequence[Sequence[Column]]) -> list[Column]:
    """The columns of several chunks, one after the other."""
    if len(chunks) == 1:
        return list(chunks[0])
    joined: dict[tuple[int, ...], Levels] = {}
    columns: list[Column] = []
    for parts in zip(*chunks, strict=True):
        key = tuple(id(part.levels) for part in parts)
        if key not in joined:
            joined[key] = concatenate_levels([part.levels for part in parts])
        columns.append(
            Column(parts[0].leaf, joined[key], _concatenate_values([part.values for part in parts]))
        )
    return columns


def _concatenate_values(parts: Sequence[Values]) -> Values:
    if isinstance(parts[0], Text):
        texts = [part for part in parts if isinstance(part, Text)]
        lengths = np.concatenate([np.diff(text.offsets) for text in texts])
        return Text(offsets_of(lengths), np.concatenate([text.data for text in texts]))
    return np.concatenate([part for part in parts if not isinstance(part, Text)])


class _Shredder:
    """Walks down the schema and the layout of the array together."""

    def __init__(self) -> None:
        self.columns: list[Column] = []
        # The levels below some levels, by what leads there: an array's place in memory, or a size.
        self._deeper: dict[tuple[object, ...], tuple[Levels, object]] = {}

    def add(self, node: Node, layout: Any, levels: Levels) -> None:
        """Adds the columns of a node.

        Args:
            layout: one item for each slot of `levels` in which nothing is missing.
        """
        layout = _without_index(layout)
        if node.is_optional:
            layout, levels = self._into_option(layout, levels)
            layout = _without_index(layout)
        elif layout.is_option:
            message = f"{_name(node)}: values may be missing, but not in the first chunk"
            raise TypeError(message)
        match node:
            case RecordNode():
                self._add_record(node, layout, levels)
            case ListNode():
                self._add_lists(node, layout, levels)
            case LeafNode(content=Content.NUMBERS):
                self.columns.append(Column(node, levels, _numbers(node, layout)))
            case LeafNode(content=Content.TEXT):
                self.columns.append(Column(node, levels, _text(node, layout)))
            case LeafNode(content=Content.NOTHING):
                if layout.length:
                    raise _misfit(node, layout)
                self.columns.append(Column(node, levels, np.empty(0, "<i4")))

    def _add_record(self, node: RecordNode, layout: Any, levels: Levels) -> None:
        if not isinstance(layout, ak.contents.RecordArray) or tuple(layout.fields) != node.names:
            raise _misfit(node, layout)
        for content_node, content in zip(node.contents, layout.contents, strict=True):
            # A record's fields may be longer than the record itself.
            self.add(content_node, _cut(content, 0, layout.length), levels)

    def _add_lists(self, node: ListNode, layout: Any, levels: Levels) -> None:
        if isinstance(layout, ak.contents.NumpyArray) and layout.data.ndim > 1:
            layout = layout.to_RegularArray()
        if isinstance(layout, ak.contents.RegularArray):
            size = layout.size
            if node.size not in (None, size):
                raise _misfit(node, layout)
            key: tuple[object, ...] = (id(levels), "regular", size)
            if key not in self._deeper:
                offsets = np.arange(layout.length + 1, dtype=np.int64) * size
                self._deeper[key] = levels.lists(offsets), None
            self.add(node.content, _cut(layout.content, 0, size * layout.length), self._deeper[key][0])
            return
        if isinstance(layout, ak.contents.ListArray):
            layout = layout.to_ListOffsetArray64(True)
        if not isinstance(layout, ak.contents.ListOffsetArray) or node.size is not None or _is_text(layout):
            raise _misfit(node, layout)
        offsets = layout.offsets.data
        key = (id(levels), "lists", *_place(offsets))
        if key not in self._deeper:
            self._deeper[key] = levels.lists(offsets.astype(np.int64, copy=False)), offsets
        content = _cut(layout.content, int(offsets[0]), int(offsets[-1]))
        self.add(node.content, content, self._deeper[key][0])

    def _into_option(self, layout: Any, levels: Levels) -> tuple[Any, Levels]:
        if not layout.is_option or isinstance(layout, ak.contents.UnmaskedArray):
            key: tuple[object, ...] = (id(levels), "unmasked")
            if key not in self._deeper:
                self._deeper[key] = levels.option(None), None
            return layout.content if layout.is_option else layout, self._deeper[key][0]
        mask = layout.index.data if isinstance(layout, ak.contents.IndexedOptionArray) else layout.mask.data
        kind = type(layout), getattr(layout, "valid_when", None), getattr(layout, "lsb_order", None)
        key = (id(levels), kind, layout.length, *_place(mask))
        if key not in self._deeper:
            self._deeper[key] = levels.option(layout.mask_as_bool(valid_when=True)), mask
        return layout.project(), self._deeper[key][0]


def _place(array: Array) -> tuple[object, ...]:
    """What two views of the same items have in common."""
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _cut(layout: Any, start: int, stop: int) -> Any:
    return layout if start == 0 and stop == layout.length else layout[start:stop]


def _without_index(layout: Any) -> Any:
    while isinstance(layout, ak.contents.IndexedArray):
        layout = layout.project()
    return layout


def _is_text(layout: Any) -> bool:
    return layout.parameter("__array__") in ("string", "bytestring")


def _numbers(node: LeafNode, layout: Any) -> Array:
    if isinstance(layout, ak.contents.EmptyArray) and node.dtype is not None:
        return np.empty(0, node.dtype)
    if not isinstance(layout, ak.contents.NumpyArray):
        raise _misfit(node, layout)
    data: Array = np.asarray(layout.data)
    if data.dtype.newbyteorder("=") != node.dtype or data.ndim != 1:
        raise _misfit(node, layout)
    return np.ascontiguousarray(data, dtype=node.dtype)


def _text(node: LeafNode, layout: Any) -> Text:
    if isinstance(layout, ak.contents.EmptyArray):
        return Text(np.zeros(1, np.int64), np.empty(0, np.uint8))
    is_list = isinstance(
        layout, ak.contents.ListOffsetArray | ak.contents.ListArray | ak.contents.RegularArray
    )
    if not is_list or not _is_text(layout):
        raise _misfit(node, layout)
    layout = layout.to_ListOffsetArray64(True)
    offsets = layout.offsets.data
    return Text(offsets, np.ascontiguousarray(layout.content.data[: offsets[-1]]))


def _name(node: Node) -> str:
    while not isinstance(node, LeafNode):
        node = node.contents[0] if isinstance(node, RecordNode) else node.content
    return node.name


def _misfit(node: Node, layout: Any) -> TypeError:
    message = f"{_name(node)}: a chunk holds {layout.form.type}, which is not the type of the first chunk"
    return TypeError(message)
