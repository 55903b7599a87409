"""A result file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from servicex_server.errors import ResourceExhausted
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.write.parquet import ParquetWriter
from servicex_server.run.write.protocol import Writer
from servicex_server.run.write.root import RootWriter

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def new_result(
    path: Path,
    result_format: ResultFormat,
    *,
    provenance: Mapping[str, str] | None = None,
) -> Iterator[Writer]:
    """A writer whose file is on disk and in its place when the block ends well, and gone otherwise.

    Args:
        provenance: what the file says of its origin, in formats that have a place for it (Parquet).

    Raises:
        ResourceExhausted: the disk is full.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}"[:200])
    try:
        writer = _open(part, result_format, provenance)
        try:
            yield writer
            writer.finish()
        except BaseException:
            # What matters is the first error, not that half a file cannot be closed properly.
            with contextlib.suppress(Exception):
                writer.abandon()
            raise
        _sync(part)
        part.replace(path)
    except OSError as error:
        if error.errno in _FULL:
            message = "no space is left for the result"
            raise ResourceExhausted(message) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _open(path: Path, result_format: ResultFormat, provenance: Mapping[str, str] | None) -> Writer:
    if result_format is ResultFormat.PARQUET:
        return ParquetWriter(path, provenance=provenance)
    return RootWriter(path, result_format)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
