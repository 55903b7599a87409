"""A server that stops in the middle, and what its sweeper puts right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from service_bench import (
    QUICK,
    USER,
    Bench,
    eventually,
    failed,
    is_running,
    new_bench,
    open_bench,
    prepare,
    put,
    succeed,
)
from servicex_server.db import request as requests
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState, ResultFormat
from servicex_server.model.request import FileCounts
from servicex_server.model.unit import PreflightUnit, Reason, Report, TransformUnit, Unit
from servicex_server.service.cancel import cancel
from servicex_server.service.context import Services
from servicex_server.service.delete import delete
from servicex_server.service.dispatch import resume
from servicex_server.service.read import list_results, wait_until_finished
from servicex_server.service.submit import submit
from servicex_server.service.sweep import (
    audit,
    clear_scratch,
    expire_preflights,
    expire_requests,
    remove_orphans,
    sweep,
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        yield bench


def later(bench: Bench, **by: float) -> Services:
    moment = bench.services.clock() + timedelta(**by)
    clock: Callable[[], datetime] = lambda: moment  # noqa: E731
    return replace(bench.services, clock=clock)


async def test_a_restart_delivers_what_is_left(tmp_path: Path) -> None:
    url, store, root = await prepare(tmp_path)
    answered = 0

    async def stop_in_the_middle(services: Services, unit: Unit) -> Report | None:
        nonlocal answered
        if isinstance(unit, TransformUnit):
            answered += 1
            if answered > 8:
                return None
            if answered in {3, 4}:
                return failed(unit, Reason.LOST)
        return await succeed(services, unit)

    limits = replace(QUICK, retry_backoff_s=3600.0)
    async with open_bench(url, store, root, limits) as first, first.working(stop_in_the_middle, slots=20):
        request_id = await submit(first.services, USER, first.submission(20))

        async def is_halfway() -> bool:
            attempts = await first.services.db.read(_count, "attempt")
            return attempts == 2 and (await first.get(request_id)).counts.completed == 6

        await eventually(is_halfway)
    async with open_bench(url, store, root) as second, second.working():
        ended = await second.until_ended(request_id)
        assert ended.counts == FileCounts(20, 20, 0)
        results = await list_results(second.services, USER, request_id)
    assert len({result.object_name for result in results}) == 20
    assert len(second.seen) == 14, "files with a result are not done again"
    assert sorted({unit.attempt for unit in second.seen if isinstance(unit, TransformUnit)}) == [1, 2]


async def test_a_restart_tries_the_query_again(tmp_path: Path) -> None:
    url, store, root = await prepare(tmp_path)
    async with open_bench(url, store, root, replace(QUICK, preflight_wait_s=0.0)) as first:
        request_id = await submit(first.services, USER, first.submission(2))
    async with open_bench(url, store, root) as second, second.working():
        assert (await second.until_ended(request_id)).state is RequestState.COMPLETE
    assert isinstance(second.seen[0], PreflightUnit)


async def test_a_restart_leaves_ended_requests_alone(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(2))
        await bench.until_ended(request_id)
    assert bench.services.backlog.is_empty
    await resume(bench.services)
    assert bench.services.backlog.is_empty


async def test_a_deletion_goes_on_after_a_restart(tmp_path: Path) -> None:
    url, store, root = await prepare(tmp_path)
    async with open_bench(url, store, root) as first:
        async with first.working():
            request_id = await submit(first.services, USER, first.submission(3))
            await first.until_ended(request_id)
            results = await list_results(first.services, USER, request_id)
        await delete(first.services, USER, request_id)
    async with open_bench(url, store, root) as second:
        await sweep(second.services)
        assert await second.services.db.read(requests.find_known, [request_id]) == set()
        for table in ("file_result", "attempt", "request"):
            assert await second.services.db.read(_count, table) == 0
    for result in results:
        assert result.store_key is not None
        assert await store.head(result.store_key) is None


async def test_wrong_counters_are_repaired(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(4))
        right = await bench.until_ended(request_id)
    assert await audit(bench.services) == 0
    await bench.services.db.write(_run, "UPDATE request SET completed = 1, failed = 3, total_bytes = 0")
    assert await audit(bench.services) == 1
    assert await bench.get(request_id) == right
    assert await bench.services.db.read(_scalar, "SELECT total_bytes FROM request") == 40


async def test_a_request_completes_by_an_audit(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(2))
        await bench.until_ended(request_id)
    lost = "UPDATE request SET completed = 1, state = 'Running', finish_time = NULL"
    await bench.services.db.write(_run, lost)
    request = await bench.get(request_id)
    waiting = asyncio.create_task(wait_until_finished(bench.services, request, 30))
    await sweep(bench.services)
    ended = await waiting
    assert (ended.state, ended.counts) == (RequestState.COMPLETE, FileCounts(2, 2, 0))


async def test_no_request_lives_for_ever(bench: Bench) -> None:
    async with bench.working(_preflight_only):
        request_id = await submit(bench.services, USER, bench.submission(2))
        await bench.until(request_id, is_running)
        await sweep(later(bench, hours=167))
        assert is_running(await bench.get(request_id))
        assert await expire_requests(later(bench, hours=169)) == 1
        request = await bench.get(request_id)
    assert request.state is RequestState.FATAL
    assert request.failure_info is not None
    assert request.failure_info.startswith("the request did not finish in 168 h")
    assert request.title is not None
    assert request.title.startswith("a title — the request did not finish")


async def test_a_silent_preflight_lets_the_request_go_on(tmp_path: Path) -> None:
    async def no_preflight(services: Services, unit: Unit) -> Report | None:
        return None if isinstance(unit, PreflightUnit) else await succeed(services, unit)

    limits = replace(QUICK, preflight_wait_s=0.0)
    async with new_bench(tmp_path, limits) as bench, bench.working(no_preflight):
        request_id = await submit(bench.services, USER, bench.submission(2))
        assert await expire_preflights(later(bench, seconds=299)) == 0
        assert await expire_preflights(later(bench, seconds=301)) == 1
        assert (await bench.until_ended(request_id)).state is RequestState.COMPLETE


async def test_objects_of_unknown_requests_are_removed(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(2))
        await bench.until_ended(request_id)
        kept = await list_results(bench.services, USER, request_id)
    stranger = "00000000-0000-4000-8000-000000000000/1-0-1"
    for key in (stranger, "somebody/elses"):
        unit = TransformUnit(
            RequestId("x"), kept[0].file_id, (), "uproot", "", ResultFormat.PARQUET, store_key=key
        )
        put(bench.services, unit, b"x")
    assert await remove_orphans(bench.services) == 1
    assert await bench.services.store.head(stranger) is None
    assert await bench.services.store.head("somebody/elses") is not None
    for result in kept:
        assert result.store_key is not None
        assert await bench.services.store.head(result.store_key) is not None


async def test_old_scratch_files_are_removed(bench: Bench) -> None:
    scratch = bench.services.store.scratch_folder()
    (scratch / "left").write_bytes(b"x")
    assert await clear_scratch(later(bench, hours=23)) == 0
    assert await clear_scratch(later(bench, hours=25)) == 1
    assert list(scratch.iterdir()) == []


async def test_a_failing_step_does_not_keep_the_others(bench: Bench) -> None:
    async with bench.working(_preflight_only):
        request_id = await submit(bench.services, USER, bench.submission())
        await cancel(bench.services, USER, request_id)
        await delete(bench.services, USER, request_id)
    await bench.services.db.write(_run, "DROP TABLE attempt")
    (bench.services.store.scratch_folder() / "left").write_bytes(b"x")
    await sweep(later(bench, hours=25))
    assert list(bench.services.store.scratch_folder().iterdir()) == []


async def _preflight_only(services: Services, unit: Unit) -> Report | None:
    return await succeed(services, unit) if isinstance(unit, PreflightUnit) else None


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def _scalar(connection: Connection, statement: str) -> object:
    return connection.execute(text(statement)).scalar_one()


def _count(connection: Connection, table: str) -> int:
    return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
