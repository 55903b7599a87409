"""What server and workers say to each other, one message per frame."""

from __future__ import annotations

from typing import Annotated

import msgspec

from servicex_server.queue.frame import pack_frame

VERSION = 1
"""Raised with every change here: a worker of another release is turned away instead of misunderstood."""

MAX_SLOTS = 4096


class Hello(msgspec.Struct, frozen=True, array_like=True, tag="hello"):
    """Worker: here I am, with that many slots. Always the first message."""

    version: int
    slots: Annotated[int, msgspec.Meta(ge=1, le=MAX_SLOTS)]


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    """Worker: still alive."""


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """Worker: this lease ended so (an encoded report)."""

    number: int
    report: bytes


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """Worker: this unit was not worked on (or was canceled)."""

    number: int


class Drain(msgspec.Struct, frozen=True, array_like=True, tag="drain"):
    """Worker: no further units, please."""


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag="welcome"):
    """Server: send heartbeats that often. Answers `Hello`."""

    heartbeat_s: float


class Lease(msgspec.Struct, frozen=True, array_like=True, tag="lease"):
    """Server: work on this (an encoded unit)."""

    number: int
    unit: bytes


class Confirm(msgspec.Struct, frozen=True, array_like=True, tag="confirm"):
    """Server: the report of this lease is in safe hands."""

    number: int


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Server: abandon the units of this request."""

    request_id: str


FromWorker = Hello | Heartbeat | Done | Release | Drain
FromServer = Welcome | Lease | Confirm | Cancel

from_worker = msgspec.msgpack.Decoder(FromWorker)
from_server = msgspec.msgpack.Decoder(FromServer)
_encoder = msgspec.msgpack.Encoder()


def pack(message: FromWorker | FromServer) -> bytes:
    """The message as a frame; raises FrameError when it is too large."""
    return pack_frame(_encoder.encode(message))
