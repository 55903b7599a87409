"""Cancel, delete, retry, read: who may, when, and what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from service_bench import OTHER, QUICK, USER, Bench, eventually, failed, new_bench, succeed
from servicex_server.db import request as requests
from servicex_server.errors import Conflict, LimitReached, NotAllowed, NotFound
from servicex_server.model.kinds import FileStatus, RequestState
from servicex_server.model.request import ANYONE, FileCounts
from servicex_server.model.unit import PreflightUnit, Reason, Report, TransformUnit, Unit
from servicex_server.service.bucket import RequestBuckets
from servicex_server.service.cancel import cancel
from servicex_server.service.context import Services
from servicex_server.service.dataset import delete_dataset, get_dataset, list_datasets
from servicex_server.service.delete import delete, purge
from servicex_server.service.read import (
    count_results,
    get_request,
    list_requests,
    list_results,
    statistics,
    wait_until_finished,
)
from servicex_server.service.retry import retry
from servicex_server.service.submit import submit


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        yield bench


async def test_cancel_while_running(bench: Bench) -> None:
    started = asyncio.Event()

    async def never_end(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, PreflightUnit):
            return await succeed(services, unit)
        started.set()
        return None

    async with bench.working(never_end):
        request_id = await submit(bench.services, USER, bench.submission(3))
        await started.wait()
        canceled = await cancel(bench.services, USER, request_id)
        assert canceled.state is RequestState.CANCELED
        assert canceled.finish_time is not None
        with pytest.raises(Conflict, match="has ended already: it is Canceled"):
            await cancel(bench.services, USER, request_id)


async def test_cancel_before_the_query_was_tried(bench: Bench) -> None:
    waiting = asyncio.create_task(submit(bench.services, USER, bench.submission()))
    await eventually(lambda: list_requests(bench.services, USER))
    known = await list_requests(bench.services, USER)
    assert (await cancel(bench.services, USER, known[0].id)).state is RequestState.CANCELED
    assert await waiting == known[0].id, "whoever waits for the preflight gets the id"


async def test_delete_hides_at_once_and_frees_the_bucket(bench: Bench) -> None:
    buckets = RequestBuckets(bench.services)
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(3))
        request = await bench.until_ended(request_id)
        results = await list_results(bench.services, USER, request_id)
    await delete(bench.services, USER, request_id)
    with pytest.raises(NotFound, match=request_id):
        await get_request(bench.services, USER, request_id)
    assert await list_requests(bench.services, ANYONE) == []
    assert await buckets.find_key(request.access_key) is None
    assert not await buckets.exists(request_id)
    assert await buckets.list_objects(request_id, prefix="", after=None, limit=10) == []
    assert results[0].object_name is not None
    assert await buckets.find_object(request_id, results[0].object_name) is None
    assert await purge(bench.services) == 1
    for result in results:
        assert result.store_key is not None
        assert await bench.services.store.head(result.store_key) is None
    assert await bench.services.db.read(requests.find_known, [request_id]) == set()
    assert await list_datasets(bench.services, ANYONE, show_deleted=True) == []
    with pytest.raises(NotFound):
        await delete(bench.services, USER, request_id)


async def test_the_sweeper_purges_soon(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission())
        await bench.until_ended(request_id)
        await delete(bench.services, USER, request_id)

        async def is_gone() -> bool:
            return not await bench.services.db.read(requests.find_known, [request_id])

        await eventually(is_gone)


async def test_only_ended_requests_are_deleted(bench: Bench) -> None:
    async with bench.working(_preflight_only):
        request_id = await submit(bench.services, USER, bench.submission())
        with pytest.raises(Conflict, match="cancel it before you delete it"):
            await delete(bench.services, USER, request_id)


async def test_retry_runs_the_failed_files_alone(bench: Bench) -> None:
    is_broken = True

    async def break_some(services: Services, unit: Unit) -> Report | None:
        if is_broken and isinstance(unit, TransformUnit) and unit.file_id % 2:
            return failed(unit, Reason.CORRUPT, "bad basket")
        return await succeed(services, unit)

    async with bench.working(break_some):
        request_id = await submit(bench.services, USER, bench.submission(4))
        before = await bench.until_ended(request_id)
        assert before.counts == FileCounts(4, 2, 2)
        kept = await list_results(bench.services, USER, request_id, status=FileStatus.SUCCESS)
        is_broken = False
        bench.seen.clear()
        again = await retry(bench.services, USER, request_id)
        assert (again.state, again.finish_time) == (RequestState.RUNNING, None)
        after = await bench.until_ended(request_id)
        assert after.counts == FileCounts(4, 4, 0)
        with pytest.raises(Conflict, match="nothing to retry"):
            await retry(bench.services, USER, request_id)
    assert len(bench.seen) == 2
    results = await list_results(bench.services, USER, request_id)
    assert results[: len(kept)] == kept


async def test_a_retry_counts_like_a_submit(tmp_path: Path) -> None:
    async def break_all(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, TransformUnit):
            return failed(unit, Reason.CORRUPT, "bad basket")
        return await succeed(services, unit)

    async with new_bench(tmp_path, replace(QUICK, preflight_files=0, user_files=4)) as bench:
        async with bench.working(break_all):
            broken = await submit(bench.services, USER, bench.submission(3))
            await bench.until_ended(broken)
        other = await submit(bench.services, USER, bench.submission(2))
        with pytest.raises(LimitReached, match="3 files beside the 2 that your unfinished requests wait for"):
            await retry(bench.services, USER, broken)
        assert (await bench.get(broken)).counts == FileCounts(3, 0, 3)
        async with bench.working():
            await bench.until_ended(other)
            await retry(bench.services, USER, broken)
            assert (await bench.until_ended(broken)).counts == FileCounts(3, 3, 0)


async def test_requests_belong_to_their_owner(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission())
        await bench.until_ended(request_id)
    for verb in (get_request, cancel, delete, retry, list_results, count_results, statistics):
        with pytest.raises(NotAllowed, match="belongs to somebody else"):
            await verb(bench.services, OTHER, request_id)
    assert (await get_request(bench.services, ANYONE, request_id)).owner == "marie"


async def test_a_request_is_named_by_id_or_number(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission())
        request = await bench.until_ended(request_id)
    assert await get_request(bench.services, USER, str(request.number)) == request
    assert await get_request(bench.services, USER, request_id.upper()) == request


@pytest.mark.parametrize(
    "ref", ["", "0", "99999", "9" * 18, "9" * 400, "٣", "x" * 36, "a\0" * 18, "' OR 1=1 --", "é" * 36, "-1"]
)
async def test_unknown_requests_are_not_found(bench: Bench, ref: str) -> None:
    with pytest.raises(NotFound):
        await get_request(bench.services, ANYONE, ref)


async def test_lists_show_ones_own_and_an_admin_sees_all(bench: Bench) -> None:
    async with bench.working():
        mine = [await submit(bench.services, USER, bench.submission()) for _ in range(2)]
        theirs = await submit(bench.services, OTHER, bench.submission())

    async def ids(*args: object, **kwargs: object) -> list[str]:
        return [request.id for request in await list_requests(bench.services, *args, **kwargs)]  # type: ignore[arg-type]

    assert await ids(USER) == mine
    assert await ids(OTHER) == [theirs]
    assert await ids(ANYONE) == [*mine, theirs]
    assert await ids(ANYONE, submitted_by="niels") == [theirs]
    assert await ids(USER, submitted_by="niels") == []
    assert await ids(USER, submitted_by="marie") == mine


async def test_results_are_paged_filtered_and_generous(bench: Bench) -> None:
    async def fail_last(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, TransformUnit) and unit.paths[0].endswith("f5.root"):
            return failed(unit, Reason.CORRUPT)
        return await succeed(services, unit)

    async with bench.working(fail_last):
        request_id = await submit(bench.services, USER, bench.submission(6))
        await bench.until_ended(request_id)
    everything = await list_results(bench.services, USER, request_id)
    assert len(everything) == 6
    assert await list_results(bench.services, USER, request_id, offset=2, limit=2) == everything[2:4]
    assert await count_results(bench.services, USER, request_id) == 6
    assert await count_results(bench.services, USER, request_id, status=FileStatus.SUCCESS) == 5
    assert await count_results(bench.services, USER, request_id, status=FileStatus.FAILURE) == 1
    good = await list_results(bench.services, USER, request_id, status=FileStatus.SUCCESS)
    assert len(good) == 5
    since_last = await list_results(bench.services, USER, request_id, later_than=everything[-1].created_at)
    assert everything[-1] in since_last
    for beginning in (
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime.min.replace(tzinfo=UTC),
    ):
        found = await list_results(bench.services, USER, request_id, later_than=beginning)
        assert found == everything
    later = datetime(9999, 1, 1, tzinfo=UTC)
    assert await list_results(bench.services, USER, request_id, later_than=later) == []


async def test_whoever_waits_is_woken_at_the_end(bench: Bench) -> None:
    may_end = asyncio.Event()

    async def end_when_told(services: Services, unit: Unit) -> Report | None:
        if isinstance(unit, TransformUnit):
            await may_end.wait()
        return await succeed(services, unit)

    async with bench.working(end_when_told):
        request_id = await submit(bench.services, USER, bench.submission())
        request = await bench.get(request_id)
        assert (await wait_until_finished(bench.services, request, 0.01)).state is RequestState.RUNNING
        waits = [asyncio.create_task(wait_until_finished(bench.services, request, 30)) for _ in range(5)]
        may_end.set()
        ended = await asyncio.gather(*waits)
        assert {request.state for request in ended} == {RequestState.COMPLETE}
        assert await wait_until_finished(bench.services, request, 30) == ended[0], "no wake-up is missed"
    assert bench.services.notifier.watched == 0


async def test_whoever_waits_learns_of_a_deletion(bench: Bench) -> None:
    async with bench.working(_preflight_only):
        request_id = await submit(bench.services, USER, bench.submission())
        request = await bench.get(request_id)
        await cancel(bench.services, USER, request_id)
        await delete(bench.services, USER, request_id)
        with pytest.raises(NotFound):
            await wait_until_finished(bench.services, request, 30)


async def test_buckets_list_by_the_bytes_of_keys(bench: Bench) -> None:
    names = ["b.root", "B.root", "a_.root", "ab.root", "ä.root", "z.root", "a%.root", "😀.root", "ﬁ.root"]
    files = tuple(str(bench.root / name) for name in names)
    buckets = RequestBuckets(bench.services)
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(files=files))
        request = await bench.until_ended(request_id)
    everything = await buckets.list_objects(request_id, prefix="", after=None, limit=100)
    keys = [item.key for item in everything]
    assert len(keys) == len(names)
    assert keys == sorted(keys, key=str.encode)
    assert await buckets.list_objects(request_id, prefix="", after=keys[2], limit=3) == everything[3:6]
    for start in ("a_", "a%", "B", "ä", "😀", "nothing"):
        prefix = keys[0][: -len("B.root.parquet")] + start
        found = await buckets.list_objects(request_id, prefix=prefix, after=None, limit=100)
        assert [item.key for item in found] == [key for key in keys if key.startswith(prefix)]
    key = await buckets.find_key(request.access_key)
    assert key is not None
    assert (key.bucket, key.secret_key) == (request_id, request.secret_key)
    found_one = await buckets.find_object(request_id, keys[0])
    assert found_one == everything[0]
    stored = await bench.services.store.head(found_one.store_key)
    assert stored is not None
    assert (found_one.etag, found_one.modified, found_one.size_bytes) == (
        stored.etag,
        stored.modified,
        stored.size_bytes,
    )


@pytest.mark.parametrize("odd", ["\0", "\ud800", "a\0b", "' OR 1=1 --", "x" * 5000])
async def test_odd_keys_are_not_there(bench: Bench, odd: str) -> None:
    buckets = RequestBuckets(bench.services)
    assert await buckets.find_key(odd) is None
    assert not await buckets.exists(odd)  # type: ignore[arg-type]  # what a client may put there
    assert await buckets.find_object("x", odd) is None  # type: ignore[arg-type]
    assert await buckets.list_objects("x", prefix=odd, after=odd, limit=3) == []  # type: ignore[arg-type]
    assert await buckets.list_objects("x", prefix="", after=odd, limit=3) == []  # type: ignore[arg-type]


async def test_datasets_are_listed_and_softly_deleted(bench: Bench) -> None:
    async with bench.working():
        first = await bench.get(await submit(bench.services, USER, bench.submission(1)))
        second = await bench.get(await submit(bench.services, USER, bench.submission(2)))
        known = await list_datasets(bench.services, USER)
        assert [dataset.id for dataset in known] == [first.dataset_id, second.dataset_id]
        assert await list_datasets(bench.services, USER, did_finder="rucio") == []
        assert await list_datasets(bench.services, USER, did_finder="user") == known
        await delete_dataset(bench.services, USER, first.dataset_id)
        with pytest.raises(Conflict, match="deleted already"):
            await delete_dataset(bench.services, USER, first.dataset_id)
        assert [dataset.id for dataset in await list_datasets(bench.services, USER)] == [second.dataset_id]
        assert len(await list_datasets(bench.services, USER, show_deleted=True)) == 2
        stale, files = await get_dataset(bench.services, USER, first.dataset_id)
        assert stale.is_stale
        assert len(files) == 1
        anew = await bench.get(await submit(bench.services, USER, bench.submission(1)))
        assert anew.did == first.did
        assert anew.dataset_id != first.dataset_id


async def test_a_dataset_is_deleted_by_those_who_use_it_and_admins(bench: Bench) -> None:
    async with bench.working():
        request = await bench.get(await submit(bench.services, USER, bench.submission(1)))
        with pytest.raises(NotAllowed, match=f"data set {request.dataset_id} is not used by any request"):
            await delete_dataset(bench.services, OTHER, request.dataset_id)
        assert len(await list_datasets(bench.services, OTHER)) == 1, "everybody sees it"
        again = await bench.get(await submit(bench.services, OTHER, bench.submission(1)))
        assert again.dataset_id == request.dataset_id
        await delete_dataset(bench.services, OTHER, request.dataset_id)
        anew = await bench.get(await submit(bench.services, USER, bench.submission(1)))
        await delete_dataset(bench.services, replace(OTHER, is_admin=True), anew.dataset_id)
    assert await list_datasets(bench.services, USER) == []


@pytest.mark.parametrize("number", [0, -1, 4711, 2**70])
async def test_unknown_datasets_are_not_found(bench: Bench, number: int) -> None:
    with pytest.raises(NotFound, match=str(number)):
        await get_dataset(bench.services, USER, number)  # type: ignore[arg-type]  # as a client sends it
    with pytest.raises(NotFound):
        await delete_dataset(bench.services, USER, number)  # type: ignore[arg-type]


async def _preflight_only(services: Services, unit: Unit) -> Report | None:
    return await succeed(services, unit) if isinstance(unit, PreflightUnit) else None
