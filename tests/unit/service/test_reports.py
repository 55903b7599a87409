"""Reports that come twice, late, wrong or not at all."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service_bench import QUICK, USER, Bench, done, failed, new_bench, put, succeed
from servicex_server.db.session import Transaction
from servicex_server.errors import DatabaseUnavailable
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import FileStatus, RequestState
from servicex_server.model.request import FileCounts
from servicex_server.model.tally import MAX_STEPS, CutStep, StageSeconds, Tally, WeightSum
from servicex_server.model.unit import PreflightDone, Reason, Report, TransformUnit, Unit
from servicex_server.service import report as reporting
from servicex_server.service.backlog import Backlog
from servicex_server.service.cancel import cancel
from servicex_server.service.context import Services
from servicex_server.service.dispatch import dispatch_some
from servicex_server.service.read import list_results, statistics
from servicex_server.service.record import Recorded, record
from servicex_server.service.report import record_batch
from servicex_server.service.submit import submit
from servicex_server.store.protocol import StoredObject

DIRECT = replace(QUICK, preflight_files=0, preflight_wait_s=0.0)


class Letter:
    """A delivery that remembers whether it was acknowledged."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self.acks = 0

    @property
    def report(self) -> Report:
        return self._report

    async def ack(self) -> None:
        self.acks += 1


class Notebook:
    """A queue that keeps what is published."""

    def __init__(self) -> None:
        self.units: list[TransformUnit] = []
        self.canceled: list[RequestId] = []

    async def publish(self, units: list[TransformUnit]) -> None:
        self.units += units

    async def cancel(self, request_id: RequestId) -> None:
        self.canceled.append(request_id)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path, DIRECT) as bench:
        yield Bench(replace(bench.services, queue=Notebook()), bench.root)  # type: ignore[arg-type]


async def begin(bench: Bench, n_files: int = 1) -> tuple[RequestId, list[TransformUnit]]:
    request_id = await submit(bench.services, USER, bench.submission(n_files))
    return request_id, await published(bench)


async def test_what_a_worker_counted_is_kept_whatever_it_is(bench: Bench) -> None:
    request_id, units = await begin(bench, 2)
    good = Tally(7, StageSeconds(read=0.5), (CutStep("x > 1", 3),), (WeightSum("w", 2.0, 1.0),))
    odd = Tally(
        -1, StageSeconds(read=math.nan), (CutStep("\0\ud800", -3),) * 1000, (WeightSum("w", math.inf, 1.0),)
    )
    reports = [done(unit, tally=tally) for unit, tally in zip(units, (good, odd), strict=True)]
    for unit in units:
        put(bench.services, unit, b"x")
    await record_batch(bench.services, [Letter(report) for report in reports])
    first, second = await list_results(bench.services, USER, request_id, with_tally=True)
    assert first.tally == good
    assert second.tally is not None
    assert len(second.tally.cut_flow) == MAX_STEPS
    assert second.tally.cut_flow[0] == CutStep("�?", 0)
    assert second.tally.seconds == StageSeconds()
    assert math.isnan(second.tally.sums_of_weights[0].before)
    assert [result.tally for result in await list_results(bench.services, USER, request_id)] == [None, None]


async def published(bench: Bench) -> list[TransformUnit]:
    while await dispatch_some(bench.services):
        pass
    queue = bench.services.queue
    assert isinstance(queue, Notebook)
    units, queue.units = queue.units, []
    return units


async def tell(bench: Bench, *reports: Report) -> None:
    letters = [Letter(report) for report in reports]
    await record_batch(bench.services, letters)
    assert [letter.acks for letter in letters] == [1] * len(letters)


async def test_a_report_told_twice_counts_once(bench: Bench) -> None:
    request_id, (first, second) = await begin(bench, 2)
    put(bench.services, first, b"one")
    for _ in range(3):
        await tell(bench, done(first), done(first))
    assert (await bench.get(request_id)).counts == FileCounts(2, 1, 0)
    assert await bench.services.store.head(first.store_key) is not None
    put(bench.services, second, b"two")
    await tell(bench, done(second), done(first))
    request = await bench.get(request_id)
    assert (request.state, request.counts) == (RequestState.COMPLETE, FileCounts(2, 2, 0))
    await tell(bench, done(second), done(first))
    assert await bench.get(request_id) == request
    assert await bench.services.store.head(second.store_key) is not None


