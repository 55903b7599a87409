"""What workers say becomes rows, counters and states."""

from __future__ import annotations

from servicex_server.service.context import Services


async def consume_reports(services: Services) -> None:
    """Records reports batch by batch, and acknowledges them once they are committed; runs until canceled."""
    raise NotImplementedError
