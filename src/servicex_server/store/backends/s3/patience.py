"""How long we wait for the store, and how often we ask again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class S3Patience:
    """Bounds in time; all of them end in StoreUnavailable.

    Attributes:
        connect_s: for a connection.
        stall_s: for the next bytes of an answer.
        call_s: for one call other than reading an object: at least a part of an upload must fit in.
        read_s: for calls of the server, in which failed ones are tried again, and for a stream that has
            lost its connection to go on.
        put_s: for a worker's put, whose result is worth more patience: computing it again costs more.
    """

    connect_s: float = 5.0
    stall_s: float = 20.0
    call_s: float = 120.0
    read_s: float = 10.0
    put_s: float = 60.0


def pauses() -> Iterator[float]:
    """Pauses between attempts: doubling, bounded, and with jitter so that workers do not come in step."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s * random.uniform(0.5, 1.5)  # noqa: S311  no secret
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
