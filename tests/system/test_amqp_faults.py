"""What happens when broker, worker or leader go at the wrong moment. A real RabbitMQ, broken for real."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import aio_pika
import pytest

from rabbitmq_server import PASSWORD, RabbitServer, free_ports, running_rabbitmq
from servicex_server.errors import Busy, ConfigurationError
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import (
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    TransformUnit,
    Unit,
)
from servicex_server.queue.protocol import Queue, UnitDelivery, WorkSource
from servicex_server.queue.transports.amqp import AmqpHints, AmqpQueue, AmqpWorkSource
from servicex_server.queue.transports.amqp.topology import DELIVERY_LIMIT

BEAT_S = 0.1


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


@pytest.fixture
def prefix() -> str:
    return f"faults-{uuid4().hex}"


def leader(url: str, prefix: str, silence_s: float = 1.0) -> AmqpQueue:
    return AmqpQueue(url, prefix=prefix, heartbeat_s=BEAT_S, silence_s=silence_s, grace_s=0.5)


def units(n: int, request: str = "r") -> list[TransformUnit]:
    return [
        TransformUnit(
            request_id=RequestId(request),
            file_id=FileId(number),
            paths=(f"/data/{number}.root",),
            codegen="uproot",
            selection="",
            result_format=ResultFormat.PARQUET,
            store_key=f"{request}/{number}",
        )
        for number in range(1, n + 1)
    ]


def done(unit: Unit) -> FileDone:
    assert isinstance(unit, TransformUnit)
    return FileDone(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=unit.paths[0],
        store_key=unit.store_key,
        n_events_in=1,
        n_events_out=1,
        bytes_read=1,
        size_bytes=1,
        seconds=0.1,
        attempt=unit.attempt,
    )


async def take(source: WorkSource, n: int) -> list[UnitDelivery]:
    stream = source.units()
    async with asyncio.timeout(30):
        return [await anext(stream) for _ in range(n)]


async def hear_files(queue: Queue, wanted: Sequence[TransformUnit]) -> list[FileDone]:
    """Acknowledges reports until each of the wanted files was done; what came beyond that too."""
    heard: list[FileDone] = []
    reports = queue.reports()
    async with asyncio.timeout(40):
        while not {unit.file_id for unit in wanted} <= {report.file_id for report in heard}:
            delivery = await anext(reports)
            assert isinstance(delivery.report, FileDone), delivery.report
            heard.append(delivery.report)
            await delivery.ack()
    return heard


async def work_off(source: WorkSource, seen: list[Unit] | None = None) -> None:
    async with asyncio.TaskGroup() as reporting:
        async for delivery in source.units():
            if seen is not None:
                seen.append(delivery.unit)
            reporting.create_task(delivery.report(done(delivery.unit)))


@asynccontextmanager
async def working(source: WorkSource, seen: list[Unit] | None = None) -> AsyncIterator[None]:
    """Reports all that the source gets, until the block is left."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work_off(source, seen))
        yield
        await source.drain()


async def kill(broker: RabbitServer, prefix: str) -> None:
    names = [f"{prefix}.{name}" for name in ("units", "preflights", "failed", "reports")]
    await asyncio.to_thread(broker.wait_until_kept, *names)
    broker.kill()


async def start(broker: RabbitServer, *, wipe: bool = False) -> None:
    if wipe:
        broker.wipe()
    await asyncio.to_thread(broker.start)


@pytest.mark.parametrize("wipe", [False, True], ids=["restarted", "wiped"])
async def test_a_killed_broker_loses_no_unit_and_no_report(
    broker: RabbitServer, prefix: str, wipe: bool
) -> None:
    wanted = units(12)
    async with (
        # The worker may be seconds later than the leader to find the broker again.
        leader(broker.url, prefix, silence_s=20.0) as queue,
        AmqpWorkSource(broker.url, slots=3, prefix=prefix, heartbeat_s=BEAT_S) as source,
    ):
        await queue.publish(wanted)
        in_hand = await take(source, 3)
        await kill(broker, prefix)
        # It ends while the broker is away, and is reported when it is back.
        early = asyncio.create_task(in_hand[0].report(done(in_hand[0].unit)))
        await start(broker, wipe=wipe)
        async with asyncio.timeout(30):
            await early
        seen: list[Unit] = []
        async with working(source, seen):
            for delivery in in_hand[1:]:
                await delivery.report(done(delivery.unit))
            heard = await hear_files(queue, wanted)
        assert len(heard) == len(wanted)
        assert not {delivery.unit for delivery in in_hand} & set(seen), "what was in hand was not begun again"


