"""The leader looks for itself: hints get lost, and so does what a server meant to do when it died."""

from __future__ import annotations

import asyncio
import logging

from servicex_server.db import request as requests
from servicex_server.errors import ServicexError
from servicex_server.service.context import Services
from servicex_server.service.dispatch import add

logger = logging.getLogger(__name__)


async def run_catch_up(services: Services) -> None:
    """Compares backlog and database every few seconds; runs until canceled."""
    while True:
        await asyncio.sleep(services.limits.catch_up_interval_s)
        try:
            await catch_up(services)
        except ServicexError as error:
            logger.warning("the look for forgotten requests has to wait: %s", error)
        except Exception:
            logger.exception("the look for forgotten requests failed")


async def catch_up(services: Services) -> int:
    """Adds unfinished requests that the backlog does not know as they are, and drops those that have ended.

    Returns:
        How many requests were not as the backlog had them.
    """
    backlog = services.backlog
    # Asked before the rows are read: what comes meanwhile may be too young to be among them.
    known = backlog.known
    unfinished = await services.db.read(requests.list_active)
    missed = 0
    for request in unfinished:
        if not backlog.knows(request.id, request.active_since, request.n_files):
            missed += add(services, request)
    ended = known - {request.id for request in unfinished}
    for request_id in ended & backlog.known:
        backlog.drop(request_id)
        await services.queue.cancel(request_id)
        services.notifier.ring(request_id)
        missed += 1
    if missed:
        logger.info("requests that changed unheard: %d", missed)
    return missed
