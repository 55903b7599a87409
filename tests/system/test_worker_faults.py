"""A worker and its children under every fault we could think of, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from servicex_server.errors import ConfigurationError
from servicex_server.launch.local import LocalWorkers
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
from servicex_server.model.worker import ExecutorSpec
from servicex_server.queue.protocol import Queue, ReportDelivery
from servicex_server.queue.transports.embedded import EmbeddedQueue
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.run.children import NurseryLost, open_children
from servicex_server.run.worker import run_worker

EXECUTOR = ExecutorSpec("worker_executors:build")


@pytest.fixture(autouse=True)
def _executors_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)


class Gate:
    """Two FIFOs by which a unit says that it has begun, and hears that it may end."""

    def __init__(self, folder: Path, name: str) -> None:
        self.paths = (str(folder / f"{name}.started"), str(folder / f"{name}.go"))
        for path in self.paths:
            os.mkfifo(path)
        # Open for both, so that nobody ever blocks in opening the other end.
        self._started, self._go = (os.open(path, os.O_RDWR | os.O_NONBLOCK) for path in self.paths)

    async def pids(self) -> list[int]:
        """The ids that the unit's process says once it has begun."""
        await readable(self._started)
        return [int(word) for word in os.read(self._started, 100).split()]

    def open(self) -> None:
        os.write(self._go, b"!")

    def close(self) -> None:
        os.close(self._started)
        os.close(self._go)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[str], Gate]]:
    gates = []

    def build(name: str) -> Gate:
        gates.append(Gate(tmp_path, name))
        return gates[-1]

    yield build
    for it in gates:
        it.close()


def unit(
    selection: str,
    file: int = 1,
    *,
    request: str = "r",
    paths: tuple[str, ...] = ("/data/a.root",),
    deadline_s: float = 600.0,
) -> TransformUnit:
    return TransformUnit(
        request_id=RequestId(request),
        file_id=FileId(file),
        paths=paths,
        codegen="uproot",
        selection=selection,
        result_format=ResultFormat.PARQUET,
        store_key=f"{request}/{file}-1",
        deadline_s=deadline_s,
    )


async def hear(reports: AsyncIterator[ReportDelivery], n: int = 1) -> list[Report]:
    heard = []
    async with asyncio.timeout(60):
        for _ in range(n):
            delivery = await anext(reports)
            heard.append(delivery.report)
            await delivery.ack()
    return heard


async def hear_failure(reports: AsyncIterator[ReportDelivery]) -> tuple[Reason, str]:
    (report,) = await hear(reports)
    assert isinstance(report, FileFailed), report
    return report.failure.reason, report.failure.message


