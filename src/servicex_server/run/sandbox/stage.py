"""A remote file, fetched whole: nothing inside a sandbox can fetch the rest later."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from servicex_server.errors import ResourceExhausted, SourceRefused, SourceUnavailable
from servicex_server.run.sandbox.limits import show_bytes
from servicex_server.source.policy import scheme_of
from servicex_server.source.protocol import ByteSource

PIECE_BYTES = 16 * 2**20
SPARE_BYTES = 2**30
"""Left free on the disk, for everybody else's results."""

_PREFIX = "staged-"
_UNSUITABLE = re.compile(r"[^A-Za-z0-9._+=@-]")


@contextmanager
def staged(source: ByteSource, scratch: Path, limit_bytes: int, deadline: float) -> Iterator[Path]:
    """A copy of a source in the folder `scratch`, which is gone when the block ends.

    It is locked meanwhile: `remove_abandoned` can tell whether its process lives, on whatever machine.

    Args:
        limit_bytes: the largest source to fetch.
        deadline: when to give up, on the monotonic clock.

    Raises:
        SourceRefused: it is larger than scripts may ask for.
        ResourceExhausted: the disk has no room for it.
        SourceUnavailable, SourceCorrupt: it cannot be read, or not in time.
    """
    if source.size_bytes > limit_bytes:
        message = (
            f"{source.location} has {show_bytes(source.size_bytes)}; a python query reads remote files "
            f"of up to {show_bytes(limit_bytes)}, because they are fetched whole"
        )
        raise SourceRefused(message)
    free_bytes = shutil.disk_usage(scratch).free
    if source.size_bytes > free_bytes - SPARE_BYTES:
        message = f"no space to fetch {source.location}: {show_bytes(free_bytes)} are free"
        raise ResourceExhausted(message)
    with tempfile.NamedTemporaryFile(prefix=_PREFIX, dir=scratch, buffering=0) as copy:
        # Where the file system knows no locks, a copy that was left goes with all that is old.
        with suppress(OSError):
            fcntl.flock(copy.fileno(), fcntl.LOCK_EX)
        _fetch(source, copy.file, deadline)
        yield Path(copy.name)


def _fetch(source: ByteSource, target: IO[bytes], deadline: float) -> None:
    for start in range(0, source.size_bytes, PIECE_BYTES):
        stop = min(start + PIECE_BYTES, source.size_bytes)
        (piece,) = source.read_ranges([(start, stop)])
        view = memoryview(piece)
        while view:
            view = view[target.write(view) :]
        if time.monotonic() > deadline:
            message = (
                f"{source.location} could not be fetched in time: "
                f"{show_bytes(stop)} of {show_bytes(source.size_bytes)} came"
            )
            raise SourceUnavailable(message)


def remove_abandoned(scratch: Path) -> int:
    """Removes the copies whose processes were killed; returns how many."""
    n_removed = 0
    for path in scratch.glob(f"{_PREFIX}*"):
        # Busy, already gone, or nothing that can be locked.
        with suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            # An empty one may be about to be locked.
            if os.fstat(file.fileno()).st_size:
                path.unlink()
                n_removed += 1
    return n_removed


def plain_name(location: str) -> str:
    """The name that a file has inside: its own, without what file format libraries take for syntax.

    >>> plain_name("root://host:1094//store/a:b c.root")
    'a_b_c.root'
    """
    path = location if scheme_of(location) is None else unquote(urlsplit(location).path)
    name = _UNSUITABLE.sub("_", path.rstrip("/").rpartition("/")[2])[-150:].lstrip(".-")
    return name or "input.root"
