"""Pieces of ROOT files made by hand: compressed blocks, baskets, and a file in memory."""

from __future__ import annotations

import functools
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cramjam
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard

from servicex_server.source import ranges


def _lz4(data: bytes) -> bytes:
    packed = bytes(cramjam.lz4.compress_block(data, store_size=False))
    return xxhash.xxh64_digest(packed) + packed


CODECS: Mapping[str, Callable[[bytes], bytes]] = {
    "ZL": zlib.compress,
    "ZS": zstandard.ZstdCompressor().compress,
    "L4": _lz4,
    "XZ": functools.partial(lzma.compress, preset=1),
}


@functools.lru_cache(maxsize=64)
def compress(data: bytes, codec: str, block_bytes: int = 2**24 - 1) -> bytes:
    """Blocks as ROOT writes them, each of no more than `block_bytes`."""
    packed = []
    for start in range(0, len(data), block_bytes):
        piece = data[start : start + block_bytes]
        block = CODECS[codec](piece)
        sizes = len(block).to_bytes(3, "little") + len(piece).to_bytes(3, "little")
        packed.append(codec.encode() + b"\x08" + sizes + block)
    return b"".join(packed)


def basket_bytes(
    content: bytes,
    n_entries: int,
    *,
    starts: Sequence[int] | None = None,
    codec: str | None = None,
    is_far: bool = False,
) -> bytes:
    """A basket with its key.

    Args:
        starts: where in the content each entry begins; None for a basket without that table.
        is_far: with addresses of eight bytes, as beyond 2 GB.
    """
    names = b"\x07TBasket\x01x\x01t"
    addresses = struct.pack(">qq" if is_far else ">ii", 100, 50)
    header_bytes = struct.calcsize(">ihiIhh") + len(addresses) + len(names) + struct.calcsize(">HiiiiB")
    payload = content
    if starts is not None:
        values = [header_bytes + start for start in starts]
        payload += struct.pack(f">{len(values) + 2}i", len(values) + 1, *values, 0)
    packed = payload if codec is None else compress(payload, codec)
    # What cannot be compressed is kept as it is, and told by its size.
    stored = packed if len(packed) < len(payload) else payload
    version = 1004 if is_far else 4
    key = struct.pack(">ihiIhh", header_bytes + len(stored), version, len(payload), 0, header_bytes, 1)
    own = struct.pack(">HiiiiB", 3, 32000, 1000, n_entries, header_bytes + len(content), 0)
    return key + addresses + names + own + stored


def vectors(lists: Sequence[npt.NDArray[Any]], dtype: str) -> tuple[bytes, list[int]]:
    """A `std::vector` per entry as ROOT stores it, and where each begins."""
    content, starts = b"", []
    for values in lists:
        starts.append(len(content))
        content += struct.pack(">IHI", 0x40000000 | (6 + values.nbytes), 9, len(values))
        content += values.astype(dtype).tobytes()
    return content, starts


def lists_of(rng: np.random.Generator, n_lists: int, dtype: str) -> list[npt.NDArray[Any]]:
    return [rng.integers(0, 100, rng.integers(0, 4)).astype(dtype) for _ in range(n_lists)]


@dataclass
class MemorySource:
    """A `ByteSource` of bytes at hand, which remembers what was read."""

    data: bytes
    location: str = "/memory/file.root"
    bytes_read: int = 0

    def __post_init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.n_requests = 0

    @property
    def identity(self) -> str:
        return f"memory:{self.location}:{len(self.data)}"

    @property
    def fingerprint(self) -> str | None:
        return None

    @property
    def size_bytes(self) -> int:
        return len(self.data)

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        ranges.check_within(wanted, len(self.data), self.location)
        self.asked += wanted
        self.n_requests += 1
        self.bytes_read += sum(stop - start for start, stop in wanted)
        return [self.data[start:stop] for start, stop in wanted]

    def close(self) -> None:
        pass
