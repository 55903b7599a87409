"""Results that several requests name: who makes them, who may take them, when they go."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import uproot
from sqlalchemy import text

from seaweed_server import SeaweedServer
from service_bench import OTHER, QUICK, USER, Bench, new_bench, open_bench, prepare
from servicex_server.db import dataset as datasets
from servicex_server.db import unit as units
from servicex_server.db.session import Transaction
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState, ResultFormat
from servicex_server.model.request import ANYONE, FileCounts, FileResult, Principal
from servicex_server.model.shared import is_shared, new_object_key, note_key, question_key_of
from servicex_server.model.unit import FileDone, PreflightDone, PreflightUnit, Report, TransformUnit, Unit
from servicex_server.run.execute import transform_unit
from servicex_server.service import remove
from servicex_server.service.bucket import RequestBuckets
from servicex_server.service.cancel import cancel
from servicex_server.service.context import Services
from servicex_server.service.delete import delete, purge
from servicex_server.service.read import list_results
from servicex_server.service.report import record_batch
from servicex_server.service.submit import submit
from servicex_server.service.sweep import audit, remove_orphans
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.backends.memory import MemoryStore
from servicex_server.store.protocol import Store, StoredObject

LONG_AGO_S = 1_700_000_000.0
SELECTION = '[{"treename": "Events", "filter_name": ["Muon_pt"]}]'
N_ENTRIES = 50


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("blank") / "x.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"Muon_pt": "f4"}).extend({"Muon_pt": np.arange(N_ENTRIES, dtype="f4")})
    return path.read_bytes()


@pytest.fixture
def fill(blank: bytes) -> Callable[[Path, int], None]:
    def fill(root: Path, n_files: int) -> None:
        for number in range(n_files):
            path = root / f"f{number}.root"
            path.write_bytes(blank)
            os.utime(path, (LONG_AGO_S, LONG_AGO_S))

    return fill


@pytest.fixture
async def bench(tmp_path: Path, fill: Callable[[Path, int], None]) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        fill(bench.root, 8)
        yield bench


class Worker:
    """Transforms for real, and remembers its reports."""

    def __init__(self) -> None:
        self.done: list[FileDone] = []

    async def __call__(self, services: Services, unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return PreflightDone(unit.request_id)
        report = await asyncio.to_thread(transform_unit, unit, services.store, services.policy)
        assert isinstance(report, FileDone), report
        self.done.append(report)
        return report

    @property
    def n_made(self) -> int:
        return sum(not done.is_cached for done in self.done)


async def deliver(
    bench: Bench, n_files: int = 1, user: Principal = USER, **changes: object
) -> tuple[RequestId, list[FileResult]]:
    """The request, complete, and its results."""
    request_id = await submit(bench.services, user, bench.submission(n_files, **changes))
    request = await bench.until_ended(request_id)
    assert request.state is RequestState.COMPLETE
    assert request.counts == FileCounts(n_files, n_files, 0)
    results = await list_results(bench.services, ANYONE, request_id, with_tally=True)
    assert request.cached == sum(result.is_cached for result in results)
    await require_objects(bench, results)
    return request_id, results


async def require_objects(bench: Bench, results: list[FileResult]) -> None:
    for result in results:
        assert result.store_key is not None
        stored = await bench.services.store.head(result.store_key)
        assert stored is not None, f"{result.store_key} is counted, and not there"
        assert stored.size_bytes == result.size_bytes


def keys_of(results: list[FileResult]) -> list[str]:
    return [result.store_key or "" for result in results]


async def stored_keys(bench: Bench) -> set[str]:
    return {key async for key in bench.services.store.iter_keys()}


async def count_names(bench: Bench) -> dict[str, int]:
    """How many results name each object that is not doomed."""

    def find(transaction: Transaction) -> dict[str, int]:
        rows = transaction.execute(
            text("SELECT store_key, n_results FROM shared_object WHERE doomed_at IS NULL")
        )
        return {row.store_key: row.n_results for row in rows}

    return await bench.services.db.read(find)


def later(bench: Bench, **ahead: float) -> Services:
    clock = bench.services.clock
    return replace(bench.services, clock=lambda: clock() + timedelta(**ahead))


async def test_the_same_question_is_worked_on_once(bench: Bench) -> None:
    worker = Worker()
    async with bench.working(worker):
        _, first = await deliver(bench, 3)
        assert worker.n_made == 3
        assert not any(result.is_cached for result in first)
        _, second = await deliver(bench, 3, OTHER)
        assert worker.n_made == 3, "whoever else may read the files gets the same results"
    assert all(result.is_cached for result in second)
    assert keys_of(second) == keys_of(first)
    assert all(map(is_shared, keys_of(first)))
    assert [result.n_events_in for result in second] == [N_ENTRIES] * 3
    assert [result.bytes_read for result in second] == [0] * 3
    assert await count_names(bench) == dict.fromkeys(keys_of(first), 2)
    assert len([unit for unit in bench.seen if isinstance(unit, PreflightUnit)]) == 1, (
        "what fitted these files is not tried again"
    )


async def test_a_data_set_that_grew_costs_what_is_new(bench: Bench) -> None:
    worker = Worker()
    async with bench.working(worker):
        await deliver(bench, 4)
        read = sum(done.bytes_read for done in worker.done)
        worker.done.clear()
        _, results = await deliver(bench, 7)
    assert worker.n_made == 3
    assert sum(done.bytes_read for done in worker.done) == read * 3 // 4
    assert [result.is_cached for result in sorted(results, key=lambda result: result.path)] == [
        *[True] * 4,
        *[False] * 3,
    ]


async def test_results_outlive_a_restart(tmp_path: Path, fill: Callable[[Path, int], None]) -> None:
    url, store, root = await prepare(tmp_path)
    fill(root, 2)
    worker = Worker()
    async with open_bench(url, store, root) as first, first.working(worker):
        await deliver(first, 2)
    async with open_bench(url, store, root) as second, second.working(worker):
        await deliver(second, 2)
    assert worker.n_made == 2


async def test_a_request_or_a_server_may_want_its_own(bench: Bench) -> None:
    worker = Worker()
    async with bench.working(worker):
        await deliver(bench)
        request_id, own = await deliver(bench, uses_cache=False)
        assert keys_of(own)[0].startswith(f"{request_id}/")
    off = Bench(replace(bench.services, result_cache=False), bench.root)
    async with off.working(worker):
        request_id, own = await deliver(off)
        assert keys_of(own)[0].startswith(f"{request_id}/")
        assert not (await off.get(request_id)).uses_cache
    assert worker.n_made == 3


@pytest.fixture(params=["memory", "local", "s3"])
def on_store(request: pytest.FixtureRequest, bench: Bench, tmp_path: Path) -> Bench:
    """The server over each kind of store."""
    store: Store = bench.services.store
    if request.param == "local":
        store = LocalStore(tmp_path / "store", min_free_bytes=0)
    elif request.param == "s3":
        server: SeaweedServer = request.getfixturevalue("seaweed")
        store = server.open_store(tmp_path / "scratch-of-s3")
    return Bench(replace(bench.services, store=store), bench.root)


async def test_an_object_goes_with_its_last_request(on_store: Bench) -> None:
    bench = on_store
    buckets = RequestBuckets(bench.services)
    async with bench.working(Worker()):
        first_id, first = await deliver(bench, 2)
        second_id, second = await deliver(bench, 2, OTHER)
    await delete(bench.services, USER, first_id)
    assert await purge(bench.services) == 1
    await require_objects(bench, second)
    assert len(await buckets.list_objects(second_id, prefix="", after=None, limit=10)) == 2
    assert await count_names(bench) == dict.fromkeys(keys_of(first), 1)
    await delete(bench.services, OTHER, second_id)
    assert await purge(bench.services) == 1
    assert await stored_keys(bench) == set(), "neither objects nor notes"
    assert await count_names(bench) == {}


async def test_what_was_deleted_is_made_anew_under_another_key(bench: Bench) -> None:
    worker = Worker()
    async with bench.working(worker):
        first_id, first = await deliver(bench)
        await delete(bench.services, USER, first_id)
        await purge(bench.services)
        _, second = await deliver(bench)
    assert worker.n_made == 2
    assert keys_of(first) != keys_of(second)


async def test_tombstones_are_forgotten_after_a_day(bench: Bench) -> None:
    async with bench.working(Worker()):
        request_id, _ = await deliver(bench)
        await delete(bench.services, USER, request_id)
        await purge(bench.services)

    def count(transaction: Transaction) -> int:
        return int(transaction.execute(text("SELECT count(*) FROM shared_object")).scalar_one())

    await purge(later(bench, hours=23))
    assert await bench.services.db.read(count) == 1
    await purge(later(bench, hours=25))
    assert await bench.services.db.read(count) == 0


class SlowStore(MemoryStore):
    """A store in which something happens between the look at an object and what is made of it."""

    def __init__(self, other: MemoryStore) -> None:
        super().__init__(other.scratch_folder())
        self._objects = other._objects
        self.meanwhile: Callable[[], AsyncIterator[None]] | None = None

    async def heads(self, keys: Sequence[str]) -> list[StoredObject | None]:
        known = await super().heads(keys)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            async for _ in meanwhile():
                pass
        return known


@pytest.mark.parametrize("max_attempts", [1, 3])
async def test_a_hit_that_is_deleted_before_it_is_recorded_is_made_anew(
    bench: Bench, max_attempts: int
) -> None:
    store = SlowStore(bench.services.store)  # type: ignore[arg-type]  # it is a MemoryStore
    limits = replace(QUICK, max_attempts=max_attempts)
    bench = Bench(replace(bench.services, store=store, limits=limits), bench.root)
    worker = Worker()
    async with bench.working(worker):
        first_id, first = await deliver(bench)

        async def vanish() -> AsyncIterator[None]:
            await delete(bench.services, USER, first_id)
            await purge(bench.services)
            yield

        store.meanwhile = vanish
        _, second = await deliver(bench, user=OTHER)
    assert [done.is_cached for done in worker.done] == [False, True, False]
    assert keys_of(second) != keys_of(first)
    assert [result.attempts for result in second] == [2]


async def test_hits_and_deletions_at_once_never_lose_what_counts(bench: Bench) -> None:
    async with bench.working(Worker(), slots=8):
        before, _ = await deliver(bench, 4)
        for _ in range(4):
            _, (after, _) = await asyncio.gather(delete(bench.services, USER, before), deliver(bench, 4))
            while await purge(bench.services):
                pass
            results = await list_results(bench.services, USER, after)
            await require_objects(bench, results)
            before = after
        names = await count_names(bench)
    assert names == dict.fromkeys(keys_of(results), 1)
    assert await stored_keys(bench) == {*names, *(note_key(question_key_of(key)) for key in names)}


class Letter:
    """A report without a queue."""

    def __init__(self, report: Report) -> None:
        self.report = report

    async def ack(self) -> None:
        """Nobody waits for it."""


async def begin(bench: Bench, user: Principal) -> tuple[RequestId, FileDone]:
    """A running request of one file, and the report of what a worker made of it."""
    request_id = await submit(bench.services, user, bench.submission())
    found = await bench.services.db.read(units.find_question, request_id)
    assert found is not None
    (file,) = await bench.services.db.read(datasets.list_files, found.dataset_id)
    unit = TransformUnit(
        request_id,
        file.id,
        file.paths,
        "uproot-raw",
        SELECTION,
        ResultFormat.PARQUET,
        store_key=f"{request_id}/{file.id}-0-1",
        owner=user.name,
        uses_cache=True,
    )
    done = await asyncio.to_thread(transform_unit, unit, bench.services.store, bench.services.policy)
    assert isinstance(done, FileDone), done
    return request_id, done


@pytest.fixture
async def idle(tmp_path: Path, fill: Callable[[Path, int], None]) -> AsyncIterator[Bench]:
    """A server without workers, whose requests need no preflight."""
    async with new_bench(tmp_path, replace(QUICK, preflight_files=0)) as bench:
        fill(bench.root, 2)
        yield bench


@pytest.mark.parametrize("is_first", [True, False])
async def test_an_unwanted_result_goes_unless_another_request_names_it(idle: Bench, is_first: bool) -> None:
    canceled, unwanted = await begin(idle, USER)
    _, hit = await begin(idle, OTHER)
    assert (hit.is_cached, hit.store_key) == (True, unwanted.store_key)
    await cancel(idle.services, USER, canceled)
    order = [unwanted, hit] if is_first else [hit, unwanted]
    for report in order:
        await record_batch(idle.services, [Letter(report)])
    await purge(idle.services)
    stored = await idle.services.store.head(hit.store_key)
    assert (stored is None) == is_first
    request = await idle.get(hit.request_id)
    # Told of first, the object was doomed already: the file is tried again.
    assert request.state is (RequestState.RUNNING if is_first else RequestState.COMPLETE)
    assert (idle.services.backlog.next_due_s is not None) == is_first


async def test_of_one_batch_the_wanted_result_keeps_the_object(idle: Bench) -> None:
    canceled, unwanted = await begin(idle, USER)
    wanted, hit = await begin(idle, OTHER)
    await cancel(idle.services, USER, canceled)
    await record_batch(idle.services, [Letter(unwanted), Letter(hit)])
    await purge(idle.services)
    assert (await idle.get(wanted)).state is RequestState.COMPLETE
    await require_objects(idle, await list_results(idle.services, ANYONE, wanted))


async def test_a_report_told_twice_names_its_object_once(idle: Bench) -> None:
    request_id, done = await begin(idle, USER)
    for _ in range(2):
        await record_batch(idle.services, [Letter(done), Letter(done)])
    assert await count_names(idle) == {done.store_key: 1}
    await delete(idle.services, USER, request_id)
    await purge(idle.services)
    assert await stored_keys(idle) == set()


async def test_two_results_of_one_question_are_two_objects(idle: Bench) -> None:
    _, first = await begin(idle, USER)
    again = replace(first, store_key=new_object_key(question_key_of(first.store_key)), attempt=2)
    put_copy(idle, first.store_key, again.store_key)
    await record_batch(idle.services, [Letter(first), Letter(again)])
    await purge(idle.services)
    assert await count_names(idle) == {first.store_key: 1}
    assert await idle.services.store.head(again.store_key) is None


def put_copy(bench: Bench, key: str, copy: str) -> None:
    content = bench.services.store.read_note(key)
    assert content is not None
    bench.services.store.put_note(copy, content)


@pytest.mark.parametrize("at_once", [0, 20_000])
async def test_what_nobody_tells_of_is_removed_when_it_is_old(
    bench: Bench, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remove, "_KNOWN_AT_ONCE", at_once)
    async with bench.working(Worker()):
        _, kept = await deliver(bench, 2)
    stray = await asyncio.to_thread(
        transform_unit,
        replace(unit_of(bench), selection=SELECTION.replace("Muon_pt", "*")),
        bench.services.store,
        bench.services.policy,
    )
    assert isinstance(stray, FileDone)
    bench.services.store.put_note("objects/ab/abcd.json", b"{}")
    everything = await stored_keys(bench)
    assert await remove_orphans(later(bench, hours=47)) == 0
    assert await stored_keys(bench) == everything
    assert await remove_orphans(later(bench, hours=49)) == 1
    await require_objects(bench, kept)
    assert await stored_keys(bench) == {
        *keys_of(kept),
        *(note_key(question_key_of(key)) for key in keys_of(kept)),
    }


def unit_of(bench: Bench) -> TransformUnit:
    return next(unit for unit in bench.seen if isinstance(unit, TransformUnit))


async def test_the_count_of_earlier_results_is_audited(bench: Bench) -> None:
    async with bench.working(Worker()):
        await deliver(bench, 3)
        request_id, _ = await deliver(bench, 3)

    def spoil(transaction: Transaction) -> None:
        transaction.execute(text("UPDATE request SET completed = 1, cached = 0"))

    await bench.services.db.write(spoil)
    assert await audit(bench.services) == 2
    assert (await bench.get(request_id)).cached == 3
