"""From the bytes of an RNTuple's envelopes (header, footer, page lists) to records. Pure.

Every size and count is checked against the bytes at hand before anything is built from it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import xxhash


class Role(IntEnum):
    """What a field is, by the specification's "structural role"."""

    LEAF = 0
    COLLECTION = 1
    RECORD = 2
    VARIANT = 3
    STREAMER = 4


class FieldRecord(NamedTuple):
    """One field.

    Attributes:
        parent: number of the field around it; its own number if there is none.
        role: a `Role`, or a number that this version of the format does not know.
        repetition: length of a fixed-size array, else 0.
        source: number of the field whose columns a projected field shares.
    """

    parent: int
    role: int
    name: str
    type_name: str
    repetition: int
    source: int | None


class ColumnRecord(NamedTuple):
    """One physical column: encoding, bits of an element, field, flags, and which representation of it."""

    encoding: int
    n_bits: int
    field: int
    flags: int
    representation: int


class Locator(NamedTuple):
    """Where bytes are in the file."""

    offset: int
    size_bytes: int


class Schema(NamedTuple):
    """What the header says, or the part of the footer that extends it."""

    fields: list[FieldRecord]
    columns: list[ColumnRecord]


class PageListLink(NamedTuple):
    """Where the page list of one group of clusters is."""

    n_clusters: int
    size_bytes: int
    locator: Locator


class ClusterFrame(NamedTuple):
    """The entries of a cluster, and where in its page list the frames of its columns begin and end."""

    first_entry: int
    n_entries: int
    start: int
    stop: int


PAGE = np.dtype([("n_elements", "<i4"), ("size_bytes", "<i4"), ("offset", "<u8")])
"""A page in a page list, as it is stored: a negative number of elements tells that a checksum follows."""

PAGES = np.dtype(
    [("n_elements", "i8"), ("size_bytes", "i8"), ("offset", "i8"), ("has_checksum", "?")], align=True
)
"""A page, unpacked: its size is without the checksum that may follow it in the file."""

Pages = npt.NDArray[np.void]
"""The pages of one column in order, of the dtype `PAGES`."""

CHECKSUM_BYTES = 8
"""XXH3 (64 bits), little-endian, after envelopes and pages."""

_HEADER, _FOOTER, _PAGE_LIST = 1, 2, 3
_REPETITIVE, _PROJECTED = 1, 2
_SHARDED = 1
_LARGE_LOCATOR = 1
_ENTRIES_MASK = (1 << 56) - 1
_MOST_BYTES = 1 << 62

_U32 = struct.Struct("<I").unpack_from
_I64 = struct.Struct("<q").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_LIST = struct.Struct("<qI").unpack_from
_FIELD = struct.Struct("<IIIHH").unpack_from
_COLUMN = struct.Struct("<HHIHH").unpack_from
_GROUP = struct.Struct("<QQIQ").unpack_from
_CLUSTER = struct.Struct("<QQ").unpack_from
_PAGE = struct.Struct("<ii").unpack_from
_LOCATOR = struct.Struct("<iQ").unpack_from
_LARGE = struct.Struct("<QQ").unpack_from

_Record = TypeVar("_Record")


def parse_header(data: bytes) -> Schema:
    """The fields and columns of a header envelope.

    Raises:
        ValueError, struct.error: the bytes are not a header envelope.
    """
    limit = _open_envelope(data, _HEADER)
    position = _skip_features(data, 8)
    for _ in range(3):  # the RNTuple's name, its description, and who wrote it
        position = _skip_text(data, position, limit)
    return _parse_schema(data, position, limit)


def parse_footer(data: bytes, header: bytes) -> tuple[Schema, list[PageListLink]]:
    """What was added to the schema since the header was written, and the groups of clusters.

    Raises:
        ValueError, struct.error: the bytes are not the footer envelope of that header.
    """
    limit = _open_envelope(data, _FOOTER)
    position = _skip_features(data, 8)
    if data[position : position + CHECKSUM_BYTES] != header[-CHECKSUM_BYTES:]:
        message = "the footer belongs to another header"
        raise ValueError(message)
    position += CHECKSUM_BYTES
    extension_end = _record_end(data, position, limit)
    extension = _parse_schema(data, position + 8, extension_end)
    groups, _ = _parse_list(data, extension_end, limit, _parse_group)
    return extension, groups


