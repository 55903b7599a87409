"""The physical columns of a range of entries: which pages hold them, and their elements."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from servicex_server.run.offsets import Integers, offsets_of
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.decompress import Block, decompressor, split_blocks
from servicex_server.run.read.ntuple.envelope import CHECKSUM_BYTES, Pages
from servicex_server.run.read.ntuple.offsets import Lists
from servicex_server.run.read.ntuple.page import Bytes, Encoding, decode_page, page_bytes
from servicex_server.run.read.ntuple.shape import Column
from servicex_server.run.read.ntuple.spans import Spans, join_spans, touched_pages
from servicex_server.run.read.ntuple.tables import PageTable, PageTables
from servicex_server.run.read.rows import spread

Values = npt.NDArray[Any]

_ALIGNMENT = 64
_SPARE_BYTES = 256 * 1024 * 1024
_LARGEST_RATIO = 1000
"""Columns may be this many times larger than the file, and the spare bytes on top; beyond, it is a trap."""


@dataclass(frozen=True)
class PageSource:
    """Where the bytes of pages come from.

    Attributes:
        file: the bytes.
        checks: whether the checksums of pages are compared.
    """

    file: RangeSource
    checks: bool

    def places(self, pages: Pages) -> list[ByteRange]:
        """The bytes of pages, with the checksums after them if these are compared.

        Raises:
            ValueError: they are not in the file.
        """
        stops = pages["offset"] + pages["size_bytes"]
        if self.checks:
            stops += CHECKSUM_BYTES * pages["has_checksum"]
        if stops.max(initial=0) > self.file.num_bytes:
            message = f"a page ends at byte {stops.max()} of {self.file.num_bytes}"
            raise ValueError(message)
        return list(zip(pages["offset"].tolist(), stops.tolist(), strict=True))


@dataclass
class ColumnReader:
    """The elements of columns that belong to some entries. For one use.

    Attributes:
        tables: where the pages of the columns are.
        source: where their bytes come from.
        naming: turns an error about a column into one that names the field.
        values: the elements, of columns that are not offsets.
        offsets: the offsets (from 0, int64), of columns that are.
    """

    tables: PageTables
    source: PageSource
    naming: Callable[[Column], AbstractContextManager[None]]
    values: dict[Column, Values] = field(default_factory=dict)
    offsets: dict[Column, Integers] = field(default_factory=dict)
    _spans: dict[Column | None, Spans] = field(default_factory=dict)
    _fetched: dict[ByteRange, bytes | memoryview] = field(default_factory=dict)

    def read(self, columns: Iterable[Column], entries: Spans) -> None:
        """Fills `values` and `offsets`, both of the wanted entries only.

        Pages are fetched in one request if whole clusters are wanted. Else the offsets of a collection
        must be known first, and there is one request for each level of collections.
        """
        ordered = sorted(columns, key=lambda column: column.depth)
        tables = {}
        for column in ordered:
            with self.naming(column):
                tables[column] = self.tables.table(column)
        self._spans[None] = entries
        clusters = self._whole_clusters(entries)
        if clusters is not None:
            self._fetch(_pages_of_clusters(tables, *clusters))
        for depth in range(1 + max((column.depth for column in ordered), default=-1)):
            self._read_level({column: table for column, table in tables.items() if column.depth == depth})

    def places(self, columns: Iterable[Column], entries: Spans) -> list[ByteRange]:
        """What `read` asks for first, if these are whole clusters; else nothing, as it is not known yet."""
        clusters = self._whole_clusters(entries)
        if clusters is None:
            return []
        tables = {column: self.tables.table(column) for column in columns}
        return list(self._find_places(_pages_of_clusters(tables, *clusters)))

    def _whole_clusters(self, entries: Spans) -> tuple[int, int] | None:
        """The clusters `[first, last)`, if the entries are all of theirs."""
        if len(entries.starts) != 1:
            return None
        firsts = self.tables.metadata.first_entries
        edges = np.array([entries.starts[0], entries.stops[0]])
        first, last = np.searchsorted(firsts, edges).tolist()
        return (first, last) if np.array_equal(firsts[[first, last]], edges) else None

    def _read_level(self, tables: Mapping[Column, PageTable]) -> None:
        wanted = {column: self._spans[column.around].scale(column.factor) for column in tables}
        numbers = {column: _touched(column, tables[column], wanted[column]) for column in tables}
        self._fetch(numbers)
        opened = {}
        for column, table in tables.items():
            with self.naming(column):
                opened[column] = self._open(column.encoding, table, numbers[column])
        rooms = _allocate([pages.n_bytes for pages in opened.values()])
        for (column, pages), room in zip(opened.items(), rooms, strict=True):
            with self.naming(column):
                decoded = pages.decode(room)
                if column.encoding.is_index:
                    self._read_offsets(column, tables[column], decoded, wanted[column])
                else:
                    self.values[column] = decoded.take(wanted[column])
            self.source.file.count_decompressed(sum(pages.sizes))

    def _fetch(self, numbers: Mapping[Column, npt.NDArray[np.intp]]) -> None:
        """Fetches the pages of these numbers, unless they are at hand."""
        wanted = self._find_places(numbers)
        ranges = list(wanted)
        if not self._fetched.keys() >= wanted.keys():
            # All of them: what was fetched before may be valid only until now.
            self._fetched = dict(zip(ranges, self.source.file.read_ranges(ranges), strict=True))

    def _find_places(self, numbers: Mapping[Column, npt.NDArray[np.intp]]) -> dict[ByteRange, None]:
        """Where the pages of these numbers are.

        Raises:
            ValueError: what is said of their sizes cannot be.
        """
        wanted: dict[ByteRange, None] = {}
        n_bits = 0
        for column, some in numbers.items():
            with self.naming(column):
                pages = self.tables.table(column).pages[some]
                n_bits += column.encoding.n_bits * int(pages["n_elements"].sum())
                places = self.source.places(pages)
            wanted.update(dict.fromkeys(places))
        # Pages may share their bytes, but not overlap otherwise.
        if sum(stop - start for start, stop in wanted) > self.source.file.num_bytes:
            message = "its pages overlap"
            raise ValueError(message)
        if n_bits // 8 > _SPARE_BYTES + _LARGEST_RATIO * self.source.file.num_bytes:
            message = f"pages claim to hold {n_bits // 8} bytes, in a file of {self.source.file.num_bytes}"
            raise ValueError(message)
        return wanted

    def _open(self, encoding: Encoding, table: PageTable, numbers: npt.NDArray[np.intp]) -> _Opened:
        """The pages of these numbers; all sizes are looked at before anything is allocated."""
        pages = table.pages[numbers]
        edges = offsets_of(pages["n_elements"])
        sizes = [page_bytes(encoding, n_elements) for n_elements in pages["n_elements"].tolist()]
        contents = [
            self._open_page(place, stored_bytes, size_bytes)
            for place, stored_bytes, size_bytes in zip(
                self.source.places(pages), pages["size_bytes"].tolist(), sizes, strict=True
            )
        ]
        return _Opened(encoding, contents, sizes, table.edges[numbers], edges)

    def _open_page(self, place: ByteRange, stored_bytes: int, size_bytes: int) -> Bytes | list[Block]:
        """The page's bytes, or the blocks that will become these."""
        data = memoryview(self._fetched[place])
        stored = data[:stored_bytes]
        if len(data) > stored_bytes:
            checksum = int.from_bytes(data[stored_bytes:], "little")
            if xxhash.xxh3_64_intdigest(stored) != checksum:
                message = f"the checksum of the page at byte {place[0]} does not match"
                raise ValueError(message)
        if stored_bytes == size_bytes:
            return np.frombuffer(stored, np.uint8)
        if stored_bytes > size_bytes:
            message = f"a page of {stored_bytes} bytes where {size_bytes} are due"
            raise ValueError(message)
        return split_blocks(stored, size_bytes)

    def _read_offsets(self, column: Column, table: PageTable, decoded: _Decoded, spans: Spans) -> None:
        cluster_edges = table.cluster_edges
        lows = np.zeros(len(spans.starts), np.int64)
        is_inside = ~np.isin(spans.starts, cluster_edges)
        lows[is_inside] = decoded.at(spans.starts[is_inside] - 1)
        lists = Lists(spans, decoded.take(spans), lows, cluster_edges)
        offsets = self.offsets[column] = lists.offsets()
        item_edges = self.tables.find_item_edges(column)
        if item_edges is not None:
            items = self._spans[column] = lists.items(item_edges)
            if items.counts.sum() != offsets[-1]:
                message = "its lists do not have the items that they ask for"
                raise ValueError(message)


