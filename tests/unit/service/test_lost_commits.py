"""Every change is committed, the word of it gets lost, and it is run again: nobody must notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from service_bench import QUICK, USER, Bench, done, failed, new_bench, put
from servicex_server.db.session import Database
from servicex_server.errors import Conflict, DatabaseUnavailable, NotFound
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState
from servicex_server.model.request import FileCounts
from servicex_server.model.unit import Reason, Report, TransformUnit, Unit
from servicex_server.service.cancel import cancel
from servicex_server.service.dataset import delete_dataset, get_dataset, list_datasets
from servicex_server.service.delete import delete, purge
from servicex_server.service.dispatch import dispatch_some
from servicex_server.service.read import get_request, list_requests, wait_until_finished
from servicex_server.service.report import record_batch
from servicex_server.service.retry import retry
from servicex_server.service.submit import submit
from servicex_server.service.sweep import expire_preflights, expire_requests

T = TypeVar("T")


class Unheard:
    """A database whose commits are heard of at the second try only."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.refuses = 0

    async def read(self, query: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await self._db.read(query, *args, **kwargs)

    async def write(self, change: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        await self._db.write(change, *args, **kwargs)
        if self.refuses:
            self.refuses -= 1
            raise DatabaseUnavailable
        return await self._db.write(change, *args, **kwargs)


class Notebook:
    """A queue that keeps what it is told."""

    def __init__(self) -> None:
        self.units: list[Unit] = []
        self.canceled: list[RequestId] = []

    async def publish(self, units: list[Unit]) -> None:
        self.units += units

    async def cancel(self, request_id: RequestId) -> None:
        self.canceled.append(request_id)


class Letter:
    def __init__(self, report: Report) -> None:
        self.report = report

    async def ack(self) -> None:
        pass


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    limits = replace(QUICK, preflight_files=0, preflight_wait_s=0.0)
    async with new_bench(tmp_path, limits) as bench:
        services = replace(bench.services, db=Unheard(bench.services.db), queue=Notebook())  # type: ignore[arg-type]
        yield Bench(services, bench.root)


async def publish(bench: Bench) -> list[TransformUnit]:
    while await dispatch_some(bench.services):
        pass
    queue = bench.services.queue
    assert isinstance(queue, Notebook)
    units, queue.units = queue.units, []
    return [unit for unit in units if isinstance(unit, TransformUnit)]


async def begin(bench: Bench, n_files: int = 1) -> tuple[RequestId, list[TransformUnit]]:
    request_id = await submit(bench.services, USER, bench.submission(n_files))
    return request_id, await publish(bench)


async def test_submit_stores_one_request(bench: Bench) -> None:
    request_id, units = await begin(bench, 3)
    assert len(units) == 3
    assert [request.id for request in await list_requests(bench.services, USER)] == [request_id]
    (dataset,) = await list_datasets(bench.services, USER)
    assert len((await get_dataset(bench.services, USER, dataset.id))[1]) == 3


async def test_cancel_reaches_the_queue(bench: Bench) -> None:
    request_id, _ = await begin(bench)
    assert (await cancel(bench.services, USER, request_id)).state is RequestState.CANCELED
    queue = bench.services.queue
    assert isinstance(queue, Notebook)
    assert queue.canceled == [request_id]
    with pytest.raises(Conflict):
        await cancel(bench.services, USER, request_id)


async def test_a_failed_attempt_is_followed_by_another(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    await record_batch(bench.services, [Letter(failed(unit, Reason.UNAVAILABLE))])
    (again,) = await publish(bench)
    assert again.attempt == 2
    put(bench.services, again, b"x")
    waiting = asyncio.create_task(
        wait_until_finished(bench.services, await get_request(bench.services, USER, request_id), 20)
    )
    await asyncio.sleep(0)
    await record_batch(bench.services, [Letter(done(again))])
    ended = await waiting
    assert (ended.state, ended.counts) == (RequestState.COMPLETE, FileCounts(1, 1, 0))
    assert not bench.services.backlog.known


async def test_so_it_is_if_the_database_was_away_meanwhile(bench: Bench) -> None:
    _, (unit, other) = await begin(bench, 2)
    put(bench.services, other, b"x")
    assert isinstance(bench.services.db, Unheard)
    bench.services.db.refuses = 2
    letters = [Letter(failed(unit, Reason.UNAVAILABLE)), Letter(done(other))]
    await record_batch(bench.services, letters)
    assert [again.file_id for again in await publish(bench)] == [unit.file_id]
    assert await bench.services.store.head(other.store_key) is not None


async def test_retry_starts_the_failed_files(bench: Bench) -> None:
    request_id, (unit,) = await begin(bench)
    await record_batch(bench.services, [Letter(failed(unit, Reason.CORRUPT))])
    assert (await retry(bench.services, USER, request_id)).state is RequestState.RUNNING
    assert [again.attempt for again in await publish(bench)] == [1]


async def test_what_is_deleted_is_gone_without_an_error(bench: Bench) -> None:
    request_id, _ = await begin(bench)
    await cancel(bench.services, USER, request_id)
    (dataset,) = await list_datasets(bench.services, USER)
    await delete_dataset(bench.services, USER, dataset.id)
    with pytest.raises(Conflict):
        await delete_dataset(bench.services, USER, dataset.id)
    await delete(bench.services, USER, request_id)
    with pytest.raises(NotFound):
        await delete(bench.services, USER, request_id)
    assert await purge(bench.services) == 1
    assert await list_datasets(bench.services, USER, show_deleted=True) == []


async def test_expired_requests_end_and_silent_preflights_pass(bench: Bench) -> None:
    services = replace(bench.services, limits=replace(bench.services.limits, preflight_files=1))
    request_id = await submit(services, USER, bench.submission())
    soon = services.clock() + timedelta(seconds=301)
    assert await expire_preflights(replace(services, clock=lambda: soon)) == 1
    assert len(await publish(bench)) == 1
    late = services.clock() + timedelta(days=8)
    assert await expire_requests(replace(services, clock=lambda: late)) == 1
    queue = bench.services.queue
    assert isinstance(queue, Notebook)
    assert queue.canceled == [request_id]
