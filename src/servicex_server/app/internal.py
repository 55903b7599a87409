"""The internal port beside the public one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from servicex_server.api.internal import build_internal_app
from servicex_server.app.embedded import listen_on
from servicex_server.app.settings import Settings
from servicex_server.service.context import Services
from servicex_server.service.sidecar import SidecarReports

logger = logging.getLogger(__name__)


class _BesideServer(uvicorn.Server):
    """Stops when it is told to by its owner, not by signals, which are the public server's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def internal_port(settings: Settings, services: Services) -> AsyncIterator[None]:
    """Takes reports of finders and sidecars while the context lasts, if there is a port for them.

    Raises:
        ConfigurationError: the port cannot be had.
    """
    if not settings.internal_port:
        yield
        return
    with listen_on(
        settings.internal_host, settings.internal_port, flags="internal_host, internal_port"
    ) as door:
        reports = SidecarReports(services)
        app = build_internal_app(services, reports, max_body_bytes=settings.max_body_bytes)
        server = _BesideServer(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )
        serving = asyncio.ensure_future(server.serve(sockets=[door]))
        recording = asyncio.ensure_future(reports.run())
        logger.info("internal.ready: port %d", door.getsockname()[1])
        try:
            yield
        finally:
            server.should_exit = True
            await asyncio.wait({serving})
            recording.cancel()
            await asyncio.wait({recording})
