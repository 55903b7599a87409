"""One server of several leads: it holds a lease in the database and does the background work meanwhile.

Times are those of the database; the holder counts the seconds since it asked by its monotonic clock, so
that no wrong clock makes two leaders. There may be two for a moment all the same, when a process stands still
while its lease runs out. What a leader writes is harmless then: rows are unique, and a request changes by
a pure step under its lock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from servicex_server.db import lease
from servicex_server.errors import ServicexError
from servicex_server.service.context import Services

logger = logging.getLogger(__name__)

LEASE = "background"

Work = Callable[[], Awaitable[None]]


async def run_while_leader(services: Services, holder: str, work: Work) -> None:
    """Campaigns, works while it leads, campaigns again; until the work ends, or until canceled.

    Args:
        services: their `leadership` tells whether this process leads, and their backlog is that of its term.
            Their `db` had better be a `Database` of its own with one writer, where renewals stand in no line.
        holder: this process, by a name that no other one has, and that its next start does not have.
        work: is begun at take-over, and canceled when the lease is lost. If it ends, so does this;
            the lease is given back in any case.
    """
    services.leadership.is_held = False
    while True:
        asked_s = await _campaign(services, holder)
        if await _lead(services, holder, work, asked_s):
            return


async def _campaign(services: Services, holder: str) -> float:
    """Returns when the lease is ours: the time of the event loop before it was asked for."""
    while True:
        asked_s = asyncio.get_running_loop().time()
        if await _ask(services, holder, until_s=asked_s + services.limits.lease_ttl_s / 2):
            return asked_s
        await asyncio.sleep(services.limits.lease_renew_s)


async def _lead(services: Services, holder: str, work: Work, asked_s: float) -> bool:
    """One term; whether the work ended by itself."""
    logger.info("leader.elected: %s", holder)
    services.backlog.clear()
    services.leadership.is_held = True
    working = asyncio.ensure_future(work())
    try:
        await _keep(services, holder, working, asked_s)
    finally:
        # First of all nobody may start anything new.
        services.leadership.is_held = False
        has_ended = working.done()
        working.cancel()
        await asyncio.wait({working})
        services.backlog.clear()
        logger.info("leader.resigned: %s", holder)
        await _resign(services, holder)
    if has_ended:
        await working
    elif not working.cancelled() and working.exception() is not None:
        logger.error("the work did not end cleanly when it was canceled", exc_info=working.exception())
    return has_ended


async def _keep(services: Services, holder: str, working: asyncio.Future[None], asked_s: float) -> None:
    """Renews the lease until the work ends, or until it might be somebody else's before long."""
    loop = asyncio.get_running_loop()
    renew_s, ttl_s = services.limits.lease_renew_s, services.limits.lease_ttl_s
    # Canceling takes time, and clocks do not run alike.
    usable_s = ttl_s - min(renew_s, ttl_s / 4)
    pause_s = renew_s
    while not working.done():
        rest_s = asked_s + usable_s - loop.time()
        if rest_s <= 0:
            logger.warning("leader.lost: %s could not renew its lease", holder)
            return
        done, _ = await asyncio.wait({working}, timeout=min(pause_s, rest_s))
        if done:
            return
        now_s = loop.time()
        answer = await _ask(services, holder, until_s=asked_s + usable_s)
        if answer:
            asked_s = now_s
        elif answer is False:
            logger.warning("leader.lost: the lease of %s is somebody else's", holder)
            return
        pause_s = renew_s if answer else renew_s / 4


async def _ask(services: Services, holder: str, *, until_s: float) -> bool | None:
    """Whether the lease is ours; None if the database does not say so in time."""
    try:
        async with asyncio.timeout_at(until_s):
            return await services.db.write(lease.acquire, LEASE, holder, services.limits.lease_ttl_s)
    except TimeoutError:
        logger.warning("the lease of the leader cannot be asked for: the database does not answer in time")
    except ServicexError as error:
        logger.warning("the lease of the leader cannot be asked for: %s", error)
    return None


async def _resign(services: Services, holder: str) -> None:
    """Lets somebody else take over at once instead of after the lease has run out, if that can be said."""
    with suppress(ServicexError, TimeoutError):
        async with asyncio.timeout(services.limits.lease_renew_s):
            await services.db.write(lease.release, LEASE, holder)
