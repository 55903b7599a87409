"""Opened files that are kept for the next query on them: their directory, and what is known of their trees.

A worker meets the same file again: first in a preflight, then in a transform, then in the next query. To
open it takes several requests one after the other, and some milliseconds of parsing. Kept, it takes one
request: the bytes that all is known from are read again, and must be the same. So nothing rests on a
time stamp, and a file that was kept serves whoever may read it, but nobody else.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from servicex_server.run.read.bytes import RangeSource
from servicex_server.run.read.rntuple import RNTupleColumns
from servicex_server.run.read.ttree import TTreeColumns
from servicex_server.source.protocol import ByteSource

MOST_FILES = 16
MOST_BYTES = 16 * 1024 * 1024
"""Metadata of all kept files, as they are in the file; in memory they take a few times that."""


@dataclass(slots=True)
class OpenedFile:
    """What is known of a file, apart from where its bytes come from.

    Attributes:
        directory: uproot's view of it, which reads through `source`.
        objects: names of the classes of its objects, if they were asked for.
        trees: its trees that were asked for.
    """

    directory: Any
    source: RangeSource
    objects: dict[str, str] | None = None
    trees: dict[str, TTreeColumns | RNTupleColumns] = field(default_factory=dict)


class KeptFiles:
    """The files that were used last. Whoever takes one has it alone, until it is put back."""

    def __init__(self, most_files: int = MOST_FILES, most_bytes: int = MOST_BYTES) -> None:
        self._most_files = most_files
        self._most_bytes = most_bytes
        self._files: OrderedDict[str, OpenedFile] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, source: ByteSource) -> OpenedFile | None:
        """The file, if it was kept and is still the same, now reading from `source`.

        Raises:
            SourceUnavailable: its bytes cannot be read.
        """
        with self._lock:
            found = self._files.pop(_name(source), None)
        if found is None or not found.source.attach(source):
            return None
        return found

    def put(self, source: ByteSource, file: OpenedFile) -> None:
        """Keeps a file that nobody uses any more."""
        if not file.source.detach():
            return
        with self._lock:
            self._files[_name(source)] = file
            self._files.move_to_end(_name(source))
            while len(self._files) > self._most_files or self._size_bytes() > self._most_bytes:
                self._files.popitem(last=False)

    def _size_bytes(self) -> int:
        return sum(file.source.metadata_bytes for file in self._files.values())


def _name(source: ByteSource) -> str:
    return f"{source.identity} {source.location}"


kept_files = KeptFiles()
"""Of this process."""
