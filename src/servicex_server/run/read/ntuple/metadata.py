"""What an RNTuple says about itself. Nothing here refers to the file, nor changes while threads read it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from servicex_server.run.read.bytes import RangeSource
from servicex_server.run.read.decompress import decompressor, split_blocks
from servicex_server.run.read.ntuple.envelope import (
    ClusterFrame,
    ColumnRecord,
    FieldRecord,
    Locator,
    Pages,
    Role,
    find_column_frames,
    parse_footer,
    parse_header,
    parse_page_list,
    parse_pages,
)

_MOST_ENTRIES = 1 << 40
"""Times the elements of the largest array, it still is a number of 64 bits."""
_TUPLE_MEMBER = re.compile(r"_[0-9]+")
_BASE_CLASS = re.compile(r":_[0-9]+")


@dataclass(frozen=True)
class RNTupleMetadata:
    """Fields, columns, clusters, and on demand the pages of a column. Several threads may share it.

    Attributes:
        fields: by number.
        columns: by number.
        first_entries: number of the first entry of each cluster, and at the end the number of entries;
            int64, one longer than there are clusters.
        clusters: for each cluster its page list and its place therein.
    """

    fields: Sequence[FieldRecord]
    columns: Sequence[ColumnRecord]
    first_entries: npt.NDArray[np.int64]
    clusters: Sequence[tuple[bytes, ClusterFrame]]
    _column_frames: dict[int, list[int]] = field(default_factory=dict)

    @property
    def n_entries(self) -> int:
        return int(self.first_entries[-1])

    @cached_property
    def children(self) -> Mapping[int, Sequence[int]]:
        """Numbers of the fields directly inside a field, for those that have any."""
        found: dict[int, list[int]] = {}
        for number, record in enumerate(self.fields):
            if record.parent != number:
                found.setdefault(record.parent, []).append(number)
        return found

    @cached_property
    def columns_of(self) -> Mapping[int, Sequence[int]]:
        """Numbers of the columns that a field has of its own, in all representations."""
        found: dict[int, list[int]] = {}
        for number, record in enumerate(self.columns):
            found.setdefault(record.field, []).append(number)
        return found

    @cached_property
    def paths(self) -> Mapping[str, int] | None:
        """Numbers of the fields by path (`outer.inner`), each followed by what is inside.

        Fields that only carry structure have no path. None if two fields have the same.
        """
        found: dict[str, int] = {}
        for number, path in self.walk():
            if path in found:
                return None
            found[path] = number
        return found

    def walk(self) -> Iterator[tuple[int, str]]:
        """Number and path of each field that has a path."""
        outermost = [number for number, record in enumerate(self.fields) if record.parent == number]
        ahead = [(number, "") for number in reversed(outermost)]
        while ahead:
            number, prefix = ahead.pop()
            record = self.fields[number]
            if not self.is_anonymous(number):
                path = prefix + self.name_of(number)
                prefix = f"{path}."
                yield number, path
            if record.role != Role.VARIANT:  # what is inside a variant cannot be read apart from it
                ahead.extend((child, prefix) for child in reversed(self.children.get(number, ())))

    def name_of(self, number: int) -> str:
        """The field's name as uproot has it: members of a tuple are called 0, 1, …"""
        record = self.fields[number]
        around = self.fields[record.parent]
        is_member = record.parent != number and around.role == Role.RECORD
        return record.name[1:] if is_member and _TUPLE_MEMBER.fullmatch(record.name) else record.name

    def is_anonymous(self, number: int) -> bool:
        """Whether the field only carries structure: the items of a collection, the base class of a record."""
        record = self.fields[number]
        if record.parent == number:
            return False
        around = self.fields[record.parent]
        match around.role:
            case Role.COLLECTION | Role.VARIANT:
                return True
            case Role.RECORD if _BASE_CLASS.fullmatch(record.name):
                return True
            case Role.LEAF if record.name == "_0":
                return True
        return around.repetition > 0

    def find_clusters(self, start: int, stop: int) -> tuple[int, int]:
        """The clusters `[first, last)` that hold the entries `[start, stop)`."""
        if start >= stop:
            return 0, 0
        first = int(np.searchsorted(self.first_entries, start, side="right")) - 1
        return first, int(np.searchsorted(self.first_entries, stop, side="left"))

    def pages(self, column: int, cluster: int) -> Pages | None:
        """The pages of a column in a cluster; None if the column is not stored there.

        Raises:
            ValueError, struct.error: the page list is broken.
        """
        data, place = self.clusters[cluster]
        frames = self._column_frames.get(cluster)
        if frames is None:
            frames = self._column_frames[cluster] = find_column_frames(data, place)
        return parse_pages(data, frames[column], place) if column < len(frames) else None


def load_metadata(source: RangeSource, anchor: Any) -> RNTupleMetadata:
    """Reads header, footer and page lists, the latter in one request.

    Args:
        source: the file.
        anchor: uproot's model of the object that is named in the file's directory.

    Raises:
        ValueError, struct.error: they are broken.
        SourceError: their bytes cannot be had.
    """
    header_place = Locator(anchor.member("fSeekHeader"), anchor.member("fNBytesHeader"))
    footer_place = Locator(anchor.member("fSeekFooter"), anchor.member("fNBytesFooter"))
    packed_header, packed_footer = _fetch(source, [header_place, footer_place])
    header = _unpack(packed_header, anchor.member("fLenHeader"))
    schema = parse_header(header)
    extension, links = parse_footer(_unpack(packed_footer, anchor.member("fLenFooter")), header)
    clusters: list[tuple[bytes, ClusterFrame]] = []
    for link, packed in zip(links, _fetch(source, [link.locator for link in links]), strict=True):
        data = _unpack(packed, link.size_bytes)
        clusters.extend((data, cluster) for cluster in parse_page_list(data, link, header))
    metadata = RNTupleMetadata(
        fields=(*schema.fields, *extension.fields),
        columns=(*schema.columns, *extension.columns),
        first_entries=_first_entries([cluster for _, cluster in clusters]),
        clusters=tuple(clusters),
    )
    _check_references(metadata)
    return metadata


def _fetch(source: RangeSource, places: Sequence[Locator]) -> list[bytes]:
    return source.read_metadata([(place.offset, place.offset + place.size_bytes) for place in places])


def _unpack(data: bytes, size_bytes: int) -> bytes:
    if len(data) == size_bytes:
        return data
    blocks = split_blocks(memoryview(data), size_bytes)
    return decompressor().read(blocks, size_bytes).tobytes()


def _first_entries(clusters: Sequence[ClusterFrame]) -> npt.NDArray[np.int64]:
    position = 0
    for number, cluster in enumerate(clusters):
        if cluster.first_entry != position:
            message = f"cluster {number} begins at entry {cluster.first_entry}, not at {position}"
            raise ValueError(message)
        position += cluster.n_entries
    if position > _MOST_ENTRIES:
        message = f"it claims to have {position} entries, and at most {_MOST_ENTRIES} are read"
        raise ValueError(message)
    return np.array([*(cluster.first_entry for cluster in clusters), position], np.int64)


def _check_references(metadata: RNTupleMetadata) -> None:
    n_fields = len(metadata.fields)
    for record in metadata.fields:
        if record.parent >= n_fields or (record.source is not None and record.source >= n_fields):
            message = f"field {record.name!r} belongs to a field that does not exist"
            raise ValueError(message)
