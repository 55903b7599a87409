"""The worker: takes units from the queue, has its children work on them, and answers for them.

The parent process itself never touches a file. So it always hears the server, and a child that is killed,
runs out of memory or hangs becomes a report instead of a silence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from servicex_server.model.unit import Reason, Report
from servicex_server.queue.codec import decode_report, encode_unit
from servicex_server.queue.frame import FrameError
from servicex_server.queue.outcome import ended_early
from servicex_server.queue.protocol import UnitDelivery, WorkSource
from servicex_server.run.children import Child, Children, NurseryLost
from servicex_server.run.measure import measure
from servicex_server.telemetry.metrics import WORKER_BUSY_SECONDS

logger = logging.getLogger(__name__)

_LAST_WORDS_S = 1.0


async def run_worker(
    source: WorkSource,
    children: Children,
    *,
    stop: asyncio.Event | None = None,
    drain_grace_s: float = 20.0,
) -> None:
    """Works until the server goes or `stop` is set.

    When stopped, it takes no further units and gives running ones `drain_grace_s` to end; then they are given
    back as if they had never been tried. When the server goes, running units are dropped: its successor
    publishes them again.

    Raises:
        NurseryLost: children can no longer be started.
        ConfigurationError: the executor cannot start any more.
    """
    attempts: set[Attempt] = set()
    try:
        async with asyncio.TaskGroup() as tasks:
            gone = tasks.create_task(_abandon_canceled(source, attempts))
            guards = [gone, tasks.create_task(_require_nursery(children))]
            if stop is not None:
                guards.append(tasks.create_task(_drain_when(stop, source)))
            async for delivery in source.units():
                attempt = Attempt(delivery)
                attempts.add(attempt)
                attempt.task = tasks.create_task(_work(attempt, children, attempts))
            await _wind_down(attempts, gone, drain_grace_s)
            for guard in guards:
                guard.cancel()
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


@dataclass(slots=True, eq=False)
class Attempt:
    """One unit in the hands of one child."""

    delivery: UnitDelivery
    child: Child | None = None
    is_abandoned: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def abandon(self) -> None:
        """Ends the attempt without a report, if it has not ended."""
        self.is_abandoned = True
        if self.child is not None:
            self.child.kill()

    async def carry_out(self, children: Children) -> Report | None:
        """The report, or None if the attempt was abandoned."""
        child = await children.take()
        started_s = time.monotonic()
        try:
            if self.is_abandoned:
                return None
            self.child = child
            return await self._ask(child)
        finally:
            WORKER_BUSY_SECONDS.inc(time.monotonic() - started_s)
            # Before the report is confirmed: its slot is free, and the server knows that once it hears it.
            self.child = None
            children.give_back(child)

    async def _ask(self, child: Child) -> Report | None:
        unit = self.delivery.unit
        started = time.monotonic()
        reason, message = Reason.LOST, ""
        report: Report | None = None
        try:
            async with asyncio.timeout(unit.deadline_s):
                answer = await child.ask(encode_unit(unit))
            report = decode_report(answer) if answer is not None else None
        except TimeoutError:
            child.kill()
            reason, message = Reason.TIMED_OUT, f"took longer than {unit.deadline_s:g} s"
        except FrameError as error:
            child.kill()
            reason, message = Reason.INTERNAL, f"the child's report: {error}"
        if self.is_abandoned:
            return None
        if report is not None:
            return report
        if not message:
            message = f"the process working on this file {await child.describe_end()}"
        logger.warning("unit.failed: request %s: %s", unit.request_id, message)
        return ended_early(unit, reason, message, time.monotonic() - started)


async def _work(attempt: Attempt, children: Children, attempts: set[Attempt]) -> None:
    try:
        report = await attempt.carry_out(children)
        measure(report)
        if report is None:
            await attempt.delivery.release()
        else:
            await attempt.delivery.report(report)
    except ConnectionError:
        logger.debug("unit.unheard: the server is gone; its successor publishes the unit again")
    finally:
        attempts.discard(attempt)


async def _abandon_canceled(source: WorkSource, attempts: set[Attempt]) -> None:
    """Ends when the server goes."""
    async for request_id in source.cancellations():
        for attempt in attempts:
            if attempt.delivery.unit.request_id == request_id:
                attempt.abandon()


async def _require_nursery(children: Children) -> None:
    await asyncio.shield(children.lost)
    message = "the process that starts children has ended"
    raise NurseryLost(message)


async def _drain_when(stop: asyncio.Event, source: WorkSource) -> None:
    await stop.wait()
    logger.info("worker.draining")
    await source.drain()


async def _wind_down(attempts: set[Attempt], gone: asyncio.Task[None], grace_s: float) -> None:
    """Lets running attempts end while the server is there and patience lasts; abandons the rest."""
    tasks = [attempt.task for attempt in attempts if attempt.task is not None]
    finished = asyncio.create_task(_finish(tasks))
    await asyncio.wait([finished, gone], timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
    for attempt in attempts:
        attempt.abandon()
    # Abandoned units are given back at once. What remains waits for a confirmation that nobody sends now.
    await asyncio.wait([finished], timeout=_LAST_WORDS_S)
    for task in tasks:
        task.cancel()
    await finished


async def _finish(tasks: list[asyncio.Task[None]]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
