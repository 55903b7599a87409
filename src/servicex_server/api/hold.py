"""Holding a status back for a moment, so that a small request costs its client one poll instead of two."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from servicex_server.model.request import TransformRequest
from servicex_server.service import read
from servicex_server.service.context import Services


async def hold(
    request: Request, services: Services, transform: TransformRequest, hold_s: float
) -> TransformRequest:
    """The request once it is terminal, or older than `hold_s`, or the caller has left.

    The official client polls every 5 s and waits 5 s for each answer.
    """
    if transform.state.is_terminal:
        return transform
    age_s = (services.clock() - transform.submit_time).total_seconds()
    # A clock that was set back makes a request look unborn; it is never held longer for that.
    left_s = min(hold_s - age_s, hold_s)
    if left_s <= 0:
        return transform
    waiting = asyncio.ensure_future(read.wait_until_finished(services, transform, left_s))
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({waiting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else transform
    finally:
        waiting.cancel()
        leaving.cancel()
        await asyncio.gather(waiting, leaving, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    """Returns when the caller has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
