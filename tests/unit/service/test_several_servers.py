"""Two servers over one database: one leads, the other tells it; hints get lost, and leaders die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from scripted_finder import RecordingRemote, files
from service_bench import QUICK, USER, Behaviour, Bench, eventually, failed, new_bench, succeed
from servicex_server.db import request as requests
from servicex_server.db.session import Database
from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState
from servicex_server.model.request import FileCounts
from servicex_server.model.unit import PreflightUnit, Reason, Report, TransformUnit, Unit
from servicex_server.queue.protocol import Hints, UnitDelivery, WorkSource
from servicex_server.queue.term import TermQueue
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.queue.transports.memory_hints import HintExchange
from servicex_server.service.background import run_background
from servicex_server.service.backlog import Backlog
from servicex_server.service.cancel import cancel
from servicex_server.service.catch_up import catch_up
from servicex_server.service.context import Leadership, Services
from servicex_server.service.delete import delete
from servicex_server.service.hint import on_hint, run_hints
from servicex_server.service.leader import run_while_leader
from servicex_server.service.lookup import add_found, close_lookup
from servicex_server.service.notify import Notifier
from servicex_server.service.read import get_request, wait_for
from servicex_server.service.retry import retry
from servicex_server.service.submit import submit

LIMITS = replace(
    QUICK, lease_ttl_s=60.0, lease_renew_s=0.05, catch_up_interval_s=3600.0, waiter_poll_s=3600.0
)
"""So that hints alone make things happen, unless a test says otherwise."""


class Deployment:
    """Servers that share a database, a store and a broker, which takes no more than the leader's queue."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.exchange = HintExchange()
        self.queue: MemoryQueue | None = None
        self.seen: list[Unit] = []
        self.attempts: dict[str, int] = {}
        self.behave: Behaviour = succeed

    def server(
        self,
        hints: Hints | None = None,
        *,
        waiter_poll_s: float = LIMITS.waiter_poll_s,
        catch_up_interval_s: float = LIMITS.catch_up_interval_s,
    ) -> Services:
        """What one more process has: its own backlog, bells and term."""
        return replace(
            self.bench.services,
            queue=TermQueue(),
            backlog=Backlog(),
            notifier=Notifier(),
            leadership=Leadership(is_held=False),
            hints=hints or self.exchange.join(),
            limits=replace(LIMITS, waiter_poll_s=waiter_poll_s, catch_up_interval_s=catch_up_interval_s),
        )

    @asynccontextmanager
    async def running(self, services: Services, name: str | None = None) -> AsyncIterator[None]:
        """A process that serves, and is a candidate if it has a name."""
        assert services.hints is not None
        tasks = [asyncio.create_task(run_hints(services, services.hints))]
        # Of one writer, as apps have it: a renewal under way does not come after the resignation.
        async with Database(services.db.url, writers=1) as lease_db:
            if name is not None:
                candidate = replace(services, db=lease_db)
                lead = run_while_leader(candidate, name, lambda: self._lead(services))
                tasks.append(asyncio.create_task(lead))
            try:
                if name is not None:
                    await eventually(lambda: _soon(services.leadership.is_held))
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _lead(self, services: Services) -> None:
        assert isinstance(services.queue, TermQueue)
        async with AsyncExitStack() as stack:
            queue = await stack.enter_async_context(MemoryQueue())
            stack.enter_context(services.queue.using(queue))
            working = asyncio.create_task(self._work(queue, services))
            try:
                await run_background(services)
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)

    async def _work(self, queue: MemoryQueue, services: Services) -> None:
        held: list[UnitDelivery] = []
        async with queue.connect(4) as source, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._abandon(source, held))
            async for delivery in source.units():
                self.seen.append(delivery.unit)
                report = await self.behave(services, delivery.unit)
                if report is not None:
                    await delivery.report(report)
                else:
                    held.append(delivery)

    async def _abandon(self, source: WorkSource, held: list[UnitDelivery]) -> None:
        async for request_id in source.cancellations():
            for delivery in [each for each in held if each.unit.request_id == request_id]:
                held.remove(delivery)
                await delivery.release()


async def _soon(condition: bool) -> bool:
    await asyncio.sleep(0)
    return condition


class Deaf:
    """Hints that never arrive."""

    async def send(self, request_id: RequestId) -> None:
        pass

    async def hints(self) -> AsyncIterator[RequestId]:
        await asyncio.Event().wait()
        yield RequestId("never")


