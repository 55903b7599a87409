"""A data set's name becomes files: while it is looked up, when that fails, and the next time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scripted_finder import RecordingRemote, ScriptedFinder, Step, files, numbered
from service_bench import OTHER, QUICK, USER, Bench, eventually, open_bench, prepare
from servicex_server.did.finders.local import LocalFinder
from servicex_server.errors import (
    BadDatasetName,
    FinderError,
    InvalidRequest,
    NotFound,
    UnknownDataset,
)
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import LookupStatus, RequestState
from servicex_server.model.request import ANYONE
from servicex_server.model.unit import PreflightDone, PreflightUnit, Report, Unit
from servicex_server.service.cancel import cancel
from servicex_server.service.context import Services, read_clock
from servicex_server.service.dataset import delete_dataset, get_dataset, list_datasets
from servicex_server.service.delete import delete, purge
from servicex_server.service.limits import Limits
from servicex_server.service.lookup import add_found, close_lookup, expire_lookups, fail_lookup
from servicex_server.service.read import list_results
from servicex_server.service.submit import submit
from servicex_server.source.policy import SourcePolicy

LIMITS = replace(QUICK, catch_up_interval_s=0.05)


class Clock:
    """Time as a test sets it forward."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return read_clock() + self.ahead


@asynccontextmanager
async def looking(
    folder: Path, scripts: dict[str, Sequence[Step]] | None = None, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Bench, ScriptedFinder, RecordingRemote]]:
    """A server with a finder of its own for `toy://`, and one elsewhere for `rucio://`."""
    finder, remote = ScriptedFinder(scripts or {}), RecordingRemote()
    url, store, root = await prepare(folder)
    async with open_bench(url, store, root, limits) as bench:
        bench.services = replace(
            bench.services, finders={"toy": finder}, remote_finders=remote, clock=Clock()
        )
        yield bench, finder, remote


async def ask(bench: Bench, did: str, *, user: object = USER, **changes: object) -> RequestId:
    return await submit(bench.services, user, bench.submission(files=None, did=did, **changes))  # type: ignore[arg-type]


def pass_time(bench: Bench, seconds: float) -> None:
    clock = bench.services.clock
    assert isinstance(clock, Clock)
    clock.ahead += timedelta(seconds=seconds)


async def until_files(bench: Bench, request_id: RequestId, **counts: int) -> None:
    """Returns when the request has so many; they change without waking anybody."""

    async def has_them() -> bool:
        request = await bench.get(request_id)
        return all(getattr(request.counts, name) == count for name, count in counts.items())

    await eventually(has_them)


async def status_of(bench: Bench, dataset_id: DatasetId) -> LookupStatus:
    return (await get_dataset(bench.services, ANYONE, dataset_id))[0].lookup_status


async def test_files_of_a_data_set_are_delivered(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [numbered(0, 3), numbered(3, 5)]}) as (bench, finder, _):
        async with bench.working():
            request = await bench.until_ended(await ask(bench, "toy://x"))
        dataset, known = await get_dataset(bench.services, USER, request.dataset_id)
    assert request.state is RequestState.COMPLETE
    assert (request.did, request.counts.files, request.counts.completed) == ("toy://x", 5, 5)
    assert (dataset.name, dataset.did_finder, dataset.n_files) == ("toy://x", "toy", 5)
    assert (dataset.size_bytes, dataset.n_events) == (500, 50)
    assert dataset.lookup_status is LookupStatus.COMPLETE
    assert [file.paths for file in known] == [file.paths for file in numbered(0, 5)]
    assert isinstance(bench.seen[0], PreflightUnit), "the query is tried on the first files"
    assert len(finder.asked) == 1


