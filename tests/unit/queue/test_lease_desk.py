"""The server's books, with a worker that is a list of what it was told."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import (
    Failure,
    FileFailed,
    PreflightUnit,
    Reason,
    Report,
    TransformUnit,
    Unit,
)
from servicex_server.queue.desk import LeaseDesk, Session
from servicex_server.queue.waiting import WaitingUnits


def transform(request: str, file: int, deadline_s: float = 10.0) -> TransformUnit:
    return TransformUnit(
        request_id=RequestId(request),
        file_id=FileId(file),
        paths=("/data/a.root",),
        codegen="uproot",
        selection="",
        result_format=ResultFormat.PARQUET,
        store_key=f"{request}/{file}",
        deadline_s=deadline_s,
        owner="marie" if request in "ab" else "niels",
    )


def preflight(request: str) -> PreflightUnit:
    return PreflightUnit(RequestId(request), (("/data/a.root",),), "uproot", "", ResultFormat.PARQUET)


def refused(unit: Unit) -> Report:
    assert isinstance(unit, TransformUnit)
    failure = Failure(Reason.QUERY, "no such branch")
    return FileFailed(unit.request_id, unit.file_id, unit.paths[0], failure, seconds=0.0)


@dataclass
class FakeWorker:
    """What the desk told a worker."""

    leases: dict[int, Unit] = field(default_factory=dict)
    confirmed: list[int] = field(default_factory=list)
    canceled: list[RequestId] = field(default_factory=list)
    is_dropped: bool = False

    def lease(self, number: int, unit: Unit) -> None:
        self.leases[number] = unit

    def confirm(self, number: int) -> None:
        self.confirmed.append(number)

    def cancel(self, request_id: RequestId) -> None:
        self.canceled.append(request_id)

    def drop(self) -> None:
        self.is_dropped = True


def report_all(desk: LeaseDesk, session: Session, worker: FakeWorker) -> int:
    """Reports every lease until no further one comes; returns how many units came."""
    reported: set[int] = set()
    while open_leases := worker.leases.keys() - reported:
        for number in open_leases:
            reported.add(number)
            desk.done(session, number, refused(worker.leases[number]))
    return len(reported)


def test_a_consumer_that_stalls_stalls_one_worker_before_its_reports_pile_up() -> None:
    desk = LeaseDesk()
    worker = FakeWorker()
    session = desk.attach(worker, slots=2)
    desk.publish([transform("r", n) for n in range(1000)])
    assert report_all(desk, session, worker) < 100
    assert worker.confirmed == []


async def test_a_consumer_that_stalls_stalls_all_workers_together() -> None:
    desk = LeaseDesk(max_reports=30)
    desk.publish([transform("r", n) for n in range(1000)])
    workers = [FakeWorker() for _ in range(10)]
    sessions = [desk.attach(worker, slots=1) for worker in workers]
    assert sum(report_all(desk, *pair) for pair in zip(sessions, workers, strict=True)) <= 40
    stream = desk.outbox.deliveries()
    n_heard = 0
    while len(desk.outbox):
        await (await anext(stream)).ack()
        n_heard += 1
        for session, worker in zip(sessions, workers, strict=True):
            for number in [number for number in worker.leases if number in session.working]:
                desk.done(session, number, refused(worker.leases[number]))
    assert n_heard == 1000


def test_a_silent_worker_is_cut_off_and_a_talking_one_is_not() -> None:
    desk = LeaseDesk()
    silent, talking = FakeWorker(), FakeWorker()
    desk.attach(silent, slots=1)
    session = desk.attach(talking, slots=1)
    for _ in range(7):
        desk.heard(session)
        desk.pass_time(10.0, silence_s=60.0, grace_s=30.0)
    assert silent.is_dropped
    assert not talking.is_dropped


def test_a_worker_that_sits_on_a_unit_past_its_deadline_is_cut_off_though_it_talks() -> None:
    desk = LeaseDesk()
    slow, patient = FakeWorker(), FakeWorker()
    sessions = [desk.attach(slow, slots=1), desk.attach(patient, slots=1)]
    desk.publish([transform("r", 1, deadline_s=20.0), transform("r", 2, deadline_s=100.0)])
    for _ in range(6):
        for session in sessions:
            desk.heard(session)
        desk.pass_time(10.0, silence_s=60.0, grace_s=30.0)
    assert slow.is_dropped
    assert not patient.is_dropped


def test_a_report_of_somebody_else_s_lease_is_ignored() -> None:
    desk = LeaseDesk()
    honest, confused = FakeWorker(), FakeWorker()
    desk.attach(honest, slots=1)
    session = desk.attach(confused, slots=1)
    desk.publish([transform("r", 1)])
    (number,) = honest.leases
    desk.done(session, number, refused(honest.leases[number]))
    desk.release(session, number)
    assert len(desk.outbox) == 0
    assert confused.leases == {}


def test_work_spreads_over_the_workers() -> None:
    desk = LeaseDesk()
    workers = [FakeWorker() for _ in range(3)]
    for worker in workers:
        desk.attach(worker, slots=4)
    desk.publish([transform("r", n) for n in range(6)])
    assert [len(worker.leases) for worker in workers] == [2, 2, 2]


requests = st.sampled_from(["a", "b", "c"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), requests, st.integers(1, 5)),
        st.tuples(st.just("preflight"), requests, st.just(1)),
        st.tuples(st.just("take"), requests, st.integers(1, 4)),
        st.tuples(st.just("give back"), requests, st.just(1)),
        st.tuples(st.just("drop"), requests, st.just(1)),
    ),
    max_size=40,
)


@given(steps)
def test_waiting_units_are_neither_lost_nor_doubled_and_keep_their_order(
    steps: list[tuple[str, str, int]],
) -> None:
    waiting = WaitingUnits(limit=10_000)
    expected: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    checks: dict[str, int] = {"a": 0, "b": 0, "c": 0}
    last: TransformUnit | None = None
    next_file = 0
    for action, request, n in steps:
        if action == "add":
            units = [transform(request, next_file + k) for k in range(n)]
            next_file += n
            expected[request] += [unit.file_id for unit in units]
            waiting.add(units)
        elif action == "preflight":
            checks[request] += 1
            waiting.add([preflight(request)])
        elif action == "drop":
            assert waiting.drop(RequestId(request)) == len(expected[request]) + checks[request]
            expected[request], checks[request] = [], 0
            last = last if last is None or last.request_id != request else None
        elif action == "give back" and last is not None:
            waiting.give_back(last)
            expected[last.request_id].insert(0, last.file_id)
            last = None
        elif action == "take":
            for _ in range(n):
                last = None
                unit = waiting.take()
                if unit is None:
                    assert not any(expected.values())
                    assert not any(checks.values())
                elif isinstance(unit, PreflightUnit):
                    checks[unit.request_id] -= 1
                else:
                    assert not any(checks.values())
                    assert expected[unit.request_id].pop(0) == unit.file_id
                    last = unit
        assert len(waiting) == sum(map(len, expected.values())) + sum(checks.values())
