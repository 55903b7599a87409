"""Answers to polls, ready-made: the same bytes again while nothing has changed, and never for long.

Clients poll the status of requests day and night, and an answer from the database costs ten times as much as
the same bytes again. They are at most 200 ms old, and no commit of this process lies between them and now: so
no poll sees a request run that somebody was told has ended. Where other processes change requests too, every
answer is made anew.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicex_server.api.measure import note_route

_AT_MOST_S = 0.2
_MOST_ANSWERS = 256
_MOST_BYTES = 64 * 1024
"""Of one answer; a selection in it may be larger, but hardly ever is."""
_PREFIX = "/servicex/transformation"
_POLLED = re.compile(rf"{_PREFIX}/[^/]+(/status)?")
_ASKED_WITH = frozenset({b"authorization", b"host", b"accept"})
"""Headers that decide about an answer: who asks, and what he calls this server."""

_Key = tuple[str, str, tuple[tuple[bytes, bytes], ...]]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What was sent.

    Attributes:
        version: of the database, before it was read.
        made_s: when that was.
    """

    version: int
    made_s: float
    start: Message
    body: Message


class ReadyMade:
    """Gives polls the answer that the same caller got a moment ago.

    Args:
        app: makes answers.
        version: of what answers are made from; None while it changes.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, app: ASGIApp, version: Callable[[], int | None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._version = version
        self._clock = clock
        self._answers: dict[_Key, _Answer] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_poll(scope):
            await self._app(scope, receive, send)
            return
        asked_with = tuple(header for header in scope["headers"] if header[0] in _ASKED_WITH)
        key = (scope["path"], scope["scheme"], asked_with)
        version, now_s = self._version(), self._clock()
        answer = self._answers.get(key)
        if answer is None or answer.version != version or now_s - answer.made_s > _AT_MOST_S:
            sent: list[Message] = []
            await self._app(scope, receive, partial(_keep, sent, send))
            if version is not None and _is_whole(sent):
                self._put(key, _Answer(version, now_s, *sent))
            return
        note_route(scope, f"{_PREFIX}/{{ref}}{'/status' if key[0].endswith('/status') else ''}")
        await send(dict(answer.start))
        await send(answer.body)

    def _put(self, key: _Key, answer: _Answer) -> None:
        if len(self._answers) >= _MOST_ANSWERS:
            self._answers.clear()
        self._answers[key] = answer


async def _keep(sent: list[Message], send: Send, message: Message) -> None:
    # Those further out change the message that they are given.
    sent.append(dict(message))
    await send(message)


def _is_poll(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or scope["query_string"]:
        return False
    return _POLLED.fullmatch(scope["path"]) is not None


def _is_whole(sent: list[Message]) -> bool:
    """Whether these are a success, all of it, and small."""
    if len(sent) != 2 or sent[0]["type"] != "http.response.start" or sent[1].get("more_body", False):
        return False
    return sent[0]["status"] == 200 and len(sent[1].get("body", b"")) <= _MOST_BYTES
