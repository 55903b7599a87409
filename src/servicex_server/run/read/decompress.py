"""ROOT's compression: blocks behind headers of nine bytes, each unpacked by the fastest wheel. Pure.

A header names the codec in two letters, then holds a byte of the codec's own, and the sizes of the block
packed and unpacked as three bytes each, little-endian:
https://root.cern.ch/doc/master/RZip_8cxx_source.html. All codecs used here release the GIL.
"""

from __future__ import annotations

import lzma
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cramjam
import deflate
import numpy as np
import numpy.typing as npt
import xxhash
import zstandard
from isal import igzip_lib

from servicex_server.run.read.buffer import KeptBuffer

Bytes: TypeAlias = npt.NDArray[np.uint8]

_HEADER_BYTES = 9
_CHECKSUM_BYTES = 8
"""LZ4 blocks begin with the XXH64 of what follows."""
_LZMA_MEMORY_BYTES = 128 * 1024 * 1024
"""The largest preset needs 65 MiB; a block's header could ask for 4 GiB."""
MOST_BYTES = 1 << 30
"""Of one basket, uncompressed: also ROOT's bound on a buffer."""


class UnknownCodec(ValueError):
    """Bytes in a compression that this module does not know."""


@dataclass(frozen=True, slots=True)
class Block:
    """One compressed block.

    Attributes:
        codec: two letters.
        packed: its bytes without the header.
        size_bytes: how many they become.
    """

    codec: bytes
    packed: memoryview
    size_bytes: int


def split_blocks(data: memoryview, size_bytes: int) -> list[Block]:
    """The blocks in `data`, which must together become exactly `size_bytes`.

    Raises:
        ValueError: the headers do not add up, or the size is out of bounds.
    """
    if size_bytes > MOST_BYTES:
        message = f"{size_bytes} bytes in one piece, and at most {MOST_BYTES} are read"
        raise ValueError(message)
    blocks = list(_walk(data))
    total = sum(block.size_bytes for block in blocks)
    if total != size_bytes:
        message = f"its compressed blocks hold {total} bytes where {size_bytes} are due"
        raise ValueError(message)
    return blocks


def _walk(data: memoryview) -> Iterator[Block]:
    position = 0
    while position < len(data):
        header = bytes(data[position : position + _HEADER_BYTES])
        start = position + _HEADER_BYTES
        packed = int.from_bytes(header[3:6], "little")
        if len(header) < _HEADER_BYTES or start + packed > len(data):
            message = f"the compressed block at byte {position} of {len(data)} is truncated"
            raise ValueError(message)
        yield Block(header[:2], data[start : start + packed], int.from_bytes(header[6:9], "little"))
        position = start + packed


class Decompressor:
    """Unpacks blocks into a buffer of its own, which the next call overwrites. For one thread."""

    def __init__(self) -> None:
        self._buffer = KeptBuffer()
        self._zstd = zstandard.ZstdDecompressor()
        self._codecs: Mapping[bytes, Callable[[memoryview, Bytes, int], Bytes]] = {
            b"ZL": _read_zlib,
            b"ZS": self._read_zstd,
            b"L4": _read_lz4,
            b"XZ": _read_lzma,
        }

    def read(self, blocks: Sequence[Block], want: int) -> Bytes:
        """The first `want` bytes of what the blocks hold, or a few more; valid until the next call.

        A codec that can stop early does, and then its check sum over the whole is not looked at.

        Raises:
            UnknownCodec: a block is in another compression.
            ValueError: a block does not hold what its header says.
        """
        scratch = self._buffer.room(sum(block.size_bytes for block in blocks))
        filled = 0
        for block in blocks:
            if filled >= want:
                break
            part = min(block.size_bytes, want - filled)
            piece = self._read_block(block, scratch[filled : filled + block.size_bytes], part)
            if len(piece) >= want:
                return piece
            scratch[filled : filled + len(piece)] = piece
            filled += len(piece)
        return scratch[:filled]

    def _read_block(self, block: Block, room: Bytes, want: int) -> Bytes:
        read = self._codecs.get(block.codec)
        if read is None:
            message = f"unknown compression {block.codec!r}"
            raise UnknownCodec(message)
        try:
            piece = read(block.packed, room, want)
        except MemoryError:
            raise
        except Exception as error:  # each codec raises its own
            message = f"a {block.codec.decode()} block cannot be decompressed: {error}"
            raise ValueError(message) from error
        if not want <= len(piece) <= block.size_bytes:
            message = f"a {block.codec.decode()} block holds {len(piece)} bytes where {want} are due"
            raise ValueError(message)
        return piece

    def _read_zstd(self, packed: memoryview, room: Bytes, want: int) -> Bytes:
        # As a stream: one-shot calls allocate what the frame's header says, however much that is.
        stream = self._zstd.stream_reader(packed, read_size=len(packed))
        target = room.data[:want]
        filled = 0
        while filled < want:
            got = stream.readinto(target[filled:])
            if not got:
                break
            filled += got
        if want == len(room) and stream.read(1):
            message = f"it holds more than {want} bytes"
            raise ValueError(message)
        return room[:filled]


def _read_zlib(packed: memoryview, room: Bytes, want: int) -> Bytes:
    if want == len(room):
        return np.frombuffer(deflate.zlib_decompress(packed, want), np.uint8)
    inflator = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
    return np.frombuffer(inflator.decompress(packed, want), np.uint8)


def _read_lz4(packed: memoryview, room: Bytes, want: int) -> Bytes:
    del want  # blocks of LZ4 come whole
    checksum, content = packed[:_CHECKSUM_BYTES], packed[_CHECKSUM_BYTES:]
    if xxhash.xxh64_digest(content) != checksum:
        message = "its check sum is wrong"
        raise ValueError(message)
    return room[: cramjam.lz4.decompress_block_into(content, room.data, output_len=len(room))]


def _read_lzma(packed: memoryview, room: Bytes, want: int) -> Bytes:
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES)
    # One byte more than the whole: it must not be there, and the check sum is looked at.
    most = want + 1 if want == len(room) else want
    return np.frombuffer(unpacker.decompress(packed, most), np.uint8)


class _Thread(threading.local):
    """What each thread has for itself."""

    def __init__(self) -> None:
        self.decompressor = Decompressor()


_thread = _Thread()


def decompressor() -> Decompressor:
    """This thread's own."""
    return _thread.decompressor
