"""Nothing hangs and nothing is left behind."""

from __future__ import annotations

from servicex_server.service.context import Services


async def run_sweeper(services: Services) -> None:
    """Audits, expires and cleans up in rounds; runs until canceled."""
    raise NotImplementedError
