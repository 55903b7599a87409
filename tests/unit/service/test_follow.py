"""News of a request through the database: complete, in order, the same from every process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service_bench import QUICK, USER, Bench, done, failed, new_bench, open_bench, put, succeed
from servicex_server.errors import Busy
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import FileStatus, RequestState
from servicex_server.model.progress import (
    BEFORE_ALL,
    EndNews,
    EventId,
    FileNews,
    News,
    NoNews,
    ProgressNews,
    StateNews,
)
from servicex_server.model.request import ANYONE
from servicex_server.model.unit import PreflightUnit, Reason, Report, Unit
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.context import Services
from servicex_server.service.delete import delete
from servicex_server.service.follow import follow, is_over
from servicex_server.service.retry import retry
from servicex_server.service.stream import Streams
from servicex_server.service.submit import submit
from servicex_server.store.backends.memory import MemoryStore

EAGER = replace(
    QUICK, preflight_files=0, stream_page=3, stream_pause_s=0.0, stream_poll_s=5.0, report_batch=4
)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path, EAGER) as bench:
        yield bench


async def odd_files_fail(services: Services, unit: Unit) -> Report:
    if isinstance(unit, PreflightUnit) or unit.file_id % 2 == 0 or unit.attempt > 1:
        return await succeed(services, unit)
    return failed(unit, Reason.CORRUPT)


async def collect(services: Services, request_id: RequestId, after: EventId = BEFORE_ALL) -> list[News]:
    async with asyncio.timeout(30):
        return [news async for news in follow(services, request_id, after)]


def events(news: list[News]) -> list[FileNews | EndNews]:
    return [each for each in news if isinstance(each, FileNews | EndNews)]


def ids(news: list[News]) -> list[EventId]:
    return [each.id for each in events(news)]


async def test_a_live_reader_hears_of_every_file_and_of_the_end(bench: Bench) -> None:
    request_id = await start(bench, 10)
    listening = asyncio.create_task(collect(bench.services, request_id))
    async with bench.working(odd_files_fail):
        news = await listening
    told = events(news)
    assert len(told) == 11
    assert isinstance(told[-1], EndNews)
    assert ids(news) == sorted(set(ids(news)))
    states = [each.standing.state for each in news if isinstance(each, StateNews)]
    assert states[-1] is RequestState.COMPLETE
    (last,) = [each.progress for each in news if isinstance(each, ProgressNews)][-1:]
    assert (last.counts.completed, last.counts.failed, last.eta_s) == (5, 5, 0.0)
    outcomes = {each.result.status for each in told if isinstance(each, FileNews)}
    assert outcomes == {FileStatus.SUCCESS, FileStatus.FAILURE}


async def start(bench: Bench, n_files: int) -> RequestId:
    """A running request whose files nobody works on yet."""
    return await submit(bench.services, USER, bench.submission(n_files))


async def test_cut_off_anywhere_across_a_restart_and_a_retry(tmp_path: Path) -> None:
    """Readers that leave at random and go on elsewhere hear one sequence; a retry appends to it."""
    dice = random.Random(20260301)
    async with new_bench(tmp_path, EAGER) as bench:
        request_id = await start(bench, 15)
        async with bench.working(odd_files_fail):
            first = await collect(bench.services, request_id)
        url, store, root = bench.services.db.url, bench.services.store, bench.root
    assert isinstance(store, MemoryStore)
    async with open_bench(url, store, root, EAGER) as other:
        assert ids(await collect(other.services, request_id)) == ids(first)
        for _ in range(10):
            assert await piecewise(other.services, request_id, dice) == ids(first)
        end = ids(first)[-1]
        assert await is_over(other.services, request_id, end)
        await retry(other.services, USER, request_id)
        assert not await is_over(other.services, request_id, end)
        async with other.working():
            second = await collect(other.services, request_id, end)
        assert min(ids(second)) > end
        # Successes of the first round, those of the second, one end; whoever was somewhere goes on there.
        whole = ids(await collect(other.services, request_id))
        assert len(whole) == 16
        assert whole[-len(ids(second)) :] == ids(second)
        assert set(whole[: -len(ids(second))]) <= set(ids(first))
        for known in ids(first):
            rest = ids(await collect(other.services, request_id, known))
            assert rest == [each for each in whole if each > known]


async def piecewise(services: Services, request_id: RequestId, dice: random.Random) -> list[EventId]:
    heard: list[EventId] = []
    while not heard or not await is_over(services, request_id, heard[-1]):
        left = dice.randint(1, 6)
        async with aclosing(follow(services, request_id, heard[-1] if heard else BEFORE_ALL)) as news:
            async for each in news:
                if isinstance(each, FileNews | EndNews):
                    heard.append(each.id)
                    left -= 1
                if not left:
                    break
    return heard


async def test_a_clock_that_is_set_back_disturbs_no_order(bench: Bench) -> None:
    hours = iter(range(1000))
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    services = replace(bench.services, clock=lambda: begin - timedelta(hours=next(hours)))
    back = Bench(services, bench.root)
    request_id = await start(back, 8)
    async with back.working(odd_files_fail):
        first = await collect(services, request_id)
        await retry(services, USER, request_id)
        second = await collect(services, request_id, ids(first)[-1])
    assert ids(first) == sorted(ids(first))
    assert min(ids(second)) > max(ids(first))
    assert len(events(second)) == 5


async def test_an_app_whose_bells_do_not_ring_hears_by_looking(tmp_path: Path) -> None:
    limits = replace(EAGER, stream_poll_s=0.05)
    async with new_bench(tmp_path, limits) as leader, MemoryQueue() as queue:
        db, store = leader.services.db, leader.services.store
        other = Services(db=db, queue=queue, store=store, policy=leader.services.policy, limits=limits)
        request_id = await start(leader, 5)
        listening = asyncio.create_task(collect(other, request_id))
        async with leader.working():
            news = await listening
        assert ids(news) == ids(await collect(leader.services, request_id))


async def test_a_slow_reader_loses_nothing_and_holds_up_nobody(bench: Bench) -> None:
    request_id = await start(bench, 12)
    async with aclosing(follow(bench.services, request_id)) as slow:
        slowly: list[News] = [await anext(slow)]
        async with bench.working(odd_files_fail):
            fast = await collect(bench.services, request_id)
        slowly += [each async for each in slow]
    assert ids(slowly) == ids(fast)


async def test_silence_is_filled_and_a_stream_ends_some_day(tmp_path: Path) -> None:
    limits = replace(EAGER, stream_poll_s=0.01, stream_quiet_s=0.01, stream_life_s=0.2)
    async with new_bench(tmp_path, limits) as bench:
        request_id = await start(bench, 2)
        news = await collect(bench.services, request_id)
    assert any(isinstance(each, NoNews) for each in news)
    assert not events(news)


async def test_a_deleted_request_ends_the_stream(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(2))
        await bench.until_ended(request_id)
        await delete(bench.services, ANYONE, request_id)
        assert await collect(bench.services, request_id) == []


async def test_attempts_and_numbers_are_told(bench: Bench) -> None:
    async def second_try(services: Services, unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return await succeed(services, unit)
        if unit.attempt == 1:
            return failed(unit, Reason.UNAVAILABLE)
        put(services, unit, b"0123456789")
        return done(unit, n_events_in=70, n_events_out=7, bytes_read=1234, seconds=0.25)

    async with bench.working(second_try):
        request_id = await submit(bench.services, USER, bench.submission(1))
        (file, _) = events(await collect(bench.services, request_id))
    assert isinstance(file, FileNews)
    numbers = file.result
    assert (numbers.attempts, numbers.n_events_in, numbers.n_events_out) == (2, 70, 7)
    assert (numbers.bytes_read, numbers.size_bytes, numbers.seconds) == (1234, 10, 0.25)


def test_streams_are_bounded_for_each_user_and_in_all() -> None:
    streams = Streams(total=3, per_user=2)
    with streams.open("marie"):
        with streams.open("marie"):
            with pytest.raises(Busy, match="event_streams_per_user"), streams.open("marie"):
                pass
            with streams.open("niels"), pytest.raises(Busy, match="event_streams"), streams.open("lise"):
                pass
            assert len(streams) == 2
        with streams.open("marie"):
            pass
    assert len(streams) == 0
