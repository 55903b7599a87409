"""A result file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from servicex_server.errors import ResourceExhausted
from servicex_server.model.compression import Compression, default_compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.write.arrow import ArrowWriter
from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.parquet import ParquetWriter
from servicex_server.run.write.protocol import Writer
from servicex_server.run.write.root import RootWriter

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Codes of the system's errors that mean: there is no room for more."""


@contextlib.contextmanager
def new_result(
    path: Path,
    result_format: ResultFormat,
    compression: Compression | None = None,
    *,
    provenance: Mapping[str, str] | None = None,
    n_threads: int = 1,
) -> Iterator[Writer]:
    """A writer whose file is on disk and in its place when the block ends well, and gone otherwise.

    Args:
        compression: one that the format offers; None for the format's default.
        provenance: what the file says of its origin, in formats that have a place for it (not ROOT).
        n_threads: to encode with, for formats that can.

    Raises:
        ResourceExhausted: the disk is full.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}"[:200])
    try:
        codec = compression or default_compression(result_format)
        writer = _open(part, result_format, codec, provenance or {}, n_threads)
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
        if error.errno in DISK_FULL:
            message = "no space is left for the result"
            raise ResourceExhausted(message) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def _open(
    path: Path,
    result_format: ResultFormat,
    compression: Compression,
    provenance: Mapping[str, str],
    n_threads: int,
) -> Writer:
    match result_format:
        case ResultFormat.PARQUET:
            return ParquetWriter(path, _to_options(compression), provenance, n_threads=n_threads)
        case ResultFormat.ARROW:
            return ArrowWriter(path, compression, provenance)
        case ResultFormat.HDF5:
            # Imported for those who ask for it: it costs each worker's start, and nobody else.
            from servicex_server.run.write.hdf5 import Hdf5Writer  # noqa: PLC0415

            return Hdf5Writer(path, compression, provenance)
        case ResultFormat.ROOT_FILE | ResultFormat.ROOT_RNTUPLE:
            return RootWriter(path, result_format, compression)


def _to_options(compression: Compression) -> ParquetOptions:
    match compression.codec:
        case "lz4":
            # The format's older `lz4` is of an unclear framing; `lz4_raw` is its own replacement for that.
            return ParquetOptions(compression="lz4_raw", split_floats=compression.is_split)
        case "zstd" | "gzip" | "snappy" | "none" as codec:
            return ParquetOptions(
                compression=codec, level=compression.level, split_floats=compression.is_split
            )
    message = f"Parquet has no compression {compression.codec!r}"
    raise ValueError(message)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
