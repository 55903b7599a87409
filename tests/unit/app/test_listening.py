"""Connections of the HTTP server send at once: the head of an answer and its body are two packets."""

from __future__ import annotations

import asyncio
import socket

from servicex_server.app.embedded import listen
from servicex_server.app.settings import load


async def test_answers_do_not_wait_for_the_acknowledgement_of_their_head() -> None:
    delays: asyncio.Queue[int] = asyncio.Queue()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        await delays.put(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    with listen(load(port=0)) as listener:
        port = listener.getsockname()[1]
        async with await asyncio.start_server(answer, sock=listener):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await delays.get() != 0
            writer.close()
