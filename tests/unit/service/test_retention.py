"""Which results go, and that only those go."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_bench import QUICK, USER, Bench, failed, is_running, new_bench, open_bench, prepare, succeed
from servicex_server.errors import NotFound, StoreFull
from servicex_server.model.ids import RequestId
from servicex_server.model.request import ANYONE
from servicex_server.model.unit import PreflightUnit, Reason, Report, Unit
from servicex_server.service.context import Services
from servicex_server.service.expire import describe_disk, expire, find_expired
from servicex_server.service.read import get_request, list_requests, list_results
from servicex_server.service.retention import Ended, Retention, bound_bytes, choose
from servicex_server.service.retry import retry
from servicex_server.service.submit import submit
from servicex_server.service.sweep import sweep
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.backends.memory import MemoryStore

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY_S = 86400.0
HOUR = timedelta(hours=1)


def ended(*hours_and_sizes: tuple[float, int]) -> list[Ended]:
    """Requests that ended so many hours ago, with so many bytes."""
    return [
        Ended(RequestId(str(uuid.UUID(int=number))), NOW - hours * HOUR, size)
        for number, (hours, size) in enumerate(hours_and_sizes)
    ]


def sizes_of(
    rule: Retention, requests: Sequence[Ended], *, running_bytes: int = 0, free_bytes: int | None = None
) -> list[int]:
    kept_bytes = running_bytes + sum(request.size_bytes for request in requests)
    chosen = choose(rule, requests, kept_bytes=kept_bytes, free_bytes=free_bytes, now=NOW)
    return [doomed.request.size_bytes for doomed in chosen]


def test_what_is_too_old_goes() -> None:
    requests = ended((24 * 31, 1), (24 * 30.5, 2), (24 * 29, 3), (0, 4))
    assert sizes_of(Retention(), requests) == [1, 2]
    assert sizes_of(Retention(max_age_s=28 * DAY_S), requests) == [1, 2, 3]
    assert sizes_of(Retention(max_age_s=None), requests) == []


def test_of_too_much_the_oldest_goes() -> None:
    requests = ended((50, 10), (40, 10), (30, 10), (20, 10))
    assert sizes_of(Retention(max_bytes=40), requests) == []
    assert sizes_of(Retention(max_bytes=39), requests) == [10]
    assert sizes_of(Retention(max_bytes=15), requests) == [10, 10, 10]
    assert sizes_of(Retention(max_bytes=39), requests, running_bytes=20) == [10, 10, 10]


def test_running_requests_count_but_never_go() -> None:
    assert sizes_of(Retention(max_bytes=5), [], running_bytes=100) == []


def test_what_has_just_ended_is_spared_for_its_size_but_not_what_takes_nothing() -> None:
    requests = ended((2, 0), (0.5, 50))
    assert sizes_of(Retention(max_bytes=10), requests) == []
    assert sizes_of(Retention(max_bytes=10, grace_s=60), requests) == [50]


def test_results_share_a_disk() -> None:
    requests = ended((50, 40), (40, 40))
    assert sizes_of(Retention(), requests, free_bytes=80) == []
    assert sizes_of(Retention(), requests, free_bytes=79) == [40]
    assert sizes_of(Retention(max_share=1.0), requests, free_bytes=0) == []
    assert sizes_of(Retention(max_bytes=60), requests, free_bytes=10**9) == [40]


def test_reasons_say_what_the_bound_is() -> None:
    chosen = choose(
        Retention(max_bytes=1000),
        ended((24 * 40, 5000), (5, 2000)),
        kept_bytes=7000,
        free_bytes=None,
        now=NOW,
    )
    assert [doomed.reason for doomed in chosen] == [
        "older than 30 days",
        "results take more than 1,000 bytes, and it is the oldest",
    ]


@given(
    requests=st.lists(st.tuples(st.floats(0, 2000), st.integers(0, 1000)), max_size=30),
    max_bytes=st.none() | st.integers(0, 5000),
    running=st.integers(0, 1000),
    free=st.none() | st.integers(0, 5000),
)
def test_what_stays_fits_or_is_spared_and_nothing_younger_goes_first(
    requests: list[tuple[float, int]], max_bytes: int | None, running: int, free: int | None
) -> None:
    rule = Retention(max_bytes=max_bytes)
    oldest_first = sorted(ended(*requests), key=lambda request: request.finish_time)
    kept = running + sum(request.size_bytes for request in oldest_first)
    bound = bound_bytes(rule, kept, free)
    chosen = choose(rule, oldest_first, kept_bytes=kept, free_bytes=free, now=NOW)
    gone = {doomed.request.id for doomed in chosen}
    left = [request for request in oldest_first if request.id not in gone]
    assert all(NOW - request.finish_time <= timedelta(days=30) for request in left)
    removable = [request for request in left if request.size_bytes and NOW - request.finish_time > HOUR]
    if bound is not None and removable:
        assert running + sum(request.size_bytes for request in left) <= bound
    assert [doomed.request for doomed in chosen] == [one for one in oldest_first if one.id in gone]
    by_size = [doomed.request for doomed in chosen if doomed.reason.startswith("results take")]
    assert all(one.finish_time <= other.finish_time for one in by_size for other in removable)


# The use cases


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        yield bench


def at(services: Services, *, hours: float = 0, **rule: float | None) -> Services:
    """The same server, so much later, with that rule."""
    now = services.clock() + hours * HOUR
    changed = replace(services.limits, retention=Retention(**rule))  # type: ignore[arg-type]
    return replace(services, clock=lambda: now, limits=changed)


async def deliver(bench: Bench, n_files: int = 2) -> RequestId:
    """A request that has ended; each file has ten bytes."""
    request_id = await submit(bench.services, USER, bench.submission(n_files))
    await bench.until_ended(request_id)
    return request_id


async def known(bench: Bench) -> list[RequestId]:
    return [request.id for request in await list_requests(bench.services, ANYONE)]


async def test_the_sweeper_removes_what_is_too_old(bench: Bench) -> None:
    async with bench.working():
        request_id = await deliver(bench)
    results = await list_results(bench.services, USER, request_id)
    await sweep(at(bench.services, hours=24 * 29))
    assert await known(bench) == [request_id]
    await sweep(at(bench.services, hours=24 * 31))
    assert await known(bench) == []
    for result in results:
        assert await bench.services.store.head(result.store_key or "") is None


async def test_a_request_that_runs_or_was_retried_stays(bench: Bench) -> None:
    hang = asyncio.Event()

    async def fail_then_hang(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, PreflightUnit):
            return await succeed(services, unit)
        return None if hang.is_set() else failed(unit, Reason.CORRUPT)

    async with bench.working(fail_then_hang):
        request_id = await deliver(bench)
        late = at(bench.services, hours=24 * 31)
        (doomed,) = await find_expired(late)
        assert doomed.request.id == request_id
        hang.set()
        await retry(bench.services, USER, request_id)
        await bench.until(request_id, is_running)
        assert await expire(late) == []
        assert await known(bench) == [request_id]


async def test_a_request_that_is_retried_between_looking_and_hiding_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, PreflightUnit):
            return await succeed(services, unit)
        return failed(unit, Reason.CORRUPT)

    async with bench.working(fail):
        request_id = await deliver(bench)
        late = at(bench.services, hours=24 * 31)
        seen = await find_expired(late)
        await retry(bench.services, USER, request_id)
        await bench.until_ended(request_id)

        async def find_as_seen(_: Services) -> object:
            return seen

        monkeypatch.setattr("servicex_server.service.expire.find_expired", find_as_seen)
        assert await expire(late) == []
    assert await known(bench) == [request_id]


async def test_the_oldest_go_until_the_rest_fits(bench: Bench) -> None:
    async with bench.working():
        ids = [await deliver(bench) for _ in range(4)]
    services = at(bench.services, hours=2, max_bytes=45)
    before = await describe_disk(services, limit=3)
    assert (before.totals.requests, before.totals.files, before.totals.size_bytes) == (4, 8, 80)
    assert len(before.largest) == 3
    assert (before.bound_bytes, before.room) == (45, None)
    assert [doomed.request.id for doomed in before.doomed] == ids[:2]
    assert await known(bench) == ids, "looking changes nothing"
    assert [doomed.request.id for doomed in await expire(services)] == ids[:2]
    assert services.backlog.purge_asked.is_set()
    with pytest.raises(NotFound):
        await get_request(services, USER, ids[0])
    assert await expire(services) == []
    assert await known(bench) == ids[2:]


async def test_requests_that_keep_nothing_hide_none_that_do(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servicex_server.service.expire._AT_ONCE", 2)
    async with bench.working(fail_all):
        empty = [await deliver(bench, 1) for _ in range(3)]
    async with bench.working():
        full = await deliver(bench)
    services = at(bench.services, hours=2, max_bytes=10)
    assert [doomed.request.id for doomed in await expire(services)] == [full]
    assert await known(bench) == empty
    old = at(bench.services, hours=24 * 31)
    assert [doomed.request.id for doomed in (*await expire(old), *await expire(old))] == empty


async def fail_all(services: Services, unit: Unit) -> Report | None:
    return await succeed(services, unit) if isinstance(unit, PreflightUnit) else failed(unit, Reason.CORRUPT)


async def test_what_is_deleted_but_not_yet_gone_drives_out_nothing_more(tmp_path: Path) -> None:
    url, _, root = await prepare(tmp_path)
    scratch = tmp_path / "small"
    scratch.mkdir()
    async with open_bench(url, MemoryStore(scratch, max_bytes=100), root) as bench:
        async with bench.working():
            ids = [await deliver(bench) for _ in range(3)]
        # 60 of 100 bytes are taken, a half may be.
        services = at(bench.services, hours=2)
        assert [doomed.request.id for doomed in await expire(services)] == ids[:1]
        assert await expire(services) == []


async def test_new_requests_are_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    url, _, root = await prepare(tmp_path)
    limits = replace(QUICK, submit_free_bytes=50)
    scratch = tmp_path / "small"
    scratch.mkdir()
    async with open_bench(url, MemoryStore(scratch, max_bytes=65), root, limits) as bench, bench.working():
        request_id = await deliver(bench)
        with pytest.raises(StoreFull, match=r"45 bytes are free, .* 50 on.*servicex-server disk.* sweep"):
            await submit(bench.services, USER, bench.submission())
        assert await known(bench) == [request_id]
        await sweep(at(bench.services, hours=24 * 31))
        await deliver(bench, 1)


def test_a_store_in_a_folder_knows_its_disk(tmp_path: Path) -> None:
    room = LocalStore(tmp_path).find_room()
    assert room is not None
    assert 0 <= room.free_bytes <= room.size_bytes
