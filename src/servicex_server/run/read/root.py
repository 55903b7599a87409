"""An open ROOT file: its trees as columns, its other objects as they are."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import uproot

from servicex_server.errors import SourceCorrupt, UnknownName
from servicex_server.run.read.bytes import RangeSource
from servicex_server.run.read.faults import reading
from servicex_server.run.read.kept import OpenedFile, kept_files
from servicex_server.run.read.metadata import TreeMetadata
from servicex_server.run.read.rntuple import RNTupleColumns
from servicex_server.run.read.ttree import TTreeColumns
from servicex_server.source.protocol import ByteSource

Columns = TTreeColumns | RNTupleColumns

_HEADER_BYTES = 64
_END_OF_FEND = 20
_LARGE_FILE = 1_000_000
"""Versions from here on have 64-bit addresses: https://root.cern.ch/doc/master/classTFile.html"""

_TTREES = ("TTree", "TNtuple", "TNtupleD", "TChain")
_RNTUPLES = ("ROOT::RNTuple", "ROOT::Experimental::RNTuple")


class RootFile:
    """The schema of a ROOT file and the way to its columns. Closing it closes the source.

    A file that is left without an error is kept, so that to open it again costs one request.
    """

    def __init__(self, source: ByteSource) -> None:
        """Reads the file's header and directory.

        Raises:
            SourceCorrupt: not a ROOT file, or one that lacks its end.
        """
        self._bytes = source
        try:
            self._opened = kept_files.take(source) or self._open()
        except BaseException:
            source.close()
            raise

    def _open(self) -> OpenedFile:
        location = self._bytes.location
        size_bytes = self._bytes.size_bytes
        header = self._bytes.read_ranges([(0, min(_HEADER_BYTES, size_bytes))])[0]
        if header[:4] != b"root":
            what = "it is empty" if not size_bytes else "it does not begin as one"
            message = f"{location} is not a ROOT file: {what}"
            raise SourceCorrupt(message)
        end = _end_of_file(header)
        if end > size_bytes:
            message = f"{location} is truncated: it should have {end} bytes and has {size_bytes}"
            raise SourceCorrupt(message)
        with reading(location, "the file's directory"):
            # Without uproot's cache of objects, which takes files of one UUID for the same.
            directory = uproot.open(
                {location: None},
                handler=RangeSource,
                byte_source=self._bytes,
                array_cache=None,
                object_cache=None,
            )
            return OpenedFile(directory, directory.file.source)

    @property
    def location(self) -> str:
        return self._bytes.location

    @property
    def bytes_read(self) -> int:
        return self._bytes.bytes_read

    @property
    def bytes_decompressed(self) -> int:
        """Bytes of columns after decompression, whether they were stored compressed or not."""
        return self._opened.source.bytes_decompressed

    @property
    def directory(self) -> Any:
        """uproot's own view of the file, for copying objects that are not trees."""
        return self._opened.directory

    def objects(self) -> Mapping[str, str]:
        if self._opened.objects is None:
            with reading(self.location, "the file's directory"):
                self._opened.objects = dict(self.directory.classnames(recursive=True, cycle=False))
        return self._opened.objects

    def tree_names(self) -> Sequence[str]:
        return [key for key, kind in self.objects().items() if kind in _TTREES + _RNTUPLES]

    def tree(self, name: str) -> Columns:
        """The tree of that key; the newest cycle, if the key names none."""
        found = self._opened.trees.get(name)
        return self._open_tree(name) if found is None else found

    def _open_tree(self, name: str) -> Columns:
        kind = self.objects().get(name.rpartition(";")[0] or name)
        if kind not in _TTREES + _RNTUPLES:
            present = ", ".join(self.tree_names()) or "none"
            message = f"no tree {name!r} in {self.location}; trees there: {present}"
            raise UnknownName(message, name=name)
        with reading(self.location, f"tree {name!r}"):
            found: Columns
            if kind in _RNTUPLES:
                found = RNTupleColumns(name, self.directory[name])
            else:
                found = TTreeColumns(name, TreeMetadata(self.directory, name))
            self._opened.trees[name] = found
            return found

    def close(self) -> None:
        self.directory.close()
        self._bytes.close()

    def _keep(self) -> None:
        """Closes the source alone; what is known of the file is for the next who opens it."""
        kept_files.put(self._bytes, self._opened)
        self._bytes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._keep()
        else:
            self.close()


def _end_of_file(header: bytes) -> int:
    """The position after the file's last byte (fEND), as its header says."""
    if len(header) < _END_OF_FEND:
        return _END_OF_FEND
    (version,) = struct.unpack_from(">i", header, 4)
    (end,) = struct.unpack_from(">q" if version >= _LARGE_FILE else ">i", header, 12)
    return int(end)
