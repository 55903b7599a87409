"""Byte frames on a stream: four bytes of length (big-endian), then that many bytes of msgpack."""

from __future__ import annotations

import asyncio
import struct
from typing import Protocol, TypeVar

import msgspec

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Far above any honest unit (its selection text is bounded by the API), far below what memory allows."""

_LENGTH = struct.Struct("!I")


T_co = TypeVar("T_co", covariant=True)


class FrameError(ValueError):
    """The bytes are not what the protocol allows."""


class Decoder(Protocol[T_co]):
    """What `msgspec.msgpack.Decoder` offers."""

    def decode(self, buf: bytes, /) -> T_co: ...


def decode(decoder: Decoder[T_co], data: bytes) -> T_co:
    """What `data` holds.

    Raises:
        FrameError: it is not what the decoder expects. msgspec has several exceptions for that.
    """
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"unexpected bytes: {error}"
        raise FrameError(message) from error


def pack_frame(body: bytes, limit: int = MAX_FRAME_BYTES) -> bytes:
    """`body` with its length in front.

    Raises:
        FrameError: `body` is larger than `limit`.
    """
    if len(body) > limit:
        message = f"a message of {len(body)} bytes is larger than the allowed {limit}"
        raise FrameError(message)
    return _LENGTH.pack(len(body)) + body


def unpack_length(prefix: bytes, limit: int = MAX_FRAME_BYTES) -> int:
    """The length that the first four bytes of a frame announce.

    Raises:
        FrameError: it is above `limit`.
    """
    (length,) = _LENGTH.unpack(prefix)
    if length > limit:
        message = f"a message announces {length} bytes, more than the allowed {limit}"
        raise FrameError(message)
    return int(length)


async def read_frame(reader: asyncio.StreamReader, limit: int = MAX_FRAME_BYTES) -> bytes | None:
    """The next frame's body, or None when the other side has gone (also in the middle of a frame).

    Raises:
        FrameError: the frame announces more than `limit` bytes; the stream is unusable from here on.
    """
    try:
        prefix = await reader.readexactly(_LENGTH.size)
        return await reader.readexactly(unpack_length(prefix, limit))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
