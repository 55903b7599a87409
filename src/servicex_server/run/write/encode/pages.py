"""Pages of a column: headers, levels and compressed values.

The layout of a page: https://github.com/apache/parquet-format/blob/master/README.md#data-pages; field ids
are those of `PageHeader`, `DataPageHeaderV2` and `DictionaryPageHeader` in parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from servicex_server.errors import FormatError
from servicex_server.run.threads import map_in_threads
from servicex_server.run.write.encode.codec import Buffer, compressor
from servicex_server.run.write.encode.dictionary import Dictionary, find_dictionary
from servicex_server.run.write.encode.levels import PageLevels
from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.encode.schema import LeafNode
from servicex_server.run.write.encode.shred import Column, Text
from servicex_server.run.write.encode.statistics import Bounds, find_bounds, join_bounds, to_statistics
from servicex_server.run.write.encode.thrift import Struct
from servicex_server.run.write.encode.values import Encoding, choose_encoding, encode_plain, encode_values

MOST_BYTES = 2**31 - 1
"""The format has 32 bits for the length of a page."""

_DICTIONARY_PAGE, _DATA_PAGE_V2 = 2, 3
TEXT_BYTES = 4 * 1024 * 1024
"""Bytes of text that a page should have at most."""


@dataclass(frozen=True, slots=True)
class Page:
    """A data page.

    Attributes:
        buffers: header, levels, values; one after the other they are the page.
        n_bytes: length of them all.
        n_raw_bytes: the same before compression.
        levels: what it holds.
        bounds: of its values.
    """

    buffers: tuple[Buffer, ...]
    n_bytes: int
    n_raw_bytes: int
    levels: PageLevels
    bounds: Bounds | None

    @property
    def n_nulls(self) -> int:
        return self.levels.n_slots - (self.levels.stop - self.levels.start)


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """A column's pages in one row group.

    Attributes:
        dictionary: the buffers of the dictionary page, if there is one.
        dictionary_bytes, dictionary_raw_bytes: its length, and that before compression.
        encoding: of the values.
    """

    leaf: LeafNode
    dictionary: tuple[Buffer, ...]
    dictionary_bytes: int
    dictionary_raw_bytes: int
    pages: tuple[Page, ...]
    encoding: Encoding

    @property
    def n_bytes(self) -> int:
        return self.dictionary_bytes + sum(page.n_bytes for page in self.pages)

    @property
    def n_raw_bytes(self) -> int:
        return self.dictionary_raw_bytes + sum(page.n_raw_bytes for page in self.pages)

    @property
    def n_slots(self) -> int:
        return sum(page.levels.n_slots for page in self.pages)

    @property
    def n_nulls(self) -> int:
        return sum(page.n_nulls for page in self.pages)

    @property
    def bounds(self) -> Bounds | None:
        return join_bounds(page.bounds for page in self.pages)

    def buffers(self) -> Iterator[Buffer]:
        """All bytes of the chunk, in order."""
        yield from self.dictionary
        for page in self.pages:
            yield from page.buffers


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Some rows of all columns."""

    n_rows: int
    chunks: tuple[ColumnChunk, ...]

    @property
    def n_bytes(self) -> int:
        return sum(chunk.n_bytes for chunk in self.chunks)


def encode_group(columns: Sequence[Column], options: ParquetOptions, *, n_threads: int = 1) -> RowGroup:
    """The pages of all columns.

    Args:
        n_threads: columns to encode at once.

    Raises:
        FormatError: one row is larger than a page can be.
    """
    n_rows = columns[0].levels.n_rows if columns else 0
    chunks = map_in_threads(lambda column: _encode_chunk(column, options), columns, n_threads)
    return RowGroup(n_rows, tuple(chunks))


