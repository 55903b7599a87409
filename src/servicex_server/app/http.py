"""The web server of a composition root: tells when it is ready, and stops cleanly when asked."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from servicex_server.api.server import end_waits

logger = logging.getLogger(__name__)


class HttpServer(uvicorn.Server):
    """uvicorn that calls back when it accepts requests, and does not raise a signal again after stopping."""

    def __init__(self, app: FastAPI, *, on_ready: Callable[[], None], grace_s: float = 2.0) -> None:
        """Serves `app`; when it is stopped, answers that are under way get `grace_s` to end."""
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                # A local user could otherwise pretend to come through TLS.
                proxy_headers=False,
                timeout_graceful_shutdown=max(1, round(grace_s)),
                # Above the 5 s between polls of the official client, which then keeps its connection.
                timeout_keep_alive=30,
            )
        )
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal asks for a clean stop, the next one for a quick one."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            logger.info("server.stopping: unfinished requests go on with the next start, or at another app")
        self.should_exit = True
        end_waits(self._app)