def parse_page_list(data: bytes, link: PageListLink, header: bytes) -> list[ClusterFrame]:
    """The clusters of one page list.

    Raises:
        ValueError, struct.error: the bytes are not the page list that the footer promises.
    """
    limit = _open_envelope(data, _PAGE_LIST)
    if data[8 : 8 + CHECKSUM_BYTES] != header[-CHECKSUM_BYTES:]:
        message = "a page list belongs to another header"
        raise ValueError(message)
    summaries, position = _parse_list(data, 8 + CHECKSUM_BYTES, limit, _parse_cluster)
    n_items, position, end = _open_list(data, position, limit)
    if not len(summaries) == n_items == link.n_clusters:
        message = f"the page lists of {n_items} clusters where {link.n_clusters} are due"
        raise ValueError(message)
    clusters = []
    for first_entry, n_entries in summaries:
        _, start, stop = _open_list(data, position, end)
        clusters.append(ClusterFrame(first_entry, n_entries, start, stop))
        position = stop
    return clusters


def find_column_frames(data: bytes, cluster: ClusterFrame) -> list[int]:
    """Where in the page list the frame of each column of the cluster begins."""
    starts = []
    position = cluster.start
    while position < cluster.stop:
        starts.append(position)
        position = _list_end(data, position, cluster.stop)
    return starts


def parse_pages(data: bytes, position: int, cluster: ClusterFrame) -> Pages | None:
    """The pages of the column whose frame begins at `position`; None if the column is suppressed.

    Raises:
        ValueError, struct.error: the bytes are not such a frame.
    """
    n_pages, position, end = _open_list(data, position, cluster.stop)
    if n_pages * PAGE.itemsize > end - position:
        message = f"{n_pages} pages in a frame of {end - position} bytes"
        raise ValueError(message)
    stored = np.frombuffer(data, PAGE, n_pages, position)
    pages = np.empty(n_pages, PAGES)
    if (stored["size_bytes"] >= 0).all():
        pages["n_elements"] = stored["n_elements"]
        pages["size_bytes"] = stored["size_bytes"]
        pages["offset"] = stored["offset"]
        position += stored.nbytes
    else:
        position = _parse_large_pages(data, position, end, pages)
    pages["has_checksum"] = pages["n_elements"] < 0
    np.abs(pages["n_elements"], out=pages["n_elements"])
    if n_pages and (pages["offset"].min() < 0 or pages["size_bytes"].min() < 0):
        message = "a page lies beyond all files"
        raise ValueError(message)
    if position + 8 > end:
        message = "a list of pages that ends too early"
        raise ValueError(message)
    # A negative number of the first element tells that another representation of the field is stored.
    return None if _I64(data, position)[0] < 0 else pages


def _parse_large_pages(data: bytes, position: int, end: int, pages: Pages) -> int:
    """Fills in pages of which some have large locators; returns the position after them."""
    for number in range(len(pages)):
        (n_elements, _) = _PAGE(data, position)
        locator, position = _parse_locator(data, position + 4, end)
        pages[number] = (n_elements, locator.size_bytes, locator.offset, False)
    return position


def _open_envelope(data: bytes, kind: int) -> int:
    """Checks the envelope around `data`; returns the position after its payload."""
    (word,) = _U64(data, 0)
    limit = len(data) - CHECKSUM_BYTES
    if word & 0xFFFF != kind or word >> 16 != len(data) or limit < 8:
        message = f"an envelope of kind {word & 0xFFFF} and {word >> 16} bytes, not {kind} and {len(data)}"
        raise ValueError(message)
    if xxhash.xxh3_64_intdigest(memoryview(data)[:limit]) != _U64(data, limit)[0]:
        message = "the checksum of its metadata does not match"
        raise ValueError(message)
    return limit


def _skip_features(data: bytes, position: int) -> int:
    (features,) = _U64(data, position)
    if features:
        message = f"it uses features that are not known here ({features:#x})"
        raise ValueError(message)
    return position + 8


def _parse_schema(data: bytes, position: int, limit: int) -> Schema:
    fields, position = _parse_list(data, position, limit, _parse_field)
    columns, _ = _parse_list(data, position, limit, _parse_column)
    return Schema(fields, columns)


