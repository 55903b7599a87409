"""What workers say becomes rows, counters and states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from servicex_server.errors import Busy
from servicex_server.model.unit import FileDone
from servicex_server.queue.protocol import ReportDelivery
from servicex_server.service.backlog import Retry
from servicex_server.service.context import Services
from servicex_server.service.effect import act
from servicex_server.service.record import Again, Observed, Recorded, record

logger = logging.getLogger(__name__)

_HEADS_AT_ONCE = 16
_LONGEST_PAUSE_S = 30.0


async def consume_reports(services: Services) -> None:
    """Records reports batch by batch, and acknowledges them once they are committed; runs until canceled."""
    waiting: asyncio.Queue[ReportDelivery | None] = asyncio.Queue(services.limits.report_batch)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_receive(services.queue.reports(), waiting))
        while True:
            first = await waiting.get()
            if first is None:
                return
            batch = [first]
            is_last = False
            while len(batch) < services.limits.report_batch and not waiting.empty():
                following = waiting.get_nowait()
                if following is None:
                    is_last = True
                    break
                batch.append(following)
            await record_batch(services, batch)
            if is_last:
                return


async def record_batch(services: Services, batch: Sequence[ReportDelivery]) -> None:
    """Commits what the reports tell, acts on it, and acknowledges them; waits out an absent database."""
    pause_s = services.limits.publish_retry_s
    while True:
        try:
            await _record(services, batch)
            return
        except Busy as error:
            logger.warning("reports wait for the database: %s", error)
        except Exception:
            if len(batch) > 1:
                logger.exception("a batch of %d reports was not recorded; each is tried alone", len(batch))
                for delivery in batch:
                    await record_batch(services, [delivery])
                return
            # Whatever is wrong with it would be wrong again. The attempt is not counted; the time
            # limit of its request ends what it leaves open.
            logger.exception("a report was not recorded and is dropped: %r", batch[0].report)
            await batch[0].ack()
            return
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _receive(
    reports: AsyncIterator[ReportDelivery], waiting: asyncio.Queue[ReportDelivery | None]
) -> None:
    async for delivery in reports:
        await waiting.put(delivery)
    await waiting.put(None)


async def _record(services: Services, batch: Sequence[ReportDelivery]) -> None:
    observed = await _look_up(services, batch)
    recorded = await services.db.write(record, observed, services.limits.max_attempts, services.clock())
    await _follow_up(services, recorded)
    for delivery in batch:
        await delivery.ack()


async def _look_up(services: Services, batch: Sequence[ReportDelivery]) -> list[Observed]:
    """The reports with what the store says of their objects: sizes are never taken from a worker's word."""
    slots = asyncio.Semaphore(_HEADS_AT_ONCE)

    async def look_up(delivery: ReportDelivery) -> Observed:
        report = delivery.report
        if not isinstance(report, FileDone):
            return Observed(report)
        async with slots:
            return Observed(report, await services.store.head(report.store_key))

    return list(await asyncio.gather(*(look_up(delivery) for delivery in batch)))


async def _follow_up(services: Services, recorded: Recorded) -> None:
    for again in recorded.again:
        services.backlog.add_retry(_to_retry(services, again))
    for request_id, effects in recorded.effects:
        await act(services, request_id, effects)
    for key in recorded.discarded:
        with suppress(OSError):
            await services.store.delete(key)


def _to_retry(services: Services, again: Again) -> Retry:
    pause_s = services.limits.retry_backoff_s * 2.0 ** min(again.attempt - 1, 10)
    return Retry(
        due_s=asyncio.get_running_loop().time() + pause_s,
        request_id=again.request_id,
        file_id=again.file_id,
        entry_start=again.entry_start,
    )