async def process_end(pid: int) -> None:
    """Returns when the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await readable(descriptor)
    finally:
        os.close(descriptor)


async def readable(descriptor: int) -> None:
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, event.set)
    try:
        async with asyncio.timeout(30):
            await event.wait()
    finally:
        loop.remove_reader(descriptor)


@asynccontextmanager
async def working(
    slots: int = 1, *, memory_limit_bytes: int | None = None
) -> AsyncIterator[tuple[Queue, AsyncIterator[ReportDelivery]]]:
    """A worker in this process, with children, on a queue in memory."""
    stop = asyncio.Event()
    async with (
        MemoryQueue() as queue,
        open_children(slots, EXECUTOR, preload=(), memory_limit_bytes=memory_limit_bytes) as children,
        queue.connect(slots) as source,
    ):
        task = asyncio.create_task(run_worker(source, children, stop=stop, drain_grace_s=0.0))
        yield queue, queue.reports()
        stop.set()
        await task


@asynccontextmanager
async def served(folder: Path, slots: int = 1) -> AsyncIterator[tuple[EmbeddedQueue, LocalWorkers]]:
    """A worker process under supervision, on an embedded queue."""
    path = folder / "run" / "queue.sock"
    async with (
        EmbeddedQueue(path) as queue,
        LocalWorkers(path, slots, EXECUTOR, preload=(), drain_grace_s=0.0) as workers,
    ):
        yield queue, workers


async def test_units_are_worked_on_in_long_lived_children() -> None:
    async with working(slots=2) as (queue, reports):
        check = PreflightUnit(RequestId("p"), (("a",), ("b",)), "uproot", "check", ResultFormat.PARQUET)
        await queue.publish([check, *(unit("done", n) for n in range(20))])
        heard = await hear(reports, 21)
    assert PreflightDone(RequestId("p"), rejection="checked 2") in heard
    files = [report for report in heard if isinstance(report, FileDone)]
    assert sorted(report.file_id for report in files) == list(range(20))
    assert len({report.path for report in files}) <= 2
    assert str(os.getpid()) not in {report.path for report in files}


@pytest.mark.parametrize(
    ("selection", "reason", "message"),
    [
        ("fail", Reason.INTERNAL, "ValueError: cannot make sense of /data/a.root"),
        ("panic", Reason.INTERNAL, "Panic: panic"),
        (
            "mix_up",
            Reason.INTERNAL,
            "TypeError: the executor returned FileDone, which is no report of its unit",
        ),
        (
            "mumble",
            Reason.INTERNAL,
            (
                "the report: the done message cannot be encoded: 'utf-8' codec can't encode character "
                "'\\udcff' in position 6: surrogates not allowed"
            ),
        ),
        ("leave", Reason.LOST, "the process working on this file exited with code 3"),
        ("exhaust", Reason.RESOURCES, "needs more memory than the allowed 8589934592 bytes"),
    ],
)
async def test_a_misbehaving_executor_costs_one_attempt(selection: str, reason: Reason, message: str) -> None:
    async with working(memory_limit_bytes=8 << 30) as (queue, reports):
        await queue.publish([unit(selection), unit("done", 2)])
        assert await hear_failure(reports) == (reason, message)
        (following,) = await hear(reports)
        assert isinstance(following, FileDone)


async def test_a_preflight_whose_process_dies_rejects_nothing() -> None:
    async with working() as (queue, reports):
        await queue.publish(
            [PreflightUnit(RequestId("p"), (("a",),), "uproot", "crash", ResultFormat.PARQUET)]
        )
        assert await hear(reports) == [PreflightDone(RequestId("p"), rejection=None)]


async def test_a_killed_child_is_a_lost_attempt_and_is_replaced(gate: Callable[[str], Gate]) -> None:
    async with working() as (queue, reports):
        it = gate("it")
        await queue.publish([unit("hang", paths=it.paths)])
        (pid,) = await it.pids()
        os.kill(pid, signal.SIGKILL)
        assert await hear_failure(reports) == (
            Reason.LOST,
            "the process working on this file was killed by signal 9 (out of memory?)",
        )
        await queue.publish([unit("done", 2)])
        (following,) = await hear(reports)
        assert isinstance(following, FileDone)
        assert following.path != str(pid)


async def test_a_child_that_dies_idle_costs_nothing() -> None:
    async with working() as (queue, reports):
        await queue.publish([unit("done", 1)])
        (first,) = await hear(reports)
        assert isinstance(first, FileDone)
        os.kill(int(first.path), signal.SIGKILL)
        await process_end(int(first.path))
        await queue.publish([unit("done", 2)])
        (second,) = await hear(reports)
        assert isinstance(second, FileDone)
        assert second.path != first.path


@pytest.mark.parametrize("how", ["hang", "hang_in_c"])
async def test_past_its_deadline_a_unit_is_ended(how: str) -> None:
    async with working() as (queue, reports):
        await queue.publish([unit("done", 1), unit(how, 2, paths=(), deadline_s=0.2), unit("done", 3)])
        (first,) = await hear(reports)
        assert await hear_failure(reports) == (Reason.TIMED_OUT, "took longer than 0.2 s")
        (following,) = await hear(reports)
        assert isinstance(first, FileDone)
        assert isinstance(following, FileDone)
        assert following.path != first.path
        await process_end(int(first.path))


async def test_ending_a_unit_ends_what_it_had_started(gate: Callable[[str], Gate]) -> None:
    async with working() as (queue, _):
        it = gate("it")
        await queue.publish([unit("hang_with_offspring", paths=it.paths)])
        child, offspring = await it.pids()
        await queue.cancel(RequestId("r"))
        await process_end(child)
        await process_end(offspring)


async def test_a_canceled_unit_ends_without_a_report(gate: Callable[[str], Gate]) -> None:
    async with working(slots=2) as (queue, reports):
        bad, good = gate("bad"), gate("good")
        await queue.publish(
            [unit("hang", paths=bad.paths, request="bad"), unit("wait", paths=good.paths, request="good")]
        )
        (bad_pid,), _ = await asyncio.gather(bad.pids(), good.pids())
        await queue.cancel(RequestId("bad"))
        await process_end(bad_pid)
        good.open()
        (report,) = await hear(reports)
        assert report.request_id == "good"
        await queue.publish([unit("done", 3, request="other")])
        (report,) = await hear(reports)
        assert report.request_id == "other"


async def test_a_drained_worker_finishes_what_runs(gate: Callable[[str], Gate]) -> None:
    it = gate("it")
    stop = asyncio.Event()
    async with MemoryQueue() as queue:
        async with open_children(1, EXECUTOR, preload=()) as children, queue.connect(1) as source:
            task = asyncio.create_task(run_worker(source, children, stop=stop, drain_grace_s=600))
            await queue.publish([unit("wait", 1, paths=it.paths), unit("done", 2)])
            await it.pids()
            stop.set()
            it.open()
            (report,) = await hear(queue.reports())
            assert isinstance(report, FileDone)
            await task
        async with queue.connect(1) as source:
            assert (await anext(aiter(source.units()))).unit == unit("done", 2)


async def test_a_drained_worker_gives_back_what_outlasts_its_grace(gate: Callable[[str], Gate]) -> None:
    it = gate("it")
    endless = unit("hang", paths=it.paths)
    stop = asyncio.Event()
    async with MemoryQueue() as queue:
        async with open_children(1, EXECUTOR, preload=()) as children, queue.connect(1) as source:
            task = asyncio.create_task(run_worker(source, children, stop=stop, drain_grace_s=0))
            await queue.publish([endless])
            (child,) = await it.pids()
            stop.set()
            await task
            await process_end(child)
        async with queue.connect(1) as source:
            assert (await anext(aiter(source.units()))).unit == endless


async def test_a_drained_worker_does_not_wait_for_ever_for_a_server_that_listens_no_more() -> None:
    stop = asyncio.Event()
    async with (
        MemoryQueue() as queue,
        open_children(1, EXECUTOR, preload=()) as children,
        queue.connect(1) as source,
    ):
        task = asyncio.create_task(run_worker(source, children, stop=stop, drain_grace_s=0))
        await queue.publish([unit("done")])
        await anext(queue.reports())  # and never acknowledges it
        stop.set()
        async with asyncio.timeout(30):
            await task


async def test_children_die_with_the_worker_even_if_they_hang_in_c(
    tmp_path: Path, gate: Callable[[str], Gate]
) -> None:
    async with served(tmp_path, slots=2) as (queue, workers):
        reports = queue.reports()
        first, second = gate("first"), gate("second")
        await queue.publish([unit("hang", 1, paths=first.paths), unit("hang_in_c", 2, paths=second.paths)])
        (a,), (b,) = await asyncio.gather(first.pids(), second.pids())
        worker = workers.pid
        assert worker is not None
        os.kill(worker, signal.SIGKILL)
        lost = await hear(reports, 2)
        assert {type(report) for report in lost} == {FileFailed}
        for pid in (worker, a, b):
            await process_end(pid)
        # The supervisor starts another worker, which takes the next attempts.
        await queue.publish([unit("done", 1), unit("done", 2)])
        assert {type(report) for report in await hear(reports, 2)} == {FileDone}
        assert workers.n_restarts == 1
        assert workers.pid != worker


async def test_losing_the_nursery_ends_the_worker(gate: Callable[[str], Gate]) -> None:
    async with (
        MemoryQueue() as queue,
        open_children(1, EXECUTOR, preload=()) as children,
        queue.connect(1) as source,
    ):
        it = gate("it")
        await queue.publish([unit("hang", paths=it.paths)])
        task = asyncio.create_task(run_worker(source, children))
        (child,) = await it.pids()
        os.kill(parent_of(child), signal.SIGKILL)
        async with asyncio.timeout(30):
            with pytest.raises(NurseryLost):
                await task
        await process_end(child)


async def test_when_the_server_goes_the_worker_and_its_children_end(
    tmp_path: Path, gate: Callable[[str], Gate]
) -> None:
    path = tmp_path / "queue.sock"
    it = gate("it")
    async with EmbeddedQueue(path) as queue, LocalWorkers(path, 1, EXECUTOR, preload=()) as workers:
        await queue.publish([unit("hang", paths=it.paths)])
        (child,) = await it.pids()
        worker = workers.pid
        await queue.__aexit__(None, None, None)
        assert worker is not None
        await process_end(child)
        await process_end(worker)


@pytest.mark.parametrize("how", ["hang", "hang_in_c"])
async def test_killing_the_server_leaves_no_process_and_a_socket_that_the_next_one_takes(
    tmp_path: Path, gate: Callable[[str], Gate], how: str
) -> None:
    it = gate("it")
    path = tmp_path / "queue.sock"
    script = Path(__file__).with_name("worker_executors.py")
    server = await asyncio.create_subprocess_exec(sys.executable, script, path, how, *it.paths)
    (child,) = await it.pids()
    nursery = parent_of(child)
    worker = parent_of(nursery)
    assert parent_of(worker) == server.pid
    server.kill()
    await server.wait()
    for pid in (child, nursery, worker):
        await process_end(pid)
    async with EmbeddedQueue(path) as queue, LocalWorkers(path, 1, EXECUTOR, preload=()):
        await queue.publish([unit("done")])
        (report,) = await hear(queue.reports())
        assert isinstance(report, FileDone)


async def test_interrupting_the_worker_s_process_group_disturbs_no_unit(
    tmp_path: Path, gate: Callable[[str], Gate], capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "queue.sock"
    it = gate("it")
    async with EmbeddedQueue(path) as queue, LocalWorkers(path, 1, EXECUTOR, preload=()) as workers:
        await queue.publish([unit("wait", paths=it.paths)])
        (child,) = await it.pids()
        worker = workers.pid
        assert worker is not None
        os.kill(child, signal.SIGINT)
        os.killpg(os.getpgid(parent_of(child)), signal.SIGINT)
        os.killpg(os.getpgid(worker), signal.SIGINT)
        it.open()
        (report,) = await hear(queue.reports())
        assert isinstance(report, FileDone)
        await process_end(worker)  # it was asked to stop, and drains
    assert "Traceback" not in capfd.readouterr().err


async def test_leaving_the_supervisor_leaves_no_process(tmp_path: Path, gate: Callable[[str], Gate]) -> None:
    it = gate("it")
    async with served(tmp_path) as (queue, workers):
        await queue.publish([unit("hang", paths=it.paths)])
        (child,) = await it.pids()
        pids = [child, parent_of(child), workers.pid]
    for pid in pids:
        assert pid is not None
        await process_end(pid)


async def test_an_executor_that_cannot_start_is_named() -> None:
    with pytest.raises(ConfigurationError, match="RuntimeError: no store today"):
        async with open_children(
            2, ExecutorSpec("worker_executors:build", {"complaint": "no store today"}), preload=()
        ):
            pass
    with pytest.raises(ConfigurationError, match="'no_such_module:build'"):
        async with open_children(1, ExecutorSpec("no_such_module:build"), preload=()):
            pass
    with pytest.raises(ConfigurationError, match="returned NoneType, not a function"):
        async with open_children(1, ExecutorSpec("worker_executors:build_nothing"), preload=()):
            pass


async def test_a_worker_that_cannot_be_started_does_not_end_the_server(tmp_path: Path) -> None:
    async with LocalWorkers(tmp_path / "q", 1, EXECUTOR, command=["/no/such/program"]) as workers:
        assert workers.pid is None


async def test_thousands_of_units_and_two_workers_each_unit_reported_once(tmp_path: Path) -> None:
    n = 5000
    path = tmp_path / "queue.sock"
    async with (
        EmbeddedQueue(path) as queue,
        LocalWorkers(path, 2, EXECUTOR, preload=()),
        LocalWorkers(path, 1, EXECUTOR, preload=()),
    ):
        units: list[Unit] = [unit("done", k, request=f"r{k % 7}") for k in range(n)]
        await queue.publish(units)
        heard = await hear(queue.reports(), n)
    assert sorted(report.file_id for report in heard if isinstance(report, FileDone)) == list(range(n))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