def _parse_list(
    data: bytes, position: int, limit: int, parse: Callable[[bytes, int, int], _Record]
) -> tuple[list[_Record], int]:
    """The records of a list frame, and the position after it."""
    n_items, position, end = _open_list(data, position, limit)
    return [parse(data, start + 8, stop) for start, stop in _records(data, position, end, n_items)], end


def _records(data: bytes, position: int, limit: int, n_items: int) -> Iterator[tuple[int, int]]:
    for _ in range(n_items):
        end = _record_end(data, position, limit)
        yield position, end
        position = end


def _record_end(data: bytes, position: int, limit: int) -> int:
    (size_bytes,) = _I64(data, position)
    if not 8 <= size_bytes <= limit - position:
        message = f"a record of {size_bytes} bytes where {limit - position} are left"
        raise ValueError(message)
    return position + int(size_bytes)


def _open_list(data: bytes, position: int, limit: int) -> tuple[int, int, int]:
    """How many items a list frame has, where they begin, and where the frame ends."""
    end = _list_end(data, position, limit)
    return int(_U32(data, position + 8)[0]), position + 12, end


def _list_end(data: bytes, position: int, limit: int) -> int:
    (size_bytes,) = _I64(data, position)
    if not 12 <= -size_bytes <= limit - position:
        message = f"a list of {-size_bytes} bytes where {limit - position} are left"
        raise ValueError(message)
    return position - int(size_bytes)


def _parse_field(data: bytes, position: int, limit: int) -> FieldRecord:
    _, _, parent, role, flags = _FIELD(data, position)
    name, position = _parse_text(data, position + 16, limit)
    type_name, position = _parse_text(data, position, limit)
    for _ in range(2):  # the alias of the type, and the description
        position = _skip_text(data, position, limit)
    repetition, source = 0, None
    if flags & _REPETITIVE:
        (repetition,) = _U64(data, position)
        position += 8
    if flags & _PROJECTED:
        (source,) = _U32(data, position)
    return FieldRecord(parent, role, name, type_name, repetition, source)


def _parse_column(data: bytes, position: int, limit: int) -> ColumnRecord:
    if position + 12 > limit:
        message = "the description of a column that ends too early"
        raise ValueError(message)
    return ColumnRecord(*_COLUMN(data, position))


def _parse_text(data: bytes, position: int, limit: int) -> tuple[str, int]:
    end = _skip_text(data, position, limit)
    return data[position + 4 : end].decode("utf-8"), end


def _skip_text(data: bytes, position: int, limit: int) -> int:
    (size_bytes,) = _U32(data, position)
    if size_bytes > limit - position - 4:
        message = f"a text of {size_bytes} bytes where {limit - position - 4} are left"
        raise ValueError(message)
    return position + 4 + int(size_bytes)


def _parse_group(data: bytes, position: int, limit: int) -> PageListLink:
    _, _, n_clusters, size_bytes = _GROUP(data, position)
    locator, _ = _parse_locator(data, position + 28, limit)
    return PageListLink(n_clusters, size_bytes, locator)


def _parse_locator(data: bytes, position: int, limit: int) -> tuple[Locator, int]:
    if position + 12 > limit:
        message = "the place of a page that ends too early"
        raise ValueError(message)
    size_bytes, offset = _LOCATOR(data, position)
    if size_bytes >= 0:
        position += 12
    elif (-size_bytes >> 24) & 0x7F == _LARGE_LOCATOR:
        size_bytes, offset = _LARGE(data, position + 4)
        position += 20
    else:
        message = f"bytes in a kind of place that is not known here ({(-size_bytes >> 24) & 0x7F})"
        raise ValueError(message)
    if offset > _MOST_BYTES or size_bytes > _MOST_BYTES:
        message = f"{size_bytes} bytes at {offset} lie beyond all files"
        raise ValueError(message)
    return Locator(offset, size_bytes), position


def _parse_cluster(data: bytes, position: int, _limit: int) -> tuple[int, int]:
    first_entry, word = _CLUSTER(data, position)
    if (word >> 56) & _SHARDED:
        message = "its clusters are sharded, which is not known here"
        raise ValueError(message)
    return first_entry, word & _ENTRIES_MASK
