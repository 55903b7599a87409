"""Compression of pages. The codecs are those of the format, see Compression.md of parquet-format."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import cramjam
import deflate
import zstandard

from servicex_server.run.write.encode.options import LEVELS, ParquetOptions

CODECS = {"none": 0, "snappy": 1, "gzip": 2, "zstd": 6, "lz4_raw": 7}
"""Numbers of the codecs in column metadata (`CompressionCodec` of parquet.thrift)."""

Buffer = Any
"""bytes, or anything else that gives its bytes without a copy."""

_local = threading.local()


def compressor(options: ParquetOptions) -> Callable[[Buffer], Buffer] | None:
    """What compresses one page in the calling thread; None for no compression."""
    match options.compression:
        case "zstd":
            return _zstd(options)
        case "gzip":
            level = LEVELS["gzip"][2] if options.level is None else options.level
            return lambda data: deflate.gzip_compress(data, level)
        case "snappy":
            return lambda data: memoryview(cramjam.snappy.compress_raw(data))
        case "lz4_raw":
            return lambda data: memoryview(cramjam.lz4.compress_block(data, store_size=False))
        case "none":
            return None


def _zstd(options: ParquetOptions) -> Callable[[Buffer], Buffer]:
    # A compressor must not be used by two threads at once, and making one costs more than a small page.
    level = LEVELS["zstd"][2] if options.level is None else options.level
    by_level: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("by_level", {})
    if level not in by_level:
        by_level[level] = zstandard.ZstdCompressor(level=level)
    return by_level[level].compress
