"""A remote file, fetched whole: nothing inside a sandbox can fetch the rest later."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from servicex_server.errors import ResourceExhausted, SourceRefused
from servicex_server.run.sandbox.limits import show_bytes
from servicex_server.source.policy import scheme_of
from servicex_server.source.protocol import ByteSource

PIECE_BYTES = 16 * 2**20
SPARE_BYTES = 2**30
"""Left free on the disk, for everybody else's results."""

_UNSUITABLE = re.compile(r"[^A-Za-z0-9._+=@-]")


def stage(source: ByteSource, path: Path, limit_bytes: int) -> None:
    """Copies a source to `path`.

    Raises:
        SourceRefused: it is larger than scripts may ask for.
        ResourceExhausted: the disk has no room for it.
        SourceUnavailable, SourceCorrupt: it cannot be read.
    """
    if source.size_bytes > limit_bytes:
        message = (
            f"{source.location} has {show_bytes(source.size_bytes)}; a python query reads remote files "
            f"of up to {show_bytes(limit_bytes)}, because they are fetched whole"
        )
        raise SourceRefused(message)
    free_bytes = shutil.disk_usage(path.parent).free
    if source.size_bytes > free_bytes - SPARE_BYTES:
        message = f"no space to fetch {source.location}: {show_bytes(free_bytes)} are free"
        raise ResourceExhausted(message)
    with path.open("xb") as target:
        for start in range(0, source.size_bytes, PIECE_BYTES):
            stop = min(start + PIECE_BYTES, source.size_bytes)
            (piece,) = source.read_ranges([(start, stop)])
            target.write(piece)


def plain_name(location: str) -> str:
    """The name that a file has inside: its own, without what file format libraries take for syntax.

    >>> plain_name("root://host:1094//store/a:b c.root")
    'a_b_c.root'
    """
    path = location if scheme_of(location) is None else unquote(urlsplit(location).path)
    name = _UNSUITABLE.sub("_", path.rstrip("/").rpartition("/")[2])[-150:].lstrip(".-")
    return name or "input.root"
