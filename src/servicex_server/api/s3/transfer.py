"""Sends an object's bytes as fast as the client takes them, and stops when the client is gone."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

import anyio
from starlette.types import Receive, Send

from servicex_server.errors import ServicexError

STALL_S = 300.0
"""A client that takes nothing for so long is given up."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer; `size_bytes` is its content-length."""

    status: int
    headers: Mapping[str, str]
    size_bytes: int


async def send_pieces(
    head: Head, first: bytes, rest: AsyncGenerator[bytes, None], receive: Receive, send: Send
) -> None:
    """Sends `head`, `first` and `rest`.

    A piece is read only after the one before it has left for the client, so that a slow client costs
    no more memory than a fast one. If `rest` ends early, or with an error of ours, the answer stays
    unfinished: the server underneath then closes the connection and the client knows that bytes are missing.
    """
    async with anyio.create_task_group() as group:
        group.start_soon(_watch_for_disconnect, receive, group.cancel_scope)
        await send({"type": "http.response.start", "status": head.status, "headers": _encode(head.headers)})
        n_sent = 0
        piece = first
        while True:
            n_sent += len(piece)
            is_last = n_sent >= head.size_bytes
            with anyio.move_on_after(STALL_S) as patience:
                await send({"type": "http.response.body", "body": piece, "more_body": not is_last})
            if is_last:
                break
            piece, reason = b"", "the client takes nothing"
            if not patience.cancelled_caught:
                piece, reason = await _take(rest)
            if not piece:
                logger.warning("object.cut: %d of %d bytes sent, %s", n_sent, head.size_bytes, reason)
                break
        group.cancel_scope.cancel()


async def _take(rest: AsyncGenerator[bytes, None]) -> tuple[bytes, str]:
    """The next piece; if there is none, why."""
    try:
        return await anext(rest, b""), "the object is shorter"
    except ServicexError as error:
        return b"", error.message


def _encode(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


async def _watch_for_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
