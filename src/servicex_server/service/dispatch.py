"""Work goes to the queue: from the database, page by page, requests in turn."""

from __future__ import annotations

from servicex_server.service.context import Services


async def resume(services: Services) -> None:
    """Puts unfinished requests of earlier runs back into the backlog; call once before the tasks start."""
    raise NotImplementedError


async def run_dispatcher(services: Services) -> None:
    """Hands the backlog to the queue as it grows; runs until canceled."""
    raise NotImplementedError