async def test_reports_that_were_not_recorded_outlive_a_killed_broker(
    broker: RabbitServer, prefix: str
) -> None:
    wanted = units(4)
    async with leader(broker.url, prefix) as queue:
        async with AmqpWorkSource(broker.url, slots=3, prefix=prefix, heartbeat_s=BEAT_S) as source:
            await queue.publish(wanted[:3])
            for delivery in await take(source, 3):
                await delivery.report(done(delivery.unit))
        reports = queue.reports()
        async with asyncio.timeout(20):
            offered = [await anext(reports) for _ in range(3)]
        await offered[0].ack()
        await kill(broker, prefix)
        await start(broker)
        await offered[1].ack()
        async with AmqpWorkSource(broker.url, slots=1, prefix=prefix, heartbeat_s=BEAT_S) as source:
            await queue.publish(wanted[3:])
            (delivery,) = await take(source, 1)
            await delivery.report(done(delivery.unit))
        reports = queue.reports()
        async with asyncio.timeout(20):
            assert (await anext(reports)).report == offered[2].report
            last = await anext(reports)
        assert last.report == done(wanted[3]), "what was acknowledged is not heard again"
        await last.ack()
    async with leader(broker.url, prefix) as successor:
        assert offered[2].report in await hear_files(successor, [wanted[2]])


