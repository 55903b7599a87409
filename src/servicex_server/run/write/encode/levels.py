"""Repetition and definition levels, made from offsets and masks.

Each slot of a column is a value, or says why there is none: an empty list or something missing further
out. Its definition level counts the lists and options on the way to the value that are there; its
repetition level says how many lists go on from the slot before, 0 for the first slot of a row.

The encoding: https://github.com/apache/parquet-format/blob/master/Encodings.md#RLE
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from servicex_server.run.write.encode.thrift import to_varint

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PageLevels:
    """The levels of one page, and which part of its column it is.

    Attributes:
        n_rows: rows of the page.
        n_slots: levels in the page; what the format calls its number of values.
        start, stop: the values that are there, counted from the first of the column.
        repetition, definition: encoded levels; empty where the only level is 0.
    """

    n_rows: int
    n_slots: int
    start: int
    stop: int
    repetition: bytes
    definition: bytes


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of all slots at one depth of the schema.

    Attributes:
        n_rows: rows of the table.
        n_slots: slots at this depth.
        max_repetition, max_definition: levels of a value that is there, at this depth.
        repetition: shape (n_slots,); None if all are 0.
        definition: shape (n_slots,); None if all are `max_definition`, which is to say nothing is missing.
    """

    n_rows: int
    n_slots: int
    max_repetition: int = 0
    max_definition: int = 0
    repetition: Bytes | None = None
    definition: Bytes | None = None
    _pages: dict[int, tuple[PageLevels, ...]] = field(default_factory=dict)

    @property
    def n_present(self) -> int:
        """Slots in which nothing is missing up to this depth."""
        return self.n_slots if self.definition is None else int(np.count_nonzero(self._present()))

    @property
    def n_bytes(self) -> int:
        return sum(part.nbytes for part in (self.repetition, self.definition) if part is not None)

    def _present(self) -> npt.NDArray[np.bool_]:
        return np.equal(self.definitions(), self.max_definition)

    def definitions(self) -> Bytes:
        """The definition levels, shape (n_slots,)."""
        if self.definition is None:
            return np.full(self.n_slots, self.max_definition, np.uint8)
        return self.definition

    def option(self, valid: npt.NDArray[np.bool_] | None) -> Levels:
        """One level deeper, into an option.

        Args:
            valid: shape (n_present,), False where the value is missing; None if none is.
        """
        deeper = self.max_definition + 1
        definition: Bytes | None
        if self.definition is None:
            definition = None if valid is None else np.add(valid, self.max_definition, dtype=np.uint8)
        else:
            definition = self.definition.copy()
            present = self._present()
            definition[present] = deeper if valid is None else self.max_definition + valid.astype(np.uint8)
        return Levels(self.n_rows, self.n_slots, self.max_repetition, deeper, self.repetition, definition)

    def lists(self, offsets: Offsets) -> Levels:
        """One level deeper, into lists.

        Args:
            offsets: shape (n_present + 1,); the lists' content lies between neighbouring ones.
        """
        lengths = np.diff(offsets)
        empty = lengths == 0
        n_empty = int(np.count_nonzero(empty))
        if self.definition is not None:
            return self._lists_of_some(lengths, empty)
        starts = offsets[:-1]
        if offsets[0]:
            starts = starts - offsets[0]
        n_slots = int(offsets[-1] - offsets[0]) + n_empty
        if not n_empty:
            return self._deeper(n_slots, starts, None)
        # An empty list has a slot, too, which moves those after it.
        before = np.cumsum(empty)
        before -= empty
        starts = starts + before
        definition = np.full(n_slots, self.max_definition + 1, np.uint8)
        definition[starts[empty]] = self.max_definition
        return self._deeper(n_slots, starts, definition)

    def _lists_of_some(self, lengths: Offsets, empty: npt.NDArray[np.bool_]) -> Levels:
        present = self._present()
        counts = np.ones(self.n_slots, np.int64)
        counts[present] = np.maximum(lengths, 1)
        ends = np.cumsum(counts)
        starts = ends - counts
        definition = np.full(int(ends[-1]) if len(ends) else 0, self.max_definition + 1, np.uint8)
        definition[starts[~present]] = self.definitions()[~present]
        definition[starts[present][empty]] = self.max_definition
        return self._deeper(len(definition), starts, definition)

    def _deeper(self, n_slots: int, starts: Offsets, definition: Bytes | None) -> Levels:
        repetition = np.full(n_slots, self.max_repetition + 1, np.uint8)
        repetition[starts] = 0 if self.repetition is None else self.repetition
        return Levels(
            self.n_rows, n_slots, self.max_repetition + 1, self.max_definition + 1, repetition, definition
        )

    def pages(self, most_slots: int) -> tuple[PageLevels, ...]:
        """The levels in pages of about `most_slots`, made once; at least one page, and whole rows in each."""
        if most_slots not in self._pages:
            self._pages[most_slots] = tuple(self._page_by_page(most_slots))
        return self._pages[most_slots]

    def _page_by_page(self, most_slots: int) -> list[PageLevels]:
        pages: list[PageLevels] = []
        start = 0
        for (first_row, first), (last_row, last) in self._cuts(most_slots):
            definition = None if self.definition is None else self.definition[first:last]
            if definition is None:
                n_present = last - first
            else:
                n_present = int(np.count_nonzero(definition == self.max_definition))
            repetition = None if self.repetition is None else self.repetition[first:last]
            pages.append(
                PageLevels(
                    last_row - first_row,
                    last - first,
                    start,
                    start + n_present,
                    _encode(repetition, last - first, self.max_repetition, at=0),
                    _encode(definition, last - first, self.max_definition, at=self.max_definition),
                )
            )
            start += n_present
        return pages

    def _cuts(self, most_slots: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """First and last edge of each page, as row and slot."""
        edges = [(0, 0)]
        if self.n_slots > most_slots:
            if self.repetition is None:
                edges += [(slot, slot) for slot in range(most_slots, self.n_slots, most_slots)]
            else:
                starts = np.flatnonzero(self.repetition == 0)
                row = 0
                while (wanted := int(starts[row]) + most_slots) < self.n_slots:
                    # A row of more slots than a page should have makes a page of its own.
                    row = max(row + 1, int(np.searchsorted(starts, wanted, "right")) - 1)
                    if row == self.n_rows:
                        break
                    edges.append((row, int(starts[row])))
        edges.append((self.n_rows, self.n_slots))
        return list(itertools.pairwise(edges))


def concatenate_levels(parts: list[Levels]) -> Levels:
    """The levels of several chunks, one after the other, all at the same depth."""
    first = parts[0]
    if len(parts) == 1:
        return first
    repetition = definition = None
    if first.max_repetition:
        repetition = np.concatenate([part.repetition for part in parts if part.repetition is not None])
    if any(part.definition is not None for part in parts):
        definition = np.concatenate([part.definitions() for part in parts])
    return Levels(
        sum(part.n_rows for part in parts),
        sum(part.n_slots for part in parts),
        first.max_repetition,
        first.max_definition,
        repetition,
        definition,
    )


def _encode(levels: Bytes | None, length: int, highest: int, *, at: int) -> bytes:
    """Levels in the format's mixture of runs and packed bits.

    Args:
        at: the level of all, if there is no array.
    """
    if not (highest and length):
        return b""
    width = highest.bit_length()
    if levels is None:
        return encode_run(at, length, width)
    lowest = int(levels.min())
    if lowest == levels.max():
        return encode_run(lowest, length, width)
    return encode_packed(levels, width)


def encode_run(value: int, length: int, width: int) -> bytes:
    """One value so many times.

    >>> encode_run(1, 1000, 1).hex()
    'd00f01'
    """
    return to_varint(length << 1) + value.to_bytes((width + 7) // 8, "little")


def encode_packed(values: npt.NDArray[Any], width: int) -> bytes:
    """Values of `width` bits each, the lowest bits first, filled up to a multiple of eight values.

    Args:
        width: 1 to 8 for bytes, 16 for uint16.

    >>> encode_packed(np.arange(8, dtype=np.uint8), 3).hex()
    '0388c6fa'
    """
    n_groups = (len(values) + 7) // 8
    head = to_varint(n_groups << 1 | 1)
    if width == 1:
        return head + np.packbits(values, bitorder="little").tobytes()
    if len(values) % 8:
        values = np.concatenate([values, np.zeros(8 * n_groups - len(values), values.dtype)])
    if width == 8 * values.itemsize:
        return head + values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    return head + _pack(values, n_groups, width).tobytes()


def _pack(values: npt.NDArray[Any], n_groups: int, width: int) -> Bytes:
    if width in (2, 4):
        # Two or four values make a byte.
        columns = values.reshape(-1, 8 // width)
        packed = columns[:, 0].copy()
        for place in range(1, 8 // width):
            packed |= columns[:, place] << np.uint8(place * width)
        return packed
    groups = values.reshape(-1, 8)
    words = np.zeros(n_groups, np.dtype("<u8"))
    for place in range(8):
        words |= groups[:, place].astype(np.uint64) << np.uint64(place * width)
    return np.ascontiguousarray(words.view(np.uint8).reshape(-1, 8)[:, :width]).reshape(-1)
