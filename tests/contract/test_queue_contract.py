"""What every queue promises, whatever carries it.

Where a broker stands between the server and the workers, some promises are kept in another way: the broker,
not the server, has a report in safe hands, gives the units of a vanished worker to another, and outlives the
server. Tests that differ ask `Transport.is_brokered` in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import pytest

from rabbitmq_server import RabbitServer, running_rabbitmq
from servicex_server.errors import Busy
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import (
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    Report,
    TransformUnit,
    Unit,
)
from servicex_server.queue.protocol import Queue, ReportDelivery, UnitDelivery, WorkSource
from servicex_server.queue.transports.amqp import AmqpQueue, AmqpWorkSource
from servicex_server.queue.transports.embedded import EmbeddedQueue, connect
from servicex_server.queue.transports.memory import MemoryQueue


class Connect(Protocol):
    def __call__(self, slots: int) -> AbstractAsyncContextManager[WorkSource]: ...


@dataclass
class Transport:
    """A queue and the way to it.

    Attributes:
        is_brokered: a third process holds units and reports.
    """

    queue: Queue
    connect: Connect
    is_brokered: bool = False


type_of_open = Callable[..., AbstractAsyncContextManager[Transport]]


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


@pytest.fixture(params=["memory", "embedded", "amqp"])
def open_queue(request: pytest.FixtureRequest, tmp_path: Path) -> type_of_open:
    @asynccontextmanager
    async def open_memory(**bounds: int) -> AsyncIterator[Transport]:
        async with MemoryQueue(**bounds) as queue:
            yield Transport(queue, queue.connect)

    @asynccontextmanager
    async def open_embedded(**bounds: int) -> AsyncIterator[Transport]:
        path = tmp_path / "run" / "queue.sock"
        async with EmbeddedQueue(path, max_units=bounds.get("max_units", 1000), heartbeat_s=0.05) as queue:
            yield Transport(queue, lambda slots: connect(path, slots))

    @asynccontextmanager
    async def open_amqp(**bounds: int) -> AsyncIterator[Transport]:
        prefix, url = f"contract-{uuid4().hex}", request.getfixturevalue("broker").url
        queue = AmqpQueue(url, prefix=prefix, max_units=bounds.get("max_units", 1000), heartbeat_s=0.1)

        def connect_amqp(slots: int) -> AmqpWorkSource:
            return AmqpWorkSource(url, prefix=prefix, slots=slots, heartbeat_s=0.1)

        async with queue:
            yield Transport(queue, connect_amqp, is_brokered=True)

    if request.param == "amqp":
        request.getfixturevalue("broker")
    return {"memory": open_memory, "embedded": open_embedded, "amqp": open_amqp}[request.param]


def transform(request: str = "r", file: int = 1, attempt: int = 1, **changes: object) -> TransformUnit:
    unit = TransformUnit(
        request_id=RequestId(request),
        file_id=FileId(file),
        paths=(f"/data/{file}.root", f"root://site//data/{file}.root"),
        codegen="uproot",
        selection="(query)",
        result_format=ResultFormat.PARQUET,
        store_key=f"{request}/{file}-1",
        attempt=attempt,
    )
    return replace(unit, **changes)  # type: ignore[arg-type]  # test convenience


def preflight(request: str = "r") -> PreflightUnit:
    return PreflightUnit(
        request_id=RequestId(request),
        files=(("/data/1.root",), ("/data/2.root", "/data/2b.root")),
        codegen="uproot",
        selection="(query)",
        result_format=ResultFormat.ROOT_FILE,
    )


def done(unit: Unit) -> Report:
    if isinstance(unit, PreflightUnit):
        return PreflightDone(unit.request_id, rejection="no branch 'x'; nearest: y")
    return FileDone(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=unit.paths[-1],
        store_key=unit.store_key,
        n_events_in=10,
        n_events_out=3,
        bytes_read=1000,
        size_bytes=100,
        seconds=0.5,
        attempt=unit.attempt,
    )


async def take(units: AsyncIterator[UnitDelivery], n: int) -> list[UnitDelivery]:
    async with asyncio.timeout(20):
        return [await anext(units) for _ in range(n)]


async def hear(reports: AsyncIterator[ReportDelivery], n: int = 1) -> list[Report]:
    heard = []
    async with asyncio.timeout(20):
        for _ in range(n):
            delivery = await anext(reports)
            heard.append(delivery.report)
            await delivery.ack()
    return heard


async def work_through(source: WorkSource, n: int) -> list[Unit]:
    """Reports the next n units as done, one by one; returns them."""
    seen = []
    units = source.units()
    for _ in range(n):
        (delivery,) = await take(units, 1)
        seen.append(delivery.unit)
        await delivery.report(done(delivery.unit))
    return seen


async def work_off(source: WorkSource) -> None:
    """Reports all units as done, as they come, until the source is drained."""
    async with asyncio.TaskGroup() as reporting:
        async for delivery in source.units():
            reporting.create_task(delivery.report(done(delivery.unit)))


@asynccontextmanager
async def consuming(queue: Queue) -> AsyncIterator[list[Report]]:
    """Acknowledges reports in the background and collects them."""
    heard: list[Report] = []

    async def consume() -> None:
        async for delivery in queue.reports():
            heard.append(delivery.report)
            await delivery.ack()

    task = asyncio.create_task(consume())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def files_of(units: Sequence[Unit]) -> list[tuple[str, int]]:
    return [(unit.request_id, unit.file_id if isinstance(unit, TransformUnit) else 0) for unit in units]


async def test_a_unit_reaches_a_worker_unchanged_and_its_report_comes_back(open_queue: type_of_open) -> None:
    async with open_queue() as it, it.connect(2) as source:
        published: list[Unit] = [
            transform(selection="é\n'\"", entry_start=5, entry_stop=9, tree_name="Events", deadline_s=0.25),
            preflight("other"),
        ]
        await it.queue.publish(published)
        deliveries = await take(source.units(), 2)
        assert {d.unit for d in deliveries} == set(published)
        reporting = [asyncio.create_task(d.report(done(d.unit))) for d in deliveries]
        assert set(await hear(it.queue.reports(), 2)) == {done(unit) for unit in published}
        await asyncio.gather(*reporting)


async def test_units_published_before_a_worker_connects_wait_for_it(open_queue: type_of_open) -> None:
    async with open_queue() as it:
        await it.queue.publish([transform()])
        async with it.connect(1) as source:
            assert files_of([d.unit for d in await take(source.units(), 1)]) == [("r", 1)]


async def test_preflight_goes_first_and_requests_take_turns(open_queue: type_of_open) -> None:
    async with open_queue() as it, consuming(it.queue):
        await it.queue.publish([transform("big", n) for n in range(1, 101)])
        await it.queue.publish([transform("small", 1), transform("small", 2), transform("one", 1)])
        await it.queue.publish([preflight("late")])
        async with it.connect(1) as source:
            seen = files_of(await work_through(source, 104))
    assert seen[:7] == [
        ("late", 0),
        ("big", 1),
        ("small", 1),
        ("one", 1),
        ("big", 2),
        ("small", 2),
        ("big", 3),
    ]
    assert seen[7:] == [("big", n) for n in range(4, 101)]


async def test_a_worker_holds_no_more_units_than_it_has_slots(open_queue: type_of_open) -> None:
    async with open_queue() as it, consuming(it.queue), it.connect(2) as source:
        await it.queue.publish([transform(file=n) for n in range(1, 6)])
        units = source.units()
        first, second = await take(units, 2)
        third = asyncio.ensure_future(anext(units))
        async with it.connect(1) as probe:  # it gets the next unit: so the first worker was not given it
            (other,) = await take(probe.units(), 1)
            assert not third.done()
            await first.report(done(first.unit))
            assert files_of([first.unit, second.unit, other.unit, (await third).unit]) == [
                ("r", n) for n in range(1, 5)
            ]


async def test_a_report_returns_only_when_it_is_in_safe_hands(open_queue: type_of_open) -> None:
    async with open_queue() as it, it.connect(1) as source:
        await it.queue.publish([transform(file=1), transform(file=2)])
        units = source.units()
        (delivery,) = await take(units, 1)
        reporting = asyncio.create_task(delivery.report(done(delivery.unit)))
        held = await anext(it.queue.reports())
        await take(units, 1)  # the slot is free at once; a slow consumer does not idle workers
        if it.is_brokered:  # the broker's hands, before anybody acknowledges
            async with asyncio.timeout(20):
                await reporting
            assert (await anext(it.queue.reports())).report == held.report
        else:
            assert not reporting.done()
        await held.ack()
        await held.ack()  # a repeat is harmless
        async with asyncio.timeout(20):
            await reporting


async def test_a_new_reader_hears_what_was_not_acknowledged(open_queue: type_of_open) -> None:
    async with open_queue() as it, it.connect(3) as source:
        await it.queue.publish([transform(file=n) for n in (1, 2, 3)])
        deliveries = await take(source.units(), 3)
        reporting = [asyncio.create_task(d.report(done(d.unit))) for d in deliveries]
        first = it.queue.reports()
        acknowledged, crashed = await anext(first), await anext(first)
        await acknowledged.ack()
        heard = await hear(it.queue.reports(), 2)
        assert heard[0] == crashed.report
        assert {r.file_id for r in [acknowledged.report, *heard] if isinstance(r, FileDone)} == {1, 2, 3}
        await asyncio.gather(*reporting)
        assert [d async for d in first] == []


async def test_what_a_vanished_worker_held_is_not_lost(open_queue: type_of_open) -> None:
    async with open_queue() as it:
        units: list[Unit] = [preflight("p"), transform(file=7, attempt=2, entry_start=100)]
        async with it.connect(3) as source:
            await it.queue.publish(units)
            await take(source.units(), 2)
        if it.is_brokered:  # another worker gets it, and only the broker knows of the first
            async with it.connect(3) as other:
                assert {d.unit for d in await take(other.units(), 2)} == set(units)
            return
        checked, lost = await hear(it.queue.reports(), 2)
    assert checked == PreflightDone(RequestId("p"), rejection=None)
    assert isinstance(lost, FileFailed)
    assert (lost.file_id, lost.attempt, lost.entry_start, lost.path) == (7, 2, 100, "/data/7.root")
    assert lost.failure.reason is Reason.LOST
    assert lost.failure.message == "the worker process died while working on this file"


async def test_a_released_unit_goes_in_front_and_counts_no_attempt(open_queue: type_of_open) -> None:
    async with open_queue() as it, consuming(it.queue) as heard:
        await it.queue.publish([transform(file=n) for n in (1, 2, 3)])
        async with it.connect(1) as source:
            (delivery,) = await take(source.units(), 1)
            await delivery.release()
            seen = await work_through(source, 3)
        assert seen == [transform(file=n) for n in (1, 2, 3)]
        assert all(isinstance(report, FileDone) for report in heard)


async def test_draining_gives_back_what_was_not_begun(open_queue: type_of_open) -> None:
    async with open_queue() as it, consuming(it.queue) as heard:
        async with it.connect(2) as source, it.connect(1) as other:
            await it.queue.publish([transform(file=n) for n in (1, 2, 3, 4)])
            (begun,) = await take(source.units(), 1)
            await source.drain()
            assert [d async for d in source.units()] == []
            assert source.is_connected
            others = {u.file_id for u in await work_through(other, 3) if isinstance(u, TransformUnit)}
            await begun.report(done(begun.unit))
        assert isinstance(begun.unit, TransformUnit)
        assert others | {begun.unit.file_id} == {1, 2, 3, 4}
        assert all(isinstance(report, FileDone) for report in heard)


async def test_cancel_drops_waiting_units_and_tells_the_worker(open_queue: type_of_open) -> None:
    async with open_queue() as it, it.connect(1) as source:
        await it.queue.publish([transform("bad", n) for n in range(1, 50)] + [transform("good", 1)])
        units = source.units()
        (running,) = await take(units, 1)
        await it.queue.cancel(RequestId("bad"))
        assert await anext(source.cancellations()) == "bad"
        await running.release()
        (following,) = await take(units, 1)
        assert files_of([following.unit]) == [("good", 1)]
        reporting = asyncio.create_task(following.report(done(following.unit)))
        assert await hear(it.queue.reports()) == [done(following.unit)]
        await reporting


async def test_a_late_report_of_a_canceled_unit_is_swallowed(open_queue: type_of_open) -> None:
    async with open_queue() as it, it.connect(1) as source:
        await it.queue.publish([transform("bad"), transform("good")])
        units = source.units()
        (running,) = await take(units, 1)
        await it.queue.cancel(running.unit.request_id)
        async with asyncio.timeout(20):
            await running.report(done(running.unit))
        (following,) = await take(units, 1)
        reporting = asyncio.create_task(following.report(done(following.unit)))
        assert await hear(it.queue.reports()) == [done(following.unit)]
        await reporting


async def test_a_worker_that_dies_with_a_canceled_unit_loses_nothing(open_queue: type_of_open) -> None:
    async with open_queue() as it:
        async with it.connect(2) as source:
            await it.queue.publish([transform("bad"), transform("good")])
            await take(source.units(), 2)
            await it.queue.cancel(RequestId("bad"))
        if it.is_brokered:  # another worker may get both; what it says of the bad one is swallowed
            async with it.connect(2) as other, asyncio.TaskGroup() as working:
                working.create_task(work_off(other))
                (report,) = await hear(it.queue.reports())
                await other.drain()
        else:
            (report,) = await hear(it.queue.reports())
        assert report.request_id == "good"


async def test_canceling_what_is_unknown_does_nothing(open_queue: type_of_open) -> None:
    async with open_queue() as it:
        await it.queue.cancel(RequestId("never seen"))


async def test_above_the_bound_nothing_of_a_batch_is_taken(open_queue: type_of_open) -> None:
    async with open_queue(max_units=3) as it, consuming(it.queue):
        await it.queue.publish([transform("a", 1), transform("a", 2)])
        with pytest.raises(Busy, match="2 units of work are waiting and 2 more would exceed the bound of 3"):
            await it.queue.publish([transform("b", 1), transform("b", 2)])
        await it.queue.publish([transform("c", 1)])
        async with it.connect(1) as source:
            assert files_of(await work_through(source, 3)) == [("a", 1), ("c", 1), ("a", 2)]


async def test_when_the_queue_closes_readers_end_and_its_workers_are_told(open_queue: type_of_open) -> None:
    async with open_queue() as it:
        source_context = it.connect(2)
        source = await source_context.__aenter__()
        await it.queue.publish([transform(file=1), transform(file=2)])
        held, unreported = await take(source.units(), 2)
        reporting = asyncio.create_task(held.report(done(held.unit)))
        reports = it.queue.reports()
        await anext(reports)
    async with asyncio.timeout(20):
        assert [d async for d in reports] == []
        if it.is_brokered:  # workers stay: with the broker, and for the next server
            assert source.is_connected
            await reporting
            await unreported.report(done(unreported.unit))
            await source_context.__aexit__(None, None, None)
        assert [d async for d in source.units()] == []
        assert [r async for r in source.cancellations()] == []
        assert not source.is_connected
        if not it.is_brokered:
            with pytest.raises(ConnectionError):
                await reporting
        with pytest.raises(ConnectionError):
            await unreported.report(done(unreported.unit))
        with pytest.raises(ConnectionError):
            await unreported.release()
        if not it.is_brokered:
            await source_context.__aexit__(None, None, None)


async def test_two_workers_share_thousands_of_units_without_loss_or_repeat(open_queue: type_of_open) -> None:
    n = 900
    async with open_queue() as it:
        await it.queue.publish([transform(f"r{k % 3}", k) for k in range(n)])

        async with it.connect(4) as first, it.connect(3) as second, asyncio.TaskGroup() as working:
            working.create_task(work_off(first))
            working.create_task(work_off(second))
            heard = await hear(it.queue.reports(), n)
            await first.drain()
            await second.drain()
        assert sorted(r.file_id for r in heard if isinstance(r, FileDone)) == list(range(n))
