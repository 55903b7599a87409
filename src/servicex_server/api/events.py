"""A request's history as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import ExitStack, aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from servicex_server.api.schemas import wire_time
from servicex_server.errors import InvalidRequest
from servicex_server.model.kinds import FileStatus
from servicex_server.model.naming import show_location
from servicex_server.model.progress import (
    BEFORE_ALL,
    LAST_ID,
    EndNews,
    EventId,
    FileNews,
    News,
    NoNews,
    Progress,
    ProgressNews,
    Standing,
    StateNews,
)
from servicex_server.model.request import Principal
from servicex_server.service import follow, read
from servicex_server.service.context import Services
from servicex_server.service.stream import Streams

logger = logging.getLogger(__name__)

RETRY_MS = 2000
"""When a reader whose connection was lost should come again."""
_SEND_WITHIN_S = 60.0
"""A reader who takes nothing for so long is cut off; he loses nothing but the connection."""

_HEADERS = {
    "Cache-Control": "no-store",
    # nginx holds answers back otherwise
    "X-Accel-Buffering": "no",
}


async def stream_events(
    request: Request, services: Services, principal: Principal, ref: str, after: str | None = None
) -> Response:
    """The answer that tells what happens to the request from some event on, until it ends.

    Args:
        request: whose `Last-Event-ID` says what the reader knows.
        services: what the use cases work with.
        principal: who wants to know.
        ref: UUID or number of the request.
        after: id of the last event that the reader knows, unless the header says so.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        InvalidRequest: that is no id of an event.
        Busy: too many streams are open.
    """
    transform = await read.get_request(services, principal, ref)
    known = parse_event_id(request.headers.get("last-event-id") or after)
    if await follow.is_over(services, transform.id, known):
        # Browsers come again and again after any other answer.
        return Response(status_code=204)
    return EventStream(services.streams, principal.name, follow.follow(services, transform.id, known))


def parse_event_id(text: str | None) -> EventId:
    """The id in a header or query; nothing stands for the one before all others.

    Raises:
        InvalidRequest: it is none.
    """
    if not text:
        return BEFORE_ALL
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= LAST_ID):
        message = f"{text[:40]!r} is not the id of an event; give one that this stream has sent, or none"
        raise InvalidRequest(message)
    return EventId(int(text))


class EventStream(Response):
    """Sends news as they come; holds one of the bounded places while it lasts."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, user: str, news: AsyncGenerator[News, None]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._streams = streams
        self._news = news
        self._exits = ExitStack()
        # At once, so that the answer may still be that there is no place left.
        self._exits.enter_context(streams.open(user))

    async def __call__(
        self,
        scope: Scope,  # noqa: ARG002  the framework's signature
        receive: Receive,
        send: Send,
    ) -> None:
        with self._exits:
            sending = asyncio.ensure_future(self._send(send))
            leaving = asyncio.ensure_future(_disconnect(receive))
            closing = asyncio.ensure_future(self._streams.closing.wait())
            tasks = (sending, leaving, closing)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                is_gone = leaving.done()
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if is_gone:
            return
        try:
            if not sending.cancelled():
                sending.result()
        except TimeoutError:
            logger.info("stream.stuck: its reader takes nothing and is cut off")
            return
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await _put(send, b"retry: %d\n\n" % RETRY_MS)
        async with aclosing(self._news) as all_news:
            async for news in all_news:
                await _put(send, encode(news))


async def _put(send: Send, body: bytes) -> None:
    async with asyncio.timeout(_SEND_WITHIN_S):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _disconnect(receive: Receive) -> None:
    """Returns when the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


def encode(news: News) -> bytes:
    """The news as an event of the stream, or a comment.

    >>> encode(NoNews())
    b': still here\\n\\n'
    """
    match news:
        case FileNews(id=event_id):
            return _event("file", _file(news), event_id)
        case StateNews(standing=standing):
            return _event("state", _state(standing))
        case ProgressNews(progress=progress):
            return _event("progress", _progress(progress))
        case EndNews(id=event_id, standing=standing):
            return _event("end", _end(standing), event_id)
        case NoNews():
            return b": still here\n\n"


def _event(name: str, data: dict[str, object], event_id: EventId | None = None) -> bytes:
    place = b"" if event_id is None else b"id: %d\n" % event_id
    # JSON of one line: line ends inside of texts are escaped.
    return b"%sevent: %s\ndata: %s\n\n" % (place, name.encode(), msgspec.json.encode(data))


def _file(news: FileNews) -> dict[str, object]:
    result = news.result
    return {
        "file_id": result.file_id,
        "path": show_location(result.path),
        "state": "delivered" if result.status is FileStatus.SUCCESS else "failed",
        "reason": result.reason,
        "rows_in": result.n_events_in if news.knows_rows_in else None,
        "rows_out": result.n_events_out,
        "bytes_read": result.bytes_read,
        "bytes_written": result.size_bytes,
        "seconds": round(result.seconds, 6),
        "attempt": result.attempts,
        "object": result.object_name,
        "time": wire_time(result.created_at),
    }


def _state(standing: Standing) -> dict[str, object]:
    return {"state": standing.state.value, "reason": standing.failure_info, **_counts(standing)}


def _counts(standing: Standing | Progress) -> dict[str, object]:
    counts = standing.counts
    return {
        "files": counts.files,
        "delivered": counts.completed,
        "failed": counts.failed,
        "remaining": counts.remaining,
    }


def _progress(progress: Progress) -> dict[str, object]:
    rates = progress.rates
    return {
        **_counts(progress),
        "rows_in": progress.total_events,
        "bytes_written": progress.total_bytes,
        "files_per_s": round(rates.files_per_s, 3),
        "input_mb_per_s": round(rates.input_mb_per_s, 3),
        "events_per_s": round(rates.events_per_s, 1) if progress.total_events is not None else None,
        "eta_s": round(progress.eta_s, 1) if progress.eta_s is not None else None,
        "lacks_workers": progress.lacks_workers,
    }


def _end(standing: Standing) -> dict[str, object]:
    end = standing.finish_time or standing.last_time
    return {
        **_state(standing),
        "bytes_written": standing.total_bytes,
        "rows_in": standing.total_events,
        "seconds": round(max(0.0, (end - standing.active_since).total_seconds()), 3),
        "time": wire_time(end),
    }