def _pages_of_clusters(
    tables: Mapping[Column, PageTable], first: int, last: int
) -> dict[Column, npt.NDArray[np.intp]]:
    return {
        column: np.arange(table.cluster_pages[first], table.cluster_pages[last])
        for column, table in tables.items()
    }


def _touched(column: Column, table: PageTable, spans: Spans) -> npt.NDArray[np.intp]:
    """Numbers of the pages that are needed for the spans."""
    if column.encoding.is_index:
        # Where a list begins is told by the end of the one before, except at the start of a cluster.
        is_first = np.isin(spans.starts, table.cluster_edges)
        spans = join_spans(np.where(is_first, spans.starts, spans.starts - 1), spans.stops)
    return touched_pages(table.edges, spans)


def _allocate(sizes: Sequence[int]) -> Iterator[Bytes]:
    """Room for columns that are used and forgotten together, in one piece of memory.

    The system hands large pieces out in large pages, and spares the time that many small ones take.
    """
    starts = list(itertools.accumulate((-(-size // _ALIGNMENT) * _ALIGNMENT for size in sizes), initial=0))
    room = np.empty(starts[-1], np.uint8)
    return (room[start : start + size] for start, size in zip(starts, sizes, strict=False))


@dataclass(frozen=True)
class _Opened:
    """Some pages of a column, whose sizes add up.

    Attributes:
        encoding: of the column.
        contents: of each page, as bytes or as the blocks that become these.
        sizes: uncompressed, of each page.
        firsts: the first element of each page, counted in the whole column.
        edges: where each page begins if these pages follow each other, and the last ends.
    """

    encoding: Encoding
    contents: Sequence[Bytes | list[Block]]
    sizes: Sequence[int]
    firsts: Integers
    edges: Integers

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.int64) if self.encoding.is_index else self.encoding.dtype

    @property
    def n_bytes(self) -> int:
        """Of the elements in memory."""
        return int(self.edges[-1]) * self.dtype.itemsize

    def decode(self, room: Bytes) -> _Decoded:
        """Fills `room`, of `n_bytes`, with the elements."""
        elements = room.view(self.dtype)
        bounds = itertools.pairwise(self.edges.tolist())
        for content, size_bytes, (start, stop) in zip(self.contents, self.sizes, bounds, strict=True):
            data = decompressor().read(content, size_bytes) if isinstance(content, list) else content
            decode_page(self.encoding, data, elements[start:stop])
        return _Decoded(elements, self.firsts, self.edges)


@dataclass(frozen=True)
class _Decoded:
    """The elements of some pages of a column.

    Attributes:
        elements: of these pages, one after the other.
        firsts: the first element of each page, counted in the whole column.
        edges: where each page begins in `elements`, and the last ends.
    """

    elements: Values
    firsts: Integers
    edges: Integers

    def at(self, numbers: Integers) -> Values:
        """The elements of these numbers."""
        return self.elements[self._positions(numbers)]

    def take(self, spans: Spans) -> Values:
        """The elements in the spans."""
        counts = spans.counts
        if counts.sum() == len(self.elements):
            return self.elements
        positions = self._positions(spans.starts)
        if len(positions) == 1:
            return self.elements[positions[0] : positions[0] + counts[0]]
        return self.elements[spread(positions, counts)]

    def _positions(self, numbers: Integers) -> Integers:
        page = np.searchsorted(self.firsts, numbers, side="right") - 1
        return self.edges[page] + numbers - self.firsts[page]
