"""What a Parquet file says of itself at its end, and where in it everything is.

Field ids are those of `FileMetaData`, `RowGroup`, `ColumnChunk` and `ColumnMetaData` in parquet.thrift.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from servicex_server.run.write.encode.codec import CODECS
from servicex_server.run.write.encode.options import Compression
from servicex_server.run.write.encode.pages import ColumnChunk, RowGroup
from servicex_server.run.write.encode.schema import FileSchema, to_key_value
from servicex_server.run.write.encode.statistics import to_statistics
from servicex_server.run.write.encode.thrift import Kind, Struct, to_binary, to_zigzag
from servicex_server.run.write.encode.values import Encoding

MAGIC = b"PAR1"
"""The first and the last bytes of a file."""

_FORMAT_VERSION = 2
_MOST_ORDINAL = 2**15 - 1


@dataclass(frozen=True, slots=True)
class PlacedGroup:
    """A row group that is in the file.

    Attributes:
        offset: of its first byte in the file.
        n_rows: its rows.
        n_bytes, n_raw_bytes: its size, and that before compression.
        chunks: the encoded `ColumnMetaData` of each column.
    """

    offset: int
    n_rows: int
    n_bytes: int
    n_raw_bytes: int
    chunks: tuple[bytes, ...]


def place_group(group: RowGroup, offset: int, compression: Compression) -> PlacedGroup:
    """What is left to know of a row group when its bytes are in the file from `offset` on."""
    chunks: list[bytes] = []
    position = offset
    for chunk in group.chunks:
        chunks.append(_column_metadata(chunk, position, compression))
        position += chunk.n_bytes
    n_raw_bytes = sum(chunk.n_raw_bytes for chunk in group.chunks)
    return PlacedGroup(offset, group.n_rows, position - offset, n_raw_bytes, tuple(chunks))


def encode_end(
    schema: FileSchema,
    groups: Sequence[PlacedGroup],
    details: Mapping[str, str],
    created_by: str,
) -> bytes:
    """Everything after the last row group: metadata, and its length.

    Args:
        details: pairs of metadata beside those of the schema.
    """
    encoded = [_row_group(group, number) for number, group in enumerate(groups)]
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
    return metadata + len(metadata).to_bytes(4, "little") + MAGIC


def _row_group(group: PlacedGroup, number: int) -> bytes:
    # The place of the metadata itself is no longer used, hence 0.
    chunks = [Struct().i64(2, 0).encoded(3, Kind.STRUCT, metadata).to_bytes() for metadata in group.chunks]
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