def _encode_chunk(column: Column, options: ParquetOptions) -> ColumnChunk:
    leaf = column.leaf
    encoding = choose_encoding(leaf, options)
    dictionary = None
    if options.dictionary:
        # Where bytes can be split, a large dictionary takes longer and makes nothing smaller.
        most_entries = 256 if encoding is Encoding.BYTE_STREAM_SPLIT else 65536
        dictionary = find_dictionary(leaf, column.values, most_entries)
    if dictionary is not None:
        encoding = Encoding.RLE_DICTIONARY
    pages = tuple(
        _encode_page(column, dictionary, encoding, levels, options)
        for levels in _page_levels(column, options)
    )
    if dictionary is None:
        return ColumnChunk(leaf, (), 0, 0, pages, encoding)
    buffers, raw_bytes = _encode_dictionary(leaf, dictionary, options)
    n_bytes = sum(len(buffer) for buffer in buffers)
    return ColumnChunk(leaf, buffers, n_bytes, raw_bytes, pages, encoding)


def _page_levels(column: Column, options: ParquetOptions) -> tuple[PageLevels, ...]:
    most_slots = options.page_values
    values = column.values
    if not isinstance(values, Text) or values.nbytes <= TEXT_BYTES:
        return column.levels.pages(most_slots)
    share = TEXT_BYTES / values.nbytes
    most_slots = max(1, min(most_slots, int(share * column.levels.n_slots)))
    # Long texts may lie close together: a page must not be refused that could have been two.
    while True:
        pages = column.levels.pages(most_slots)
        if most_slots == 1 or not any(_is_divisible(values, page) for page in pages):
            return pages
        most_slots //= 2


def _is_divisible(text: Text, page: PageLevels) -> bool:
    """Whether a page of several rows is too large."""
    n_bytes = int(text.offsets[page.stop] - text.offsets[page.start]) + 4 * page.n_slots
    return page.n_rows > 1 and n_bytes > MOST_BYTES // 2


def _encode_page(
    column: Column,
    dictionary: Dictionary | None,
    encoding: Encoding,
    levels: PageLevels,
    options: ParquetOptions,
) -> Page:
    leaf = column.leaf
    values = column.values[levels.start : levels.stop]
    bounds = find_bounds(leaf, values)
    raw: Buffer
    if dictionary is None:
        _check_size(leaf, values.nbytes + (4 * len(values) if isinstance(values, Text) else 0))
        raw = encode_values(leaf, values, encoding)
    else:
        raw = dictionary.encode(levels.start, levels.stop)
    n_levels = len(levels.repetition) + len(levels.definition)
    _check_size(leaf, max(levels.n_slots, n_levels + len(raw)))
    compress = compressor(options) if len(raw) else None
    body = raw if compress is None else compress(raw)
    if len(body) >= len(raw):
        # A data page may stay as it is in a compressed column.
        body, compress = raw, None
    n_nulls = levels.n_slots - (levels.stop - levels.start)
    details = (
        Struct()
        .i32(1, levels.n_slots)
        .i32(2, n_nulls)
        .i32(3, levels.n_rows)
        .i32(4, encoding)
        .i32(5, len(levels.definition))
        .i32(6, len(levels.repetition))
        .boolean(7, compress is not None)
        .struct(8, to_statistics(leaf, bounds, n_nulls))
    )
    header = Struct().i32(1, _DATA_PAGE_V2).i32(2, n_levels + len(raw)).i32(3, n_levels + len(body))
    head = header.struct(8, details).to_bytes()
    n_head = len(head) + n_levels
    return Page(
        (head, levels.repetition, levels.definition, body),
        n_head + len(body),
        n_head + len(raw),
        levels,
        bounds,
    )


def _encode_dictionary(
    leaf: LeafNode, dictionary: Dictionary, options: ParquetOptions
) -> tuple[tuple[Buffer, ...], int]:
    raw = np.ascontiguousarray(encode_plain(leaf, dictionary.entries))
    _check_size(leaf, len(raw))
    compress = compressor(options)
    body = raw if compress is None else compress(raw)
    details = Struct().i32(1, len(dictionary.entries)).i32(2, Encoding.PLAIN)
    header = Struct().i32(1, _DICTIONARY_PAGE).i32(2, len(raw)).i32(3, len(body)).struct(7, details)
    head = header.to_bytes()
    return (head, body), len(head) + len(raw)


def _check_size(leaf: LeafNode, n_bytes: int) -> None:
    if n_bytes > MOST_BYTES:
        message = f"column {leaf.name}: one row takes {n_bytes} bytes; a page of Parquet holds at most 2 GiB"
        raise FormatError(message)