async def test_files_start_while_others_are_still_looked_for(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with (
        looking(tmp_path, {"x": [files("a", "b"), more, files("c")]}) as (bench, _, _),
        bench.working(),
    ):
        request_id = await ask(bench, "toy://x")
        await until_files(bench, request_id, completed=2)
        early = await bench.get(request_id)
        assert early.state is RequestState.LOOKUP
        assert early.counts.files == 2
        more.set()
        request = await bench.until_ended(request_id)
    assert (request.state, request.counts.completed) == (RequestState.COMPLETE, 3)


async def test_requests_share_a_look_up_and_later_ones_need_none(tmp_path: Path) -> None:
    more = asyncio.Event()
    script: list[Step] = [files("a"), more, files("b")]
    async with looking(tmp_path, {"x": script}) as (bench, finder, _), bench.working():
        first = await ask(bench, "toy://x")
        await until_files(bench, first, files=1)
        second = await ask(bench, "toy://x", user=OTHER)
        assert (await bench.get(second)).state is RequestState.PENDING_LOOKUP
        more.set()
        ended = [await bench.until_ended(request_id) for request_id in (first, second)]
        third = await bench.until_ended(await ask(bench, "toy://x"))
    assert [request.counts.completed for request in [*ended, third]] == [2, 2, 2]
    assert len({request.dataset_id for request in [*ended, third]}) == 1
    assert len(finder.asked) == 1


async def test_who_joined_gets_the_files_although_the_first_one_left(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with looking(tmp_path, {"x": [files("a"), more, files("b")]}) as (bench, _, _), bench.working():
        first = await ask(bench, "toy://x")
        second = await ask(bench, "toy://x", user=OTHER)
        await cancel(bench.services, USER, first)
        more.set()
        assert (await bench.until_ended(second)).counts.completed == 2
        assert (await bench.get(first)).state is RequestState.CANCELED


async def test_a_data_set_without_files_is_complete(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": []}) as (bench, _, _), bench.working():
        request = await bench.until_ended(await ask(bench, "toy://x"))
        again = await bench.until_ended(await ask(bench, "toy://x"))
    assert (request.state, request.counts.files) == (RequestState.COMPLETE, 0)
    assert again.state is RequestState.COMPLETE


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UnknownDataset("no such scope"), "does_not_exist", "toy://x does not exist: no such scope"),
        (BadDatasetName("no colon"), "bad_name", "not a name that the toy finder understands: no colon"),
        (FinderError("the catalogue is shut"), "internal_failure", "could not be looked up: the catalogue"),
        (RuntimeError("secret"), "internal_failure", "could not be looked up: the finder failed"),
    ],
)
async def test_failures_are_told_apart(tmp_path: Path, error: Exception, status: str, words: str) -> None:
    async with looking(tmp_path, {"x": [files("a"), error]}) as (bench, finder, _), bench.working():
        request = await bench.until_ended(await ask(bench, "toy://x"))
        dataset, _ = await get_dataset(bench.services, USER, request.dataset_id)
        finder.scripts["x"] = [files("a")]
        again = await bench.until_ended(await ask(bench, "toy://x"))
    assert request.state is RequestState.BAD_DATASET
    assert words in (request.failure_info or "")
    assert words in (request.title or "")
    assert "secret" not in str(request.failure_info)
    assert (dataset.lookup_status.value, dataset.is_stale) == (status, True)
    assert again.state is RequestState.COMPLETE, "the next one is looked up anew"


async def test_the_same_first_files_each_time(tmp_path: Path) -> None:
    scripts: dict[str, Sequence[Step]] = {"x": [files("c", "a"), files("d", "b", "a")]}
    async with looking(tmp_path, scripts) as (bench, finder, _), bench.working():
        limited = await bench.until_ended(await ask(bench, "toy://x?files=2"))
        await bench.until_ended(await ask(bench, "toy://x"))
        assert len(finder.asked) == 2
        cached = await bench.until_ended(await ask(bench, "toy://x?files=3"))
        many = await bench.until_ended(await ask(bench, "toy://x?files=100"))
        assert len(finder.asked) == 2, "what is known is not asked again"
        taken = [
            [file.paths for file in (await get_dataset(bench.services, USER, request.dataset_id))[1]]
            for request in (limited, cached, many)
        ]
    expected = [file.paths for file in files("a", "b", "c", "d")]
    assert taken == [expected[:2], expected[:3], expected]
    assert many.counts.completed == 4


