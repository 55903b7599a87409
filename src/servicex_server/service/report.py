"""What workers say becomes rows, counters and states."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from servicex_server.db.session import Transaction
from servicex_server.errors import Busy, ServicexError
from servicex_server.model.ids import RequestId
from servicex_server.model.lifecycle import Effect
from servicex_server.model.unit import Failure, FileDone, FileFailed, PreflightDone, Reason, Report
from servicex_server.queue.protocol import ReportDelivery
from servicex_server.service.backlog import Retry
from servicex_server.service.context import Services
from servicex_server.service.effect import act
from servicex_server.service.measure import measure
from servicex_server.service.record import Again, Observed, Recorded, record

logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 30.0
_UNRECORDED = Failure(Reason.INTERNAL, "the server could not record the outcome of this file; see its log")


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
    """Commits what the reports tell, acts on it, and acknowledges; waits out an absent database or store."""
    reports = [delivery.report for delivery in batch]
    pause_s = services.limits.publish_retry_s
    memory = _Memory()
    while True:
        try:
            await _record(services, reports, memory)
            break
        except (Busy, OSError) as error:
            logger.warning("reports wait for the database or the store: %s", error)
        except Exception:
            logger.exception("a batch of %d reports was not recorded", len(reports))
            if len(batch) > 1:
                for delivery in batch:
                    await record_batch(services, [delivery])
                return
            replacement = _confess(reports[0])
            if replacement is None:
                break
            reports = [replacement]
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    for delivery in batch:
        await delivery.ack()


def _confess(report: Report) -> Report | None:
    """What to record of a file whose report defies recording, so that its request ends all the same."""
    if isinstance(report, PreflightDone):
        return None  # the sweeper lets the request go on
    if isinstance(report, FileFailed) and report.failure == _UNRECORDED:
        return None
    return FileFailed(
        request_id=report.request_id,
        file_id=report.file_id,
        path=report.path,
        failure=_UNRECORDED,
        seconds=report.seconds,
        attempt=report.attempt,
        entry_start=report.entry_start,
    )


async def _receive(
    reports: AsyncIterator[ReportDelivery], waiting: asyncio.Queue[ReportDelivery | None]
) -> None:
    async for delivery in reports:
        await waiting.put(delivery)
    await waiting.put(None)


class _Memory:
    """What earlier runs of a batch asked for, in case one of them was committed and its word was lost.

    The run after it finds every report known, but the attempts and effects are still due; they are harmless
    if it was not committed. (Objects to discard are asked of the last run alone: an earlier one may have
    counted others.)
    """

    def __init__(self) -> None:
        self._again: dict[Again, None] = {}
        self._effects: dict[RequestId, tuple[Effect, ...]] = {}

    def take(self, recorded: Recorded) -> None:
        self._again.update(dict.fromkeys(recorded.again))
        self._effects.update({request_id: effects for request_id, effects in recorded.effects if effects})

    def add_to(self, last: Recorded) -> Recorded:
        """The last run, and what it lacks of those before."""
        told = {request_id for request_id, effects in last.effects if effects}
        forgotten = [item for item in self._effects.items() if item[0] not in told]
        again = [again for again in self._again if again not in last.again]
        return replace(last, effects=last.effects + forgotten, again=last.again + again)


async def _record(services: Services, reports: Sequence[Report], memory: _Memory) -> None:
    for report in reports:
        if isinstance(report, FileFailed):
            # A worker's words may hold anything; quoted they fit on one line of any log.
            why = f"{report.failure.reason.value}: {report.failure.message[:1000]!r}"
            logger.info("file.failed: attempt %d of request %s, %s", report.attempt, report.request_id, why)
    observed = await _look_up(services, reports)
    _tell_missing(observed)

    def run(transaction: Transaction) -> Recorded:
        recorded = record(transaction, observed, services.limits.max_attempts, services.clock())
        memory.take(recorded)
        return recorded

    recorded = await services.db.write(run)
    measure(reports, recorded)
    await _follow_up(services, memory.add_to(recorded))


async def _look_up(services: Services, reports: Sequence[Report]) -> list[Observed]:
    """The reports with what the store says of their objects: sizes are never taken from a worker's word."""
    keys = [report.store_key for report in reports if isinstance(report, FileDone)]
    stored = iter(await services.store.heads(keys) if keys else ())
    return [Observed(report, next(stored) if isinstance(report, FileDone) else None) for report in reports]


def _tell_missing(observed: Sequence[Observed]) -> None:
    for item in observed:
        if isinstance(item.report, FileDone) and item.stored is None:
            logger.warning(
                "result.missing: request %s, %s is not in this store; if others are missing, too: do workers "
                "and apps have the same `store_url`, and behind a folder the same volume?",
                *(item.report.request_id, item.report.store_key),
            )


async def _follow_up(services: Services, recorded: Recorded) -> None:
    """Acts on what is committed; nothing here may fail, because the batch would be recorded again."""
    for again in recorded.again:
        services.backlog.add_retry(_to_retry(services, again))
    for request_id, effects in recorded.effects:
        services.notifier.ring_results(request_id)
        try:
            await act(services, request_id, effects)
        except Exception:
            logger.exception("request %s changed, but not all that follows was done", request_id)
    for key in recorded.discarded:
        try:
            await services.store.delete(key)
        except (OSError, ValueError, ServicexError) as error:
            logger.warning("an object that does not count stays until its request is deleted: %s", error)
    if recorded.has_doomed:
        services.backlog.purge_asked.set()


def _to_retry(services: Services, again: Again) -> Retry:
    pause_s = services.limits.retry_backoff_s * 2.0 ** min(again.attempt - 1, 10)
    return Retry(
        due_s=asyncio.get_running_loop().time() + pause_s,
        request_id=again.request_id,
        file_id=again.file_id,
        entry_start=again.entry_start,
    )