async def test_a_frozen_broker_delays_and_loses_nothing(broker: RabbitServer, prefix: str) -> None:
    wanted = units(40)
    async with (
        leader(broker.url, prefix) as queue,
        AmqpWorkSource(broker.url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as source,
    ):
        await queue.publish(wanted[:20])
        first = await take(source, 2)
        broker.freeze()
        try:
            reporting = [asyncio.create_task(it.report(done(it.unit))) for it in first]
            await queue.publish(wanted[20:])
            await asyncio.sleep(2.0)  # the fault itself, no synchronisation
            assert not any(task.done() for task in reporting)
        finally:
            broker.thaw()
        async with working(source):
            heard = await hear_files(queue, wanted)
        assert len(heard) == len(wanted)


async def test_a_worker_whose_connection_is_cut_goes_on_with_what_it_has(
    broker: RabbitServer, prefix: str
) -> None:
    wanted = units(6)
    async with relay(broker.port) as (port, cut):
        url = broker.url.replace(f":{broker.port}/", f":{port}/")
        async with (
            leader(broker.url, prefix) as queue,
            AmqpWorkSource(url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as source,
        ):
            await queue.publish(wanted)
            in_hand = await take(source, 2)
            cut()
            async with working(source):
                for delivery in in_hand:
                    await delivery.report(done(delivery.unit))
                await hear_files(queue, wanted)


async def test_a_worker_that_is_silent_is_given_up(broker: RabbitServer, prefix: str) -> None:
    wanted = units(2)
    async with relay(broker.port) as (port, cut):
        url = broker.url.replace(f":{broker.port}/", f":{port}/")
        async with (
            leader(broker.url, prefix) as queue,
            AmqpWorkSource(url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as silent,
        ):
            await queue.publish(wanted)
            in_hand = await take(silent, 2)
            cut.hold()
            other = AmqpWorkSource(broker.url, slots=2, prefix=prefix, heartbeat_s=BEAT_S)
            async with other, working(other):
                await hear_files(queue, wanted)
            cut.release()
            # It did not know. What it says now is a repeat.
            await asyncio.gather(*(it.report(done(it.unit)) for it in in_hand))
            await hear_files(queue, wanted)


async def test_a_unit_that_kills_its_workers_is_reported_lost(broker: RabbitServer, prefix: str) -> None:
    poison = units(1)
    preflight = PreflightUnit(RequestId("p"), (("/data/1.root",),), "uproot", "", ResultFormat.PARQUET)
    async with leader(broker.url, prefix) as queue:
        await queue.publish([preflight, *poison])
        for _ in range(DELIVERY_LIMIT + 1):
            async with AmqpWorkSource(broker.url, slots=1, prefix=prefix, heartbeat_s=BEAT_S) as source:
                assert {it.unit for it in await take(source, 2)} == {preflight, *poison}
        reports = queue.reports()
        async with asyncio.timeout(20):
            heard = [await anext(reports), await anext(reports)]
        (checked,) = (it.report for it in heard if isinstance(it.report, PreflightDone))
        (failed,) = (it.report for it in heard if isinstance(it.report, FileFailed))
        assert checked == PreflightDone(RequestId("p"), rejection=None)
        assert failed.failure.reason is Reason.LOST
        assert failed.failure.message == "the worker processes that took this file died, one after the other"
        assert (failed.file_id, failed.attempt) == (1, 1)
        for delivery in heard:
            await delivery.ack()


async def test_a_new_leader_takes_over_what_waits_and_leaves_what_is_in_hand(
    broker: RabbitServer, prefix: str
) -> None:
    wanted = units(20)
    async with AmqpWorkSource(broker.url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as source:
        async with leader(broker.url, prefix) as first:
            await first.publish(wanted)
            in_hand = await take(source, 2)
        await in_hand[0].report(done(in_hand[0].unit))  # while nobody leads
        async with leader(broker.url, prefix) as second:
            heard = await hear_files(second, wanted[:1])
            await second.publish(wanted[1:])
            seen: list[Unit] = []
            async with working(source, seen):
                heard += await hear_files(second, wanted[2:])
                await in_hand[1].report(done(in_hand[1].unit))
                heard += await hear_files(second, [wanted[1]])
    assert sorted(report.file_id for report in heard) == list(range(1, 21))
    assert not {delivery.unit for delivery in in_hand} & set(seen)


async def test_two_leaders_at_once_repeat_work_and_lose_none(broker: RabbitServer, prefix: str) -> None:
    wanted = units(20)
    async with (
        leader(broker.url, prefix) as first,
        AmqpWorkSource(broker.url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as source,
    ):
        await first.publish(wanted)
        async with leader(broker.url, prefix) as second, working(source):
            await second.publish(wanted)
            heard: set[int] = set()
            async with asyncio.timeout(30), asyncio.TaskGroup() as readers:
                for queue in (first, second):
                    readers.create_task(hear_until(queue, heard, {unit.file_id for unit in wanted}))


async def test_a_lost_cancellation_is_repeated(broker: RabbitServer, prefix: str) -> None:
    async with relay(broker.port) as (port, cut):
        url = broker.url.replace(f":{broker.port}/", f":{port}/")
        async with (
            leader(broker.url, prefix) as queue,
            AmqpWorkSource(url, slots=1, prefix=prefix, heartbeat_s=BEAT_S) as source,
        ):
            await queue.publish(units(1))
            (running,) = await take(source, 1)
            cut.refuse()
            cut()
            await queue.cancel(running.unit.request_id)
            await asyncio.sleep(BEAT_S)
            cut.release()
            async with asyncio.timeout(20):
                assert await anext(source.cancellations()) == "r"
            await running.release()


async def test_units_of_another_version_are_not_delivered_for_ever(broker: RabbitServer, prefix: str) -> None:
    async with (
        leader(broker.url, prefix),
        AmqpWorkSource(broker.url, slots=1, prefix=prefix, heartbeat_s=BEAT_S),
    ):
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel()
            for name in ("units", "preflights", "failed", "reports"):
                await channel.default_exchange.publish(aio_pika.Message(b"\xc1 garbage"), f"{prefix}.{name}")
            async with asyncio.timeout(20):
                while True:
                    queues = [
                        await channel.declare_queue(f"{prefix}.{name}", passive=True)
                        for name in ("units", "preflights", "failed", "reports")
                    ]
                    if not any(queue.declaration_result.message_count for queue in queues):
                        break


async def test_a_deleted_queue_is_made_again(broker: RabbitServer, prefix: str) -> None:
    wanted = units(4)
    async with (
        leader(broker.url, prefix) as queue,
        AmqpWorkSource(broker.url, slots=2, prefix=prefix, heartbeat_s=BEAT_S) as source,
    ):
        await queue.publish(wanted)
        in_hand = await take(source, 2)
        connection = await aio_pika.connect(broker.url)
        async with connection:
            channel = await connection.channel()
            for name in ("units", "reports"):
                await channel.queue_delete(f"{prefix}.{name}")
        async with working(source):
            for delivery in in_hand:
                await delivery.report(done(delivery.unit))
            await hear_files(queue, wanted)


async def test_queues_with_other_properties_are_named_with_the_remedy(
    broker: RabbitServer, prefix: str
) -> None:
    connection = await aio_pika.connect(broker.url)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(f"{prefix}.units", durable=True)
    for opening in (
        AmqpQueue(broker.url, prefix=prefix),
        AmqpWorkSource(broker.url, prefix=prefix, slots=1),
    ):
        with pytest.raises(ConfigurationError, match=f"rabbitmqctl delete_queue {prefix}.units"):
            await opening.__aenter__()


@pytest.mark.parametrize("what", ["password", "vhost"])
async def test_a_broker_that_refuses_is_explained_without_secrets(
    broker: RabbitServer, prefix: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = {
        "password": (broker.url.replace("pass%2Fword", "pass%2Fwrong"), "refuses the user 'tester'"),
        "vhost": (broker.url.removesuffix("/%2F") + "/elsewhere", "virtual host"),
    }
    url, text = wrong[what]
    with pytest.raises(ConfigurationError, match=text) as caught:
        await AmqpQueue(url, prefix=prefix).__aenter__()
    for secret in (PASSWORD, "pass/wrong", "pass%2F"):
        assert secret not in str(caught.value)
        assert secret not in caplog.text


async def test_an_absent_broker_is_waited_for_and_said(prefix: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (port,) = free_ports(1)
    url = f"amqp://user:pass%2Fword@127.0.0.1:{port}/"
    async with (
        AmqpQueue(url, prefix=prefix, patience_s=0.0) as queue,
        AmqpWorkSource(url, prefix=prefix, slots=1) as source,
        AmqpHints(url, prefix=prefix) as hints,
    ):
        with pytest.raises(Busy, match="the message broker has not been reachable"):
            await queue.publish(units(1))
        await hints.send(RequestId("r"))
        assert source.is_connected
    assert "pass/word" not in caplog.text
    assert "pass%2F" not in caplog.text


async def test_hints_reach_all_others_once(broker: RabbitServer, prefix: str) -> None:
    async with (
        AmqpHints(broker.url, prefix=prefix) as sender,
        AmqpHints(broker.url, prefix=prefix) as second,
        AmqpHints(broker.url, prefix=prefix) as third,
    ):
        for request_id in ("a", "a", "b"):
            await sender.send(RequestId(request_id))
        await second.send(RequestId("c"))
        async with asyncio.timeout(20):
            assert [await anext(third.hints()) for _ in range(3)] != []
            assert [await anext(second.hints()) for _ in range(2)] == ["a", "b"]
            assert await anext(sender.hints()) == "c"


class Cut:
    """What a test does to the connections through a relay."""

    def __init__(self) -> None:
        self.writers: set[asyncio.StreamWriter] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.is_refusing = False

    def __call__(self) -> None:
        """Breaks all connections."""
        for writer in list(self.writers):
            writer.transport.abort()

    def hold(self) -> None:
        """Lets nothing through, and keeps the connections."""
        self.flowing.clear()

    def refuse(self) -> None:
        """Takes no new connections."""
        self.is_refusing = True

    def release(self) -> None:
        self.is_refusing = False
        self.flowing.set()


@asynccontextmanager
async def relay(target: int) -> AsyncIterator[tuple[int, Cut]]:
    """A port whose connections go to the target until they are cut or held."""
    cut = Cut()
    tasks: set[asyncio.Task[None]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await cut.flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            cut.writers.discard(writer)
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if cut.is_refusing:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", target)
        cut.writers |= {writer, back}
        for task in (asyncio.create_task(copy(reader, back)), asyncio.create_task(copy(there, writer))):
            tasks.add(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        server.close()
        cut.release()
        cut()
        await asyncio.gather(*tasks, return_exceptions=True)


async def hear_until(queue: Queue, heard: set[int], wanted: Collection[int]) -> None:
    """Acknowledges what this leader hears until it and others have heard of all that is wanted."""
    async for delivery in queue.reports():
        if isinstance(delivery.report, FileDone):
            heard.add(delivery.report.file_id)
        await delivery.ack()
        if heard >= set(wanted):
            return
