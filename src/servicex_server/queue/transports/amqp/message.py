"""What leader and workers say to each other through the broker, one msgpack array per message."""

from __future__ import annotations

from typing import NewType

import msgspec

from servicex_server.model.ids import RequestId
from servicex_server.model.unit import PreflightUnit, Unit

MAX_BYTES = 8 * 1024 * 1024
"""Below what brokers take (16 MiB from RabbitMQ 4 on): a larger message would close the channel."""

UnitKey = NewType("UnitKey", str)
"""One attempt at one piece of work, the same for every leader that publishes it."""


def key_of(unit: Unit) -> UnitKey:
    """The name of this attempt."""
    if isinstance(unit, PreflightUnit):
        return UnitKey(f"{unit.request_id}/preflight")
    return UnitKey(f"{unit.request_id}/{unit.file_id}-{unit.entry_start}-{unit.attempt}")


def request_of(key: UnitKey) -> RequestId:
    """The request that the attempt belongs to."""
    return RequestId(key.rpartition("/")[0])


def is_preflight(key: UnitKey) -> bool:
    return key.endswith("/preflight")


class Work(msgspec.Struct, frozen=True, array_like=True, tag="work"):
    """Leader to one worker: a unit (encoded).

    Attributes:
        stamp: grows with every publication of a leader; says whether it was before a cancellation.
    """

    stamp: int
    unit: bytes


class Outcome(msgspec.Struct, frozen=True, array_like=True, tag="outcome"):
    """Worker to the leader: how the unit with that key and stamp ended (an encoded report)."""

    key: str
    stamp: int
    report: bytes


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag="heartbeat"):
    """Worker to the leader: still here.

    Attributes:
        worker: unlike every other.
        slots: transforms that it takes at once; 0 while it drains.
        hands: key and stamp of every unit that it has taken and not reported.
        is_last: it goes now, and has nothing in hand.
    """

    worker: str
    slots: int
    hands: tuple[tuple[str, int], ...] = ()
    is_last: bool = False


class Cancel(msgspec.Struct, frozen=True, array_like=True, tag="cancel"):
    """Leader to all workers: abandon the request's units with that stamp or an earlier one."""

    request_id: str
    stamp: int


class RollCall(msgspec.Struct, frozen=True, array_like=True, tag="roll-call"):
    """Leader to all workers: tell at once what you have in hand."""


class Hint(msgspec.Struct, frozen=True, array_like=True, tag="hint"):
    """App to all apps: these requests changed."""

    sender: str
    request_ids: tuple[str, ...]


Order = Cancel | RollCall
Message = Work | Outcome | Heartbeat | Cancel | RollCall | Hint

works = msgspec.msgpack.Decoder(Work)
outcomes = msgspec.msgpack.Decoder(Outcome)
heartbeats = msgspec.msgpack.Decoder(Heartbeat)
orders = msgspec.msgpack.Decoder(Order)
hints = msgspec.msgpack.Decoder(Hint)
_encoder = msgspec.msgpack.Encoder()


def pack(message: Message) -> bytes:
    """The message as bytes."""
    return _encoder.encode(message)