async def test_the_object_of_a_second_attempt_is_removed(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    double = replace(unit, attempt=2, store_key=f"{request_id}/{unit.file_id}-0-2")
    put(bench.services, unit, b"one")
    put(bench.services, double, b"two")
    await tell(bench, done(unit), done(double))
    (result,) = await list_results(bench.services, USER, request_id)
    assert (result.store_key, result.attempts) == (unit.store_key, 1)
    assert await bench.services.store.head(unit.store_key) is not None
    assert await bench.services.store.head(double.store_key) is None


async def test_a_transient_failure_is_tried_again_a_final_one_is_not(bench: Bench) -> None:
    request_id, (first, second) = await begin(bench, 2)
    await tell(bench, failed(first, Reason.UNAVAILABLE), failed(second, Reason.CORRUPT, "bad basket"))
    assert (await bench.get(request_id)).counts == FileCounts(2, 0, 1)
    (again,) = await published(bench)
    assert (again.file_id, again.attempt) == (first.file_id, 2)
    assert again.store_key != first.store_key
    put(bench.services, again, b"x")
    await tell(bench, done(again))
    request = await bench.get(request_id)
    assert (request.state, request.counts) == (RequestState.COMPLETE, FileCounts(2, 1, 1))
    (bad,) = await list_results(bench.services, USER, request_id, status=FileStatus.FAILURE)
    assert (bad.reason, bad.object_name, bad.store_key) == ("bad basket", None, None)


async def test_attempts_are_limited(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    for _ in range(2):
        await tell(bench, failed(unit, Reason.LOST, "it died"))
        (unit,) = await published(bench)
    await tell(bench, failed(unit, Reason.LOST, "it died"))
    assert await published(bench) == []
    request = await bench.get(request_id)
    assert (request.state, request.counts) == (RequestState.COMPLETE, FileCounts(1, 0, 1))
    (result,) = await list_results(bench.services, USER, request_id)
    assert result.reason == "it died (after 3 attempts)"
    assert result.attempts == 3


async def test_a_failure_told_twice_is_one_attempt(bench: Bench) -> None:
    _, (unit,) = await begin(bench)
    await tell(bench, failed(unit, Reason.LOST), failed(unit, Reason.LOST))
    await tell(bench, failed(unit, Reason.LOST))
    assert [again.attempt for again in await published(bench)] == [2]


async def test_a_failure_that_another_leader_recorded_is_tried_again(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    rival = Bench(replace(bench.services, backlog=Backlog()), bench.root)
    # It loses its place between its commit and the next attempt, while the unit is offered here.
    await tell(rival, failed(unit, Reason.LOST))
    await tell(bench, failed(unit, Reason.LOST))
    (again,) = await published(bench)
    assert (again.file_id, again.attempt) == (unit.file_id, 2)
    put(bench.services, again, b"x")
    await tell(bench, done(again))
    assert (await bench.get(request_id)).state is RequestState.COMPLETE


async def test_an_object_that_is_not_there_is_a_failed_attempt(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    await tell(bench, done(unit))
    assert (await bench.get(request_id)).counts == FileCounts(1, 0, 0)
    (again,) = await published(bench)
    assert again.attempt == 2


async def test_reports_of_a_canceled_request_are_ignored(bench: Bench) -> None:
    request_id, (first, second, third) = await begin(bench, 3)
    for unit in (first, second):
        put(bench.services, unit, b"x")
    await tell(bench, done(first))
    await cancel(bench.services, USER, request_id)
    queue = bench.services.queue
    assert isinstance(queue, Notebook)
    assert queue.canceled == [request_id]
    await tell(bench, done(second), done(first), failed(third, Reason.LOST))
    request = await bench.get(request_id)
    assert (request.state, request.counts) == (RequestState.CANCELED, FileCounts(3, 1, 0))
    assert await bench.services.store.head(first.store_key) is not None
    assert await bench.services.store.head(second.store_key) is None
    assert await published(bench) == []


async def test_reports_of_unknown_requests_and_files_are_ignored(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    stranger = replace(unit, request_id=RequestId("00000000-0000-4000-8000-000000000000"), store_key="lost/1")
    other_file = replace(unit, file_id=FileId(4711), store_key=f"{request_id}/4711-0-1")
    put(bench.services, stranger, b"x")
    put(bench.services, other_file, b"x")
    await tell(
        bench,
        done(stranger),
        done(other_file),
        failed(other_file, Reason.CORRUPT),
        PreflightDone(stranger.request_id, rejection="no"),
    )
    assert (await bench.get(request_id)).counts == FileCounts(1, 0, 0)
    assert await bench.services.store.head("lost/1") is None
    assert await bench.services.store.head(other_file.store_key) is None


async def test_one_batch_may_speak_of_many_requests(bench: Bench) -> None:
    begun = [await begin(bench, n) for n in (1, 2, 3)]
    units = [unit for _, units in begun for unit in units]
    for unit in units:
        put(bench.services, unit, b"x")
    await tell(bench, *(done(unit) for unit in reversed(units)))
    for request_id, _ in begun:
        assert (await bench.get(request_id)).state is RequestState.COMPLETE


def _at(moment: datetime) -> datetime:
    return moment


async def test_result_times_rise_even_if_the_clock_falls(bench: Bench) -> None:
    request_id, units = await begin(bench, 4)
    now = bench.services.clock()
    for step, unit in enumerate(units):
        put(bench.services, unit, b"x")
        moment = now - timedelta(hours=step)
        earlier = Bench(replace(bench.services, clock=partial(_at, moment)), bench.root)
        await tell(earlier, done(unit))
    times = [result.created_at for result in await list_results(bench.services, USER, request_id)]
    assert times == sorted(set(times))


async def test_statistics_follow_the_rows(bench: Bench) -> None:
    request_id, (first, second, third) = await begin(bench, 3)
    assert await statistics(bench.services, USER, request_id) is None
    put(bench.services, first, b"12345")
    put(bench.services, second, b"123")
    await tell(bench, done(first, seconds=1.0), failed(third, Reason.CORRUPT))
    await tell(bench, done(second, seconds=3.0, n_events_in=300))
    totals = await statistics(bench.services, USER, request_id)
    assert totals is not None
    assert (totals.min_s, totals.max_s, totals.avg_s, totals.total_s) == (1.0, 3.0, 2.0, 4.0)
    assert (totals.total_bytes, totals.total_events, totals.events_per_s) == (8, 400, 100.0)


async def test_text_that_no_database_takes_is_made_fit(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    await tell(
        bench, replace(failed(unit, Reason.INTERNAL, "a\0b\ud800" + "x" * 10_000), seconds=float("nan"))
    )
    (result,) = await list_results(bench.services, USER, request_id)
    assert result.reason is not None
    assert len(result.reason) == 4_000
    assert "\0" not in result.reason


async def test_a_key_that_no_store_takes_is_a_failed_attempt(bench: Bench) -> None:
    request_id, (unit, other) = await begin(bench, 2)
    put(bench.services, other, b"x")
    await tell(bench, done(unit, store_key="//"), done(other))
    assert (await bench.get(request_id)).counts == FileCounts(2, 1, 0)
    assert [again.attempt for again in await published(bench)] == [2]


async def test_a_report_that_defies_recording_ends_its_file_alone(bench: Bench) -> None:
    request_id, (unit, other) = await begin(bench, 2)
    put(bench.services, unit, b"x")
    put(bench.services, other, b"x")
    await tell(bench, done(unit, n_events_in=2**70), done(other))
    request = await bench.get(request_id)
    assert (request.state, request.counts) == (RequestState.COMPLETE, FileCounts(2, 1, 1))
    (bad,) = await list_results(bench.services, USER, request_id, status=FileStatus.FAILURE)
    assert bad.reason == "the server could not record the outcome of this file; see its log"


async def test_reports_wait_for_an_absent_store(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    put(bench.services, unit, b"x")
    calls = 0

    class AwayAtFirst:
        async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
            nonlocal calls
            calls += 1
            if calls <= 2:
                raise ConnectionRefusedError
            return await bench.services.store.heads(keys)

    services = replace(bench.services, store=AwayAtFirst())  # type: ignore[arg-type]  # all that is asked of it
    await tell(Bench(services, bench.root), done(unit))
    assert calls == 3
    assert (await bench.get(request_id)).state is RequestState.COMPLETE


async def test_reports_wait_for_an_absent_database(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    request_id, (unit,) = await begin(bench)
    put(bench.services, unit, b"x")
    calls = 0
    real = record

    def fail_first(transaction: Transaction, *args: Any, **kwargs: Any) -> Recorded:
        nonlocal calls
        calls += 1
        if calls <= 2:
            raise DatabaseUnavailable
        return real(transaction, *args, **kwargs)

    monkeypatch.setattr(reporting, "record", fail_first)
    await tell(bench, done(unit))
    assert calls == 3
    assert (await bench.get(request_id)).state is RequestState.COMPLETE


async def test_files_without_result_are_retried_by_the_workers_loop(tmp_path: Path) -> None:
    async def fail_once(services: Services, unit: Unit) -> Report:
        if isinstance(unit, TransformUnit) and unit.attempt == 1:
            return failed(unit, Reason.UNAVAILABLE)
        return await succeed(services, unit)

    async with new_bench(tmp_path) as bench, bench.working(fail_once):
        ids = await asyncio.gather(*(submit(bench.services, USER, bench.submission(5)) for _ in range(3)))
        for request_id in ids:
            request = await bench.until_ended(request_id)
            assert request.counts == FileCounts(5, 5, 0)
            results = await list_results(bench.services, USER, request_id)
            assert {result.attempts for result in results} == {2}
