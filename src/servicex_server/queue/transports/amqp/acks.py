"""Acknowledgements of one channel, sent in runs instead of one by one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from aio_pika.abc import AbstractIncomingMessage


class Acks:
    """Messages of one channel in the order they came, until they are acknowledged."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, AbstractIncomingMessage] = OrderedDict()
        self._done: set[int] = set()
        self._something = asyncio.Event()

    def came(self, message: AbstractIncomingMessage) -> None:
        """The message will be acknowledged later."""
        self._open[message.delivery_tag or 0] = message

    def done(self, message: AbstractIncomingMessage) -> None:
        """The message is in safe hands; returns at once."""
        self._done.add(message.delivery_tag or 0)
        self._something.set()

    async def run(self) -> None:
        """Sends acknowledgements until canceled, or until the channel fails."""
        while True:
            await self._something.wait()
            self._something.clear()
            await self.flush()

    async def flush(self) -> None:
        """Sends what is due."""
        last: AbstractIncomingMessage | None = None
        while self._open and next(iter(self._open)) in self._done:
            tag, last = self._open.popitem(last=False)
            self._done.discard(tag)
        if last is not None:
            await last.ack(multiple=True)
        for tag in sorted(self._done):
            self._done.discard(tag)
            message = self._open.pop(tag, None)
            if message is not None:
                await message.ack()