@pytest.fixture
async def deployment(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with new_bench(tmp_path, LIMITS) as bench:
        yield Deployment(bench)


async def ended(services: Services, request_id: RequestId) -> RequestState:
    return (await wait_for(services, request_id, lambda request: request.state.is_terminal, 20)).state


async def preflight_only(services: Services, unit: Unit) -> Report | None:
    return await succeed(services, unit) if isinstance(unit, PreflightUnit) else None


async def test_a_submit_to_another_server_is_worked_off(deployment: Deployment) -> None:
    leader, other = deployment.server(), deployment.server()
    async with deployment.running(leader, "one"), deployment.running(other):
        ids = [await submit(other, USER, deployment.bench.submission(3)) for _ in range(3)]
        assert [await ended(other, request_id) for request_id in ids] == [RequestState.COMPLETE] * 3
        assert other.backlog.is_empty
    # What fitted these files once is not tried again.
    assert 1 <= len([unit for unit in deployment.seen if isinstance(unit, PreflightUnit)]) <= 3
    assert len([unit for unit in deployment.seen if isinstance(unit, TransformUnit)]) == 9


async def test_what_the_leader_does_wakes_the_others(deployment: Deployment) -> None:
    leader, other = deployment.server(), deployment.server()
    async with deployment.running(other), deployment.running(leader, "one"):
        request_id = await submit(leader, USER, deployment.bench.submission())
        assert await ended(other, request_id) is RequestState.COMPLETE


async def test_cancel_on_another_server_stops_the_work(deployment: Deployment) -> None:
    deployment.behave = preflight_only
    leader, other = deployment.server(), deployment.server()
    async with deployment.running(leader, "one"), deployment.running(other):
        request_id = await submit(other, USER, deployment.bench.submission(20))
        await eventually(lambda: _soon(len(deployment.seen) >= 5))
        await cancel(other, USER, request_id)
        await eventually(lambda: _soon(request_id not in leader.backlog.known))
        deployment.behave = succeed
        following = await submit(other, USER, deployment.bench.submission(2))
        assert await ended(other, following) is RequestState.COMPLETE
    assert len([unit for unit in deployment.seen if unit.request_id == request_id]) <= 6, "4 slots, no more"


async def test_retry_on_another_server(deployment: Deployment) -> None:
    async def refuse(services: Services, unit: Unit) -> Report:
        if isinstance(unit, TransformUnit) and unit.paths[0].endswith("f1.root"):
            return failed(unit, Reason.CORRUPT)
        return await succeed(services, unit)

    deployment.behave = refuse
    leader, other = deployment.server(), deployment.server()
    async with deployment.running(leader, "one"), deployment.running(other):
        request_id = await submit(other, USER, deployment.bench.submission(3))
        assert await ended(other, request_id) is RequestState.COMPLETE
        deployment.behave = succeed
        await retry(other, USER, request_id)
        assert await ended(other, request_id) is RequestState.COMPLETE
        assert (await get_request(other, USER, request_id)).counts == FileCounts(3, 3, 0)


async def test_delete_on_another_server(deployment: Deployment) -> None:
    leader, other = deployment.server(), deployment.server()
    async with deployment.running(leader, "one"), deployment.running(other):
        request_id = await submit(other, USER, deployment.bench.submission())
        await ended(other, request_id)
        await delete(other, USER, request_id)

        async def is_gone() -> bool:
            return not await other.db.read(requests.find_known, [request_id])

        await eventually(is_gone)


async def test_lost_hints_are_made_up_for(deployment: Deployment) -> None:
    leader = deployment.server(catch_up_interval_s=0.02)
    other = deployment.server(Deaf(), waiter_poll_s=0.02)
    async with deployment.running(leader, "one"), deployment.running(other):
        request_id = await submit(other, USER, deployment.bench.submission(3))
        assert await ended(other, request_id) is RequestState.COMPLETE
    assert len(deployment.seen) == 4, "nothing is done twice"


async def test_a_lost_cancel_and_a_lost_retry_are_made_up_for(deployment: Deployment) -> None:
    """The leader goes on with units of before the cancel, and has those again that failed before."""

    async def hold(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, TransformUnit) and unit.paths[0].endswith("f0.root"):
            return failed(unit, Reason.CORRUPT)
        return await preflight_only(services, unit)

    deployment.behave = hold
    leader, other = deployment.server(), deployment.server(Deaf(), waiter_poll_s=0.02)
    async with deployment.running(leader, "one"), deployment.running(other):
        request_id = await submit(leader, USER, deployment.bench.submission(3))
        await wait_for(other, request_id, lambda request: request.counts.failed == 1, 20)
        await cancel(other, USER, request_id)
        await retry(other, USER, request_id)
        deployment.behave = succeed
        assert await catch_up(leader) == 1
        assert await ended(other, request_id) is RequestState.COMPLETE
        assert (await get_request(other, USER, request_id)).counts == FileCounts(3, 3, 0)
        await eventually(lambda: _soon(leader.backlog.is_empty))
        assert await catch_up(leader) == 0


async def test_files_that_another_server_was_told_of_are_made_up_for(deployment: Deployment) -> None:
    remote = RecordingRemote()
    leader, other = (replace(deployment.server(hints), remote_finders=remote) for hints in (None, Deaf()))

    async def has_completed(n_files: int) -> bool:
        return (await get_request(leader, USER, request_id)).counts.completed == n_files

    async with deployment.running(leader, "one"):
        submission = deployment.bench.submission(files=None, did="rucio://scope:name")
        request_id = await submit(leader, USER, submission)
        _, dataset_id = await remote.asked.get()
        await add_found(leader, dataset_id, files("a", "b"))
        await eventually(lambda: has_completed(2))
        await eventually(lambda: _soon(leader.backlog.is_empty))
        assert await catch_up(leader) == 0
        await add_found(other, dataset_id, files("c"))
        assert await catch_up(leader) == 1
        await eventually(lambda: has_completed(3))
        assert await catch_up(leader) == 0
        await close_lookup(other, dataset_id)
        assert (await get_request(leader, USER, request_id)).state is RequestState.COMPLETE
    assert len(deployment.seen) == 4, "nothing is done twice"


async def test_a_lost_cancel_is_made_up_for(deployment: Deployment) -> None:
    deployment.behave = preflight_only
    leader, other = deployment.server(), deployment.server(Deaf())
    async with deployment.running(leader, "one"):
        request_id = await submit(leader, USER, deployment.bench.submission(20))
        await eventually(lambda: _soon(len(deployment.seen) >= 5))
        await cancel(other, USER, request_id)
        assert await catch_up(leader) == 1
        assert request_id not in leader.backlog.known
        deployment.behave = succeed
        assert await ended(leader, await submit(leader, USER, deployment.bench.submission(2)))
    assert len([unit for unit in deployment.seen if unit.request_id == request_id]) <= 6


async def test_a_new_leader_goes_on(deployment: Deployment) -> None:
    async def stop_in_the_middle(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, TransformUnit) and unit.paths[0].endswith(("f7.root", "f8.root", "f9.root")):
            return None
        return await succeed(services, unit)

    deployment.behave = stop_in_the_middle
    first, second = deployment.server(), deployment.server(waiter_poll_s=0.02)
    async with deployment.running(first, "one"):
        request_id = await submit(second, USER, deployment.bench.submission(10))
        await wait_for(second, request_id, lambda request: request.counts.completed == 7, 20)
    assert first.backlog.is_empty
    hasty = replace(second, limits=replace(LIMITS, preflight_wait_s=0.0))
    waiting = await submit(hasty, USER, deployment.bench.submission(2, title="while nobody leads"))
    deployment.behave = succeed
    async with deployment.running(second, "two"):
        assert await ended(second, request_id) is RequestState.COMPLETE
        assert await ended(second, waiting) is RequestState.COMPLETE
    assert len([unit for unit in deployment.seen if unit.request_id == request_id]) == 14, "7 were done"


async def test_who_does_not_lead_publishes_nothing(deployment: Deployment) -> None:
    other = deployment.server()
    request_id = await submit(
        replace(other, limits=replace(LIMITS, preflight_wait_s=0.0)), USER, deployment.bench.submission()
    )
    await on_hint(other, request_id)
    assert other.backlog.is_empty
    with pytest.raises(Busy, match="another server leads"):
        await other.queue.publish([])
    assert [delivery async for delivery in other.queue.reports()] == []


async def test_a_hint_at_nothing_is_harmless(deployment: Deployment) -> None:
    leader, other = deployment.server(), deployment.server(waiter_poll_s=0.02)
    async with deployment.running(leader, "one"):
        for name in ("00000000-0000-4000-8000-000000000000", "\0", "x" * 10_000):
            assert other.hints is not None
            await other.hints.send(RequestId(name))
        request_id = await submit(other, USER, deployment.bench.submission())
        assert await ended(leader, request_id) is RequestState.COMPLETE


async def test_a_server_without_database_follows_hints_again(deployment: Deployment) -> None:
    leader, other = deployment.server(), deployment.server()
    async with Database(deployment.bench.services.db.url) as db:
        closed = replace(leader, db=db)
    assert leader.hints is not None
    listening = asyncio.create_task(run_hints(replace(closed, leadership=Leadership()), leader.hints))
    await asyncio.sleep(0)
    with leader.notifier.watch(RequestId("x")) as bell:
        assert other.hints is not None
        await other.hints.send(RequestId("x"))
        await bell.wait()
        bell.clear()
        await other.hints.send(RequestId("x"))
        await bell.wait()
    listening.cancel()