async def test_an_old_look_up_is_done_again(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a")]}) as (bench, finder, _), bench.working():
        first = await bench.until_ended(await ask(bench, "toy://x"))
        pass_time(bench, LIMITS.lookup_max_age_s + 1)
        finder.scripts["x"] = [files("a", "b")]
        second = await bench.until_ended(await ask(bench, "toy://x"))
    assert (first.counts.files, second.counts.files) == (1, 2)


async def test_refresh_looks_again_and_bypass_keeps_what_is_known(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a")]}) as (bench, finder, _), bench.working():
        counts = []
        for n_files, did in enumerate(("toy://x", "toy://x?lookup=bypass", "toy://x"), start=1):
            finder.scripts["x"] = [numbered(0, n_files)]
            counts.append((await bench.until_ended(await ask(bench, did))).counts.files)
        finder.scripts["x"] = [numbered(0, 7)]
        after = [
            await bench.until_ended(await ask(bench, did)) for did in ("toy://x?lookup=refresh", "toy://x")
        ]
        fresh = await list_datasets(bench.services, USER)
    assert counts == [1, 2, 1]
    assert [request.counts.files for request in after] == [7, 7]
    assert [(dataset.name, dataset.n_files) for dataset in fresh] == [("toy://x", 7)]


async def test_a_new_file_in_a_local_folder_is_seen_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "run1"
    folder.mkdir()
    (folder / "a.root").touch()
    finder = LocalFinder(SourcePolicy(local_roots=(tmp_path,)))
    async with looking(tmp_path) as (bench, _, _):
        bench.services = replace(bench.services, finders={"local": finder})
        async with bench.working():
            first = await bench.until_ended(await ask(bench, "local://run1/*.root"))
            (folder / "b.root").touch()
            second = await bench.until_ended(await ask(bench, "local://run1/*.root"))
            limited = await bench.until_ended(await ask(bench, "local://run1/*.root?files=3"))
            (folder / "c.root").touch()
            again = await bench.until_ended(await ask(bench, "local://run1/*.root?files=3"))
        named = await list_datasets(bench.services, ANYONE)
    assert [each.counts.files for each in (first, second, limited, again)] == [1, 2, 2, 3]
    assert sorted(each.n_files for each in named) == [2, 3], "of each name the newest is shown"


async def test_requests_at_the_same_time_share_a_local_listing(tmp_path: Path) -> None:
    more = asyncio.Event()
    async with looking(tmp_path, {"x": [files("a"), more]}) as (bench, finder, _):
        bench.services = replace(bench.services, finders={"local": finder})
        async with bench.working():
            request_ids = [await ask(bench, "local://x") for _ in range(3)]
            more.set()
            ended = [await bench.until_ended(request_id) for request_id in request_ids]
    assert len({request.dataset_id for request in ended}) == len(finder.asked) == 1


async def test_a_deleted_data_set_is_looked_up_again(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a")]}) as (bench, finder, _), bench.working():
        request = await bench.until_ended(await ask(bench, "toy://x"))
        await delete_dataset(bench.services, USER, request.dataset_id)
        again = await bench.until_ended(await ask(bench, "toy://x"))
        assert again.dataset_id != request.dataset_id
        assert len(finder.asked) == 2
        await delete(bench.services, USER, request.id)
        await purge(bench.services)
        with pytest.raises(NotFound):
            await get_dataset(bench.services, USER, request.dataset_id)


@pytest.mark.parametrize(
    ("did", "words"),
    [
        ("nowhere://x", r"no nowhere finder.*rucio://, toy://"),
        ("toy://bad", "bad is not the name of a data set"),
        ("toy://", "no data set identifier"),
        ("toy://x?files=many", "files=many; allowed is a number from 1 on"),
        ("toy://x?files=-1", "files=-1; allowed is a number from 1 on"),
        ("rucio://a:b?files=0", "files=0; allowed is a number from 1 on"),
        ("toy://x?get=some", "get=some; allowed: all, available"),
        ("toy://x?lookup=never", "lookup=never; allowed: cached, refresh, bypass"),
        ("rucio://a#b?files=3", "'#' in front of its query"),
        ("toy://x\ny", "printable"),
        ("toy://root://me:secret@host//x", "identifier holds a password"),
        ("https://me:secret@host/x/*.root", "identifier holds a password"),
        ("toy://" + "x" * 5000, "up to 4,096"),
    ],
)
async def test_what_is_no_data_set_is_refused(tmp_path: Path, did: str, words: str) -> None:
    async with looking(tmp_path) as (bench, _, _):
        with pytest.raises(InvalidRequest, match=words):
            await ask(bench, did)
        assert await list_datasets(bench.services, ANYONE) == []


async def test_names_of_results_are_told_apart(tmp_path: Path) -> None:
    twins = [
        *files("a"),
        replace(files("a")[0], paths=(*files("a")[0].paths, "root://other.example//a.root")),
        replace(files("a")[0], paths=(files("a")[0].paths[0] + "?x=1",)),
    ]
    async with looking(tmp_path, {"x": [twins]}) as (bench, _, _), bench.working():
        request = await bench.until_ended(await ask(bench, "toy://x"))
        results = await list_results(bench.services, USER, request.id)
    assert request.counts.completed == 3
    assert len({result.object_name for result in results}) == 3


async def test_a_query_that_does_not_fit_ends_the_request(tmp_path: Path) -> None:
    async def reject(services: Services, unit: Unit) -> Report:
        assert isinstance(unit, PreflightUnit)
        return PreflightDone(unit.request_id, rejection="no branch 'x'")

    script: list[Step] = [files("a"), asyncio.Event()]
    async with looking(tmp_path, {"x": script}) as (bench, _, _), bench.working(reject):
        request = await bench.until_ended(await ask(bench, "toy://x"))
    assert (request.state, request.failure_info) == (RequestState.FATAL, "no branch 'x'")


# Finders that are programs of their own


async def test_a_finder_elsewhere_is_asked_and_answers(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "mc:x?files=3")
        did, dataset_id = await remote.asked.get()
        assert (did.rest, did.limit) == ("mc:x?files=3", 3)
        await add_found(bench.services, dataset_id, files("a", "b"), batch="1")
        await add_found(bench.services, dataset_id, files("c"), batch="2")
        await close_lookup(bench.services, dataset_id, announced=3)
        request = await bench.until_ended(request_id)
    assert (request.did, request.counts.completed) == ("rucio://mc:x?files=3", 3)


async def test_a_finder_elsewhere_gets_parameters_of_its_own(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        await ask(bench, "rucio://mc:x?site=CERN&files=2")
        did, _ = await remote.asked.get()
    assert did.rest == "mc:x?site=CERN&files=2"


async def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote):
        remote.refusals = 3
        async with bench.working():
            request_id = await ask(bench, "rucio://x")
            _, dataset_id = await remote.asked.get()
            await close_lookup(bench.services, dataset_id, announced=0)
            assert (await bench.until_ended(request_id)).state is RequestState.COMPLETE


async def test_a_batch_that_comes_twice_counts_once(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        for batch in ("1", "1", None, "1"):
            await add_found(bench.services, dataset_id, files("a", "b", "a"), batch=batch)
        reordered = [replace(file, paths=file.paths[::-1]) for file in files("a", "b")]
        await add_found(bench.services, dataset_id, reordered)
        await close_lookup(bench.services, dataset_id, announced=2)
        await close_lookup(bench.services, dataset_id, announced=2)
        request = await bench.until_ended(request_id)
        assert request.counts.files == request.counts.completed == 2
        assert not await add_found(bench.services, dataset_id, files("late"))
        await fail_lookup(bench.services, dataset_id, LookupStatus.INTERNAL_FAILURE, "late")
        assert await status_of(bench, dataset_id) is LookupStatus.COMPLETE
        assert (await bench.get(request_id)).counts.files == 2


async def test_an_end_that_overtakes_files_waits_for_them(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        await add_found(bench.services, dataset_id, files("a"))
        await close_lookup(bench.services, dataset_id, announced=3)
        assert (await bench.get(request_id)).state is RequestState.LOOKUP
        await add_found(bench.services, dataset_id, files("b", "c"))
        request = await bench.until_ended(request_id)
    assert (request.state, request.counts.completed) == (RequestState.COMPLETE, 3)


async def test_files_that_never_arrive_are_no_complete_data_set(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        await add_found(bench.services, dataset_id, files("a"))
        await close_lookup(bench.services, dataset_id, announced=3)
        assert await expire_lookups(bench.services) == 0
        pass_time(bench, LIMITS.lookup_settle_s + 1)
        assert await expire_lookups(bench.services) == 1
        request = await bench.get(request_id)
    assert request.state is RequestState.BAD_DATASET
    assert "found 3 files, but only 1 of them arrived" in (request.failure_info or "")


async def test_a_broker_that_is_away_holds_up_no_finder_of_ours(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a")]}) as (bench, finder, remote):
        remote.refusals = 10**6
        waiting = await ask(bench, "rucio://s:n")
        async with bench.working():
            request = await bench.until_ended(await ask(bench, "toy://x"))
        assert (await bench.get(waiting)).state is RequestState.LOOKUP
    assert (request.state, len(finder.asked)) == (RequestState.COMPLETE, 1)


async def test_what_waits_for_its_turn_is_not_silent(tmp_path: Path) -> None:
    gate = asyncio.Event()
    scripts: dict[str, Sequence[Step]] = {"slow": [gate, files("a")], "x": [files("b")]}
    limits = replace(LIMITS, lookup_slots=1)
    async with looking(tmp_path, scripts, limits) as (bench, finder, _), bench.working():
        first = await ask(bench, "toy://slow")

        async def is_asked() -> bool:
            await bench.get(first)
            return bool(finder.asked)

        await eventually(is_asked)
        second = await ask(bench, "toy://x")
        pass_time(bench, LIMITS.lookup_silence_s + 60)
        assert await expire_lookups(bench.services) == 1, "the one that was asked"
        gate.set()
        ends = [(await bench.until_ended(request_id)).state for request_id in (first, second)]
    assert ends == [RequestState.BAD_DATASET, RequestState.COMPLETE]


async def test_a_silent_finder_is_given_up(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_ids = [await ask(bench, "rucio://x"), await ask(bench, "rucio://x", user=OTHER)]
        _, dataset_id = await remote.asked.get()
        pass_time(bench, LIMITS.lookup_silence_s - 60)
        await add_found(bench.services, dataset_id, files("a"))
        pass_time(bench, LIMITS.lookup_silence_s - 60)
        assert await expire_lookups(bench.services) == 0, "every batch is a sign of life"
        for _ in range(2):
            await add_found(bench.services, dataset_id, [], batch="always the same")
            pass_time(bench, LIMITS.lookup_silence_s - 60)
            assert await expire_lookups(bench.services) == 0, "an empty one, too"
        pass_time(bench, 120)
        assert await expire_lookups(bench.services) == 1
        requests = [await bench.get(request_id) for request_id in request_ids]
    assert {request.state for request in requests} == {RequestState.BAD_DATASET}
    assert "the rucio finder was silent for 1800 s" in (requests[0].failure_info or "")


async def test_an_error_after_files_ends_the_request(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        await add_found(bench.services, dataset_id, files("a"))
        await fail_lookup(bench.services, dataset_id, LookupStatus.DOES_NOT_EXIST, "gone\0 [/x]")
        request = await bench.until_ended(request_id)
    assert request.state is RequestState.BAD_DATASET
    assert "gone� (/x)" in (request.failure_info or "")


async def test_an_unknown_data_set_is_told(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, _):
        for dataset_id in (0, -1, 99, 2**63):
            with pytest.raises(NotFound):
                await add_found(bench.services, DatasetId(dataset_id), files("a"))
            with pytest.raises(NotFound):
                await close_lookup(bench.services, DatasetId(dataset_id))


async def test_too_many_files_end_the_look_up(tmp_path: Path) -> None:
    limits = replace(LIMITS, dataset_files=3)
    async with looking(tmp_path, {"x": [numbered(0, 4)]}, limits) as (bench, _, remote), bench.working():
        request_id = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        await add_found(bench.services, dataset_id, numbered(0, 2))
        await add_found(bench.services, dataset_id, numbered(2, 4))
        requests = [await bench.until_ended(each) for each in (request_id, await ask(bench, "toy://x"))]
    for request in requests:
        assert request.state is RequestState.BAD_DATASET
        assert "more than the 3 files" in (request.failure_info or "")


async def test_look_ups_go_on_after_a_restart(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a"), asyncio.Event()]}) as (bench, finder, remote):
        waiting = await ask(bench, "rucio://x")  # before anybody could ask a finder
        async with bench.working():
            request_id = await ask(bench, "toy://x")
            _, dataset_id = await remote.asked.get()
            await until_files(bench, request_id, completed=1)
        finder.scripts["x"] = [files("a", "b")]
        async with bench.working():
            request = await bench.until_ended(request_id)
            await close_lookup(bench.services, dataset_id)
            assert (await bench.until_ended(waiting)).state is RequestState.COMPLETE
    assert request.counts.files == request.counts.completed == 2
    assert remote.asked.empty(), "who was asked is not asked again"


async def test_an_end_that_a_request_missed_is_told_again(tmp_path: Path) -> None:
    async with looking(tmp_path, {"x": [files("a")]}) as (bench, _, _), bench.working():
        request = await bench.until_ended(await ask(bench, "toy://x"))
        await bench.services.db.write(_forget_end, request.id)
        await expire_lookups(bench.services)
        assert (await bench.until_ended(request.id)).state is RequestState.COMPLETE


def _forget_end(transaction, request_id) -> None:  # type: ignore[no-untyped-def]
    transaction.exec_driver_sql(
        f"UPDATE request SET state = 'Pending Lookup', finish_time = NULL WHERE id = '{request_id}'"
    )


async def test_submits_and_the_end_of_a_look_up_do_not_miss_each_other(tmp_path: Path) -> None:
    async with looking(tmp_path) as (bench, _, remote), bench.working():
        first = await ask(bench, "rucio://x")
        _, dataset_id = await remote.asked.get()
        await add_found(bench.services, dataset_id, files("a"))
        answers = await asyncio.gather(
            *(ask(bench, "rucio://x", user=OTHER) for _ in range(10)),
            close_lookup(bench.services, dataset_id),
            *(ask(bench, "rucio://x", user=OTHER) for _ in range(10)),
        )
        for request_id in [first, *(answer for answer in answers if answer is not None)]:
            request = await bench.until_ended(request_id)
            assert (request.state, request.counts.completed) == (RequestState.COMPLETE, 1)
