"""The tasks that run beside the HTTP app."""

from __future__ import annotations

from servicex_server.service.context import Services


async def run_background(services: Services) -> None:
    """Resumes unfinished work, then dispatches, records and sweeps until canceled."""
    raise NotImplementedError
