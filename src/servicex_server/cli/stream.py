"""The events of a request, read from a server that may come and go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from servicex_server.errors import Busy, NotFound, ServicexError

if TYPE_CHECKING:
    import httpx

_NO_CONTENT = 204
_SHORTEST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_LARGEST_EVENT = 2**20


class ContactLost(ServicexError):
    """The server does not answer any more."""


class Refused(ServicexError):
    """The server does not let you."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `id` is its place in the request's history, None for what has none."""

    name: str
    data: dict[str, object]
    id: str | None = None


def parse(chunks: Iterable[bytes]) -> Iterator[Event]:
    """The events in a stream's bytes; what is cut off at its end is left out.

    >>> list(parse([b': hi\\n\\nid: 7\\nevent: end\\nda', b'ta: {"state": "Complete"}\\n\\nid: 8\\nev']))
    [Event(name='end', data={'state': 'Complete'}, id='7')]
    """
    rest = b""
    for chunk in chunks:
        *blocks, rest = (rest + chunk).split(b"\n\n")
        for block in blocks:
            event = _parse_block(block)
            if event is not None:
                yield event
        if len(rest) > _LARGEST_EVENT:
            message = (
                f"the server sent an event of more than {_LARGEST_EVENT} bytes; is it a ServiceX server?"
            )
            raise ContactLost(message)


def _parse_block(block: bytes) -> Event | None:
    fields: dict[bytes, bytes] = {}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        fields[name] = value.removeprefix(b" ")
    if b"data" not in fields:
        return None
    place = fields.get(b"id")
    try:
        data = json.loads(fields[b"data"])
    except ValueError as error:
        message = "the server sent an event that is no JSON; is it a ServiceX server?"
        raise ContactLost(message) from error
    return Event(
        fields.get(b"event", b"message").decode(errors="replace"),
        data if isinstance(data, dict) else {},
        None if place is None else place.decode(errors="replace"),
    )


def read_events(
    client: httpx.Client,
    ref: str,
    *,
    patience_s: float,
    on_trouble: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Event]:
    """Every event of the request up to its end; those of the sequence once, over however many connections.

    Args:
        client: of the server.
        ref: the request.
        patience_s: how long the server may be away.
        on_trouble: hears why a connection was lost.
        sleep: waits for so many seconds.
        clock: tells seconds that nobody sets.

    Raises:
        ContactLost: the server stayed away.
        NotFound: there is no such request (any more).
        Refused: it is not for the caller.
    """
    last: str | None = None
    pauses = _Pauses(patience_s, clock)
    while True:
        try:
            with _open(client, ref, last) as answer:
                pauses.end()
                if answer.status_code == _NO_CONTENT:
                    return  # the end is known
                for event in parse(answer.iter_bytes()):
                    last = event.id or last
                    yield event
                    if event.name == "end":
                        return
            trouble = "the server ended the stream"
        except Busy as error:
            trouble = error.message
        pause_s = pauses.next_s(trouble)
        on_trouble(trouble)
        sleep(pause_s)


class _Pauses:
    """How long to wait before the next try, and when to give up."""

    def __init__(self, patience_s: float, clock: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._clock = clock
        self._since_s: float | None = None
        self._next_s = _SHORTEST_PAUSE_S

    def end(self) -> None:
        """The server is there."""
        self._since_s, self._next_s = None, _SHORTEST_PAUSE_S

    def next_s(self, trouble: str) -> float:
        now_s = self._clock()
        self._since_s = now_s if self._since_s is None else self._since_s
        if now_s - self._since_s > self._patience_s:
            message = (
                f"the server was away for more than {self._patience_s:g} s ({trouble}); the request may go on"
            )
            raise ContactLost(message)
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, _LONGEST_PAUSE_S)
        return pause_s


@contextmanager
def _open(client: httpx.Client, ref: str, last: str | None) -> Iterator[httpx.Response]:
    """The stream after that event; a connection that cannot be made or kept is Busy."""
    import httpx  # noqa: PLC0415  keeps --help quick

    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last is not None else {})
    path = f"/servicex/transformation/{quote(ref, safe='')}/events"
    try:
        with client.stream("GET", path, headers=headers) as answer:
            if answer.status_code != _NO_CONTENT:
                check(answer)
            yield answer
    except httpx.TransportError as error:
        message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise Busy(message) from error


def check(answer: httpx.Response) -> None:
    """Returns if the answer is what was asked for.

    Raises:
        NotFound, Refused, Busy: what the server says instead.
    """
    status = answer.status_code
    if status == 200:
        return
    try:
        said = str(json.loads(answer.read())["message"])
    except (ValueError, LookupError, TypeError):
        said = f"the server answers {status}"
    if status == 404:
        raise NotFound(said)
    if status >= 500:
        raise Busy(said)
    raise Refused(said)
