"""News of a request as they come, for one reader.

Each reader asks the database by itself, after what it knows: a slow one is further behind, and nobody waits
for it or keeps anything for it. Bells (`notify`) say when to look; other processes have bells of their own,
so a look is due every second anyway.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from datetime import timedelta

from servicex_server.db import progress
from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.progress import (
    BEFORE_ALL,
    WINDOW_S,
    EndNews,
    EventId,
    News,
    NoNews,
    Sample,
    Teller,
    to_moment,
)
from servicex_server.service.context import Services

logger = logging.getLogger(__name__)


async def is_over(services: Services, request_id: RequestId, after: EventId) -> bool:
    """Whether somebody who knows the events up to `after` knows the request's end, and no more will come."""
    standing = await services.db.read(progress.find_standing, request_id)
    return standing is not None and standing.end_id is not None and standing.end_id <= after


async def follow(
    services: Services, request_id: RequestId, after: EventId = BEFORE_ALL
) -> AsyncGenerator[News, None]:
    """What happens to the request after that event, up to its end.

    Ends without `EndNews` if the request is deleted, and after a while anyway, so that nobody goes on whose
    access has ended; whoever may still look then calls again with the last id.
    """
    limits = services.limits
    loop = asyncio.get_running_loop()
    stop_s = loop.time() + limits.stream_life_s
    told_s = loop.time()
    teller = Teller(after, await _find_recent(services, request_id, after))
    with services.notifier.watch(request_id, with_results=True) as bell:
        while loop.time() < stop_s:
            bell.clear()
            looked_s = loop.time()
            try:
                look = await services.db.read(progress.look, request_id, teller.position, limits.stream_page)
            except Busy as error:
                logger.debug("a stream waits: %s", error)
                await asyncio.sleep(limits.stream_poll_s)
                continue
            if look is None:
                return
            lacks_workers = services.lacks_workers
            for news in teller.tell(look, services.clock(), loop.time(), lacks_workers=lacks_workers):
                yield news
                told_s = loop.time()
                if isinstance(news, EndNews):
                    return
            if look.has_more:
                continue
            if loop.time() - told_s >= limits.stream_quiet_s:
                yield NoNews()
                told_s = loop.time()
            await _wait(bell, limits.stream_poll_s)
            # Reports come in hundreds per second at times; each look costs the database something.
            await asyncio.sleep(max(0.0, looked_s + limits.stream_pause_s - loop.time()))


async def _find_recent(services: Services, request_id: RequestId, after: EventId) -> list[Sample]:
    """What the reader knows already of the last seconds, since rates depend on it."""
    since = services.clock() - timedelta(seconds=WINDOW_S)
    until = to_moment(after)
    if until <= since:
        return []
    try:
        standing = await services.db.read(progress.find_standing, request_id)
        if standing is None:
            return []
        return await services.db.read(progress.list_samples, standing.number, since, until)
    except Busy:
        return []


async def _wait(bell: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await bell.wait()
    except TimeoutError:
        return
