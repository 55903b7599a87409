"""What a Parquet file says of itself at its end, and where in it everything is.

Field ids are those of `FileMetaData`, `RowGroup`, `ColumnChunk`, `ColumnMetaData`, `ColumnIndex` and
`OffsetIndex` in parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from servicex_server.run.write.encode.codec import CODECS
from servicex_server.run.write.encode.options import Compression
from servicex_server.run.write.encode.pages import ColumnChunk, RowGroup
from servicex_server.run.write.encode.schema import FileSchema, to_key_value
from servicex_server.run.write.encode.statistics import LONGEST_BOUND, encode_bounds, to_statistics
from servicex_server.run.write.encode.thrift import Kind, Struct, to_binary, to_zigzag
from servicex_server.run.write.encode.values import Encoding

MAGIC = b"PAR1"
"""The first and the last bytes of a file."""

_FORMAT_VERSION = 2
_MOST_ORDINAL = 2**15 - 1
_UNORDERED = 0


@dataclass(frozen=True, slots=True)
class PlacedChunk:
    """A column chunk that is in the file.

    Attributes:
        metadata: the encoded `ColumnMetaData`.
        offset_index, column_index: encoded; empty if there is none.
    """

    metadata: bytes
    offset_index: bytes
    column_index: bytes


@dataclass(frozen=True, slots=True)
class PlacedGroup:
    """A row group that is in the file."""

    offset: int
    n_rows: int
    n_bytes: int
    n_raw_bytes: int
    chunks: tuple[PlacedChunk, ...]


def place_group(group: RowGroup, offset: int, compression: Compression, *, page_index: bool) -> PlacedGroup:
    """What is left to know of a row group when its bytes are in the file from `offset` on."""
    chunks: list[PlacedChunk] = []
    position = offset
    for chunk in group.chunks:
        metadata = _column_metadata(chunk, position, compression)
        if page_index:
            chunks.append(PlacedChunk(metadata, _offset_index(chunk, position), _column_index(chunk)))
        else:
            chunks.append(PlacedChunk(metadata, b"", b""))
        position += chunk.n_bytes
    n_raw_bytes = sum(chunk.n_raw_bytes for chunk in group.chunks)
    return PlacedGroup(offset, group.n_rows, position - offset, n_raw_bytes, tuple(chunks))


def encode_end(
    schema: FileSchema,
    groups: Sequence[PlacedGroup],
    position: int,
    details: Mapping[str, str],
    created_by: str,
) -> bytes:
    """Everything after the last row group: page indexes, metadata, and its length.

    Args:
        position: where in the file it will begin.
        details: pairs of metadata beside those of the schema.
    """
    index = bytearray()
    # First all column indexes, then all offset indexes: so does the format's own description.
    column_places = _append(
        index, position, [chunk.column_index for group in groups for chunk in group.chunks]
    )
    offset_places = _append(
        index, position, [chunk.offset_index for group in groups for chunk in group.chunks]
    )
    places = iter(zip(column_places, offset_places, strict=True))
    encoded = [_row_group(group, number, places) for number, group in enumerate(groups)]
    pairs = [to_key_value(key.encode(), value.encode()) for key, value in details.items()]
    metadata = (
        Struct()
        .i32(1, _FORMAT_VERSION)
        .encoded(2, Kind.LIST, schema.elements)
        .i64(3, sum(group.n_rows for group in groups))
        .items(4, Kind.STRUCT, encoded)
        .items(5, Kind.STRUCT, [*schema.key_values, *pairs])
        .binary(6, created_by.encode())
        .encoded(7, Kind.LIST, schema.orders)
        .to_bytes()
    )
    return bytes(index) + metadata + len(metadata).to_bytes(4, "little") + MAGIC


_Place = tuple[int, int]


def _append(out: bytearray, position: int, parts: Sequence[bytes]) -> list[_Place]:
    places: list[_Place] = []
    for part in parts:
        places.append((position + len(out), len(part)))
        out += part
    return places


def _row_group(group: PlacedGroup, number: int, places: Iterator[tuple[_Place, _Place]]) -> bytes:
    chunks: list[bytes] = []
    for chunk in group.chunks:
        (column_at, column_length), (offset_at, offset_length) = next(places)
        # The place of the metadata itself is no longer used, hence 0.
        struct = Struct().i64(2, 0).encoded(3, Kind.STRUCT, chunk.metadata)
        if offset_length:
            struct.i64(4, offset_at).i32(5, offset_length)
        if column_length:
            struct.i64(6, column_at).i32(7, column_length)
        chunks.append(struct.to_bytes())
    row_group = Struct().items(1, Kind.STRUCT, chunks).i64(2, group.n_raw_bytes).i64(3, group.n_rows)
    row_group.i64(5, group.offset).i64(6, group.n_bytes)
    if number <= _MOST_ORDINAL:
        row_group.i16(7, number)
    return row_group.to_bytes()


def _column_metadata(chunk: ColumnChunk, position: int, compression: Compression) -> bytes:
    encodings = {chunk.encoding, Encoding.RLE} | ({Encoding.PLAIN} if chunk.dictionary else set())
    metadata = (
        Struct()
        .i32(1, chunk.leaf.physical)
        .items(2, Kind.I32, [to_zigzag(encoding) for encoding in sorted(encodings)])
        .items(3, Kind.BINARY, [to_binary(name.encode()) for name in chunk.leaf.path])
        .i32(4, CODECS[compression])
        .i64(5, chunk.n_slots)
        .i64(6, chunk.n_raw_bytes)
        .i64(7, chunk.n_bytes)
        .i64(9, position + chunk.dictionary_bytes)
    )
    if chunk.dictionary:
        metadata.i64(11, position)
    return metadata.struct(12, to_statistics(chunk.leaf, chunk.bounds, chunk.n_nulls)).to_bytes()


def _offset_index(chunk: ColumnChunk, position: int) -> bytes:
    locations: list[bytes] = []
    position += chunk.dictionary_bytes
    for page in chunk.pages:
        location = Struct().i64(1, position).i32(2, page.n_bytes).i64(3, page.levels.first_row)
        locations.append(location.to_bytes())
        position += page.n_bytes
    return Struct().items(1, Kind.STRUCT, locations).to_bytes()


def _column_index(chunk: ColumnChunk) -> bytes:
    """The bounds of all pages; empty where a page with values has none, which the format forbids."""
    nothing, least, greatest = [], [], []
    for page in chunk.pages:
        is_nothing = page.levels.start == page.levels.stop
        if page.bounds is None and not is_nothing:
            return b""
        low, high = (b"", b"") if page.bounds is None else encode_bounds(chunk.leaf, page.bounds)
        if max(len(low), len(high)) > LONGEST_BOUND:
            return b""
        nothing.append(bytes((Kind.TRUE if is_nothing else Kind.FALSE,)))
        least.append(to_binary(low))
        greatest.append(to_binary(high))
    nulls = [to_zigzag(page.n_nulls) for page in chunk.pages]
    index = Struct().items(1, Kind.TRUE, nothing).items(2, Kind.BINARY, least).items(3, Kind.BINARY, greatest)
    return index.i32(4, _UNORDERED).items(5, Kind.I64, nulls).to_bytes()
