"""From a submission to delivered files, and what is refused on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from service_bench import (
    OTHER,
    QUICK,
    SELECTION,
    USER,
    Bench,
    eventually,
    is_running,
    new_bench,
    open_bench,
    prepare,
    succeed,
)
from servicex_server.db.session import Transaction
from servicex_server.errors import (
    InvalidRequest,
    LimitReached,
    QueryError,
    SourceRefused,
    UnknownCodegen,
)
from servicex_server.model.kinds import FileStatus, RequestState, ResultDestination, ResultFormat
from servicex_server.model.request import ANYONE
from servicex_server.model.unit import PreflightDone, PreflightUnit, Report, TransformUnit, Unit
from servicex_server.service.context import Services
from servicex_server.service.dataset import get_dataset, list_datasets
from servicex_server.service.read import list_requests, list_results
from servicex_server.service.submit import submit


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        yield bench


async def test_files_are_delivered(bench: Bench) -> None:
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(5))
        request = await bench.until_ended(request_id)
    assert request.state is RequestState.COMPLETE
    assert (request.counts.files, request.counts.completed, request.counts.failed) == (5, 5, 0)
    assert request.finish_time is not None
    assert request.owner == "marie"
    assert request.title == "a title"
    results = await list_results(bench.services, USER, request_id)
    assert len({result.object_name for result in results}) == 5
    assert {result.size_bytes for result in results} == {10}, "sizes are the store's, not the worker's"
    times = [result.created_at for result in results]
    assert times == sorted(set(times))
    assert all(time.utcoffset() is not None for time in times)


async def test_the_query_is_tried_before_files_start(bench: Bench) -> None:
    async with bench.working():
        await bench.until_ended(await submit(bench.services, USER, bench.submission(7)))
    assert isinstance(bench.seen[0], PreflightUnit)
    assert len(bench.seen[0].files) == 3
    assert [type(unit) for unit in bench.seen[1:]] == [TransformUnit] * 7
    assert {unit.request_id for unit in bench.seen} == {bench.seen[0].request_id}


async def test_a_rejected_query_leaves_nothing_behind(bench: Bench) -> None:
    async def reject(services: Services, unit: Unit) -> Report:
        return PreflightDone(unit.request_id, rejection="no branch 'x'; nearest: [xx, xy]")

    async with bench.working(reject):
        with pytest.raises(QueryError, match=r"no branch 'x'; nearest: \(xx, xy\)"):
            await submit(bench.services, USER, bench.submission())
    assert await list_requests(bench.services, ANYONE) == []
    assert await list_datasets(bench.services, ANYONE) == []
    assert len(bench.seen) == 1


async def test_a_rejected_query_leaves_the_file_list_that_others_use(bench: Bench) -> None:
    is_first = True

    async def reject_second(services: Services, unit: Unit) -> Report | None:
        nonlocal is_first
        if isinstance(unit, PreflightUnit) and not is_first:
            return PreflightDone(unit.request_id, rejection="no branch 'x'")
        is_first = False
        return await succeed(services, unit)

    async with bench.working(reject_second):
        request = await bench.until_ended(await submit(bench.services, USER, bench.submission()))
        with pytest.raises(QueryError):
            await submit(bench.services, OTHER, bench.submission(selection=SELECTION + " "))
    assert [dataset.id for dataset in await list_datasets(bench.services, ANYONE)] == [request.dataset_id]


async def test_a_late_rejection_ends_the_request_with_its_reason(tmp_path: Path) -> None:
    may_answer = asyncio.Event()

    async def reject_late(services: Services, unit: Unit) -> Report:
        await may_answer.wait()
        return PreflightDone(unit.request_id, rejection="no branch 'x';\nsee [/docs]")

    limits = replace(QUICK, preflight_wait_s=0.01)
    async with new_bench(tmp_path, limits) as bench, bench.working(reject_late):
        request_id = await submit(bench.services, USER, bench.submission())
        assert (await bench.get(request_id)).state is RequestState.SUBMITTED
        may_answer.set()
        request = await bench.until_ended(request_id)
    assert request.state is RequestState.FATAL
    assert request.failure_info == "no branch 'x';\nsee (/docs)"
    assert request.title == "a title — no branch 'x'; see (/docs)"
    assert request.finish_time is not None


async def test_without_preflight_files_start_at_once(tmp_path: Path) -> None:
    async with new_bench(tmp_path, replace(QUICK, preflight_files=0)) as bench, bench.working():
        request_id = await submit(bench.services, USER, bench.submission(3))
        await bench.until_ended(request_id)
    assert not any(isinstance(unit, PreflightUnit) for unit in bench.seen)


async def test_a_submit_without_workers_answers_after_its_patience(tmp_path: Path) -> None:
    async with new_bench(tmp_path, replace(QUICK, preflight_wait_s=0.01)) as bench:
        request_id = await submit(bench.services, USER, bench.submission())
        assert (await bench.get(request_id)).state is RequestState.SUBMITTED


async def test_fifty_submits_at_once(bench: Bench) -> None:
    async with bench.working():
        ids = await asyncio.gather(
            *(submit(bench.services, USER, bench.submission(n % 4 + 1)) for n in range(50))
        )
        requests = [await bench.until_ended(request_id) for request_id in ids]
    assert len(set(ids)) == 50
    assert {request.state for request in requests} == {RequestState.COMPLETE}
    assert len({request.access_key for request in requests}) == 50
    assert len({request.dataset_id for request in requests}) == 4, "equal lists share a data set"


async def test_duplicate_inputs_are_collapsed(bench: Bench) -> None:
    a, b = str(bench.root / "a.root"), str(bench.root / "b.root")
    (bench.root / "link.root").symlink_to(bench.root / "b.root")
    files = (b, a, b, f"file://{a}", str(bench.root / "link.root"))
    async with bench.working():
        request_id = await submit(bench.services, USER, bench.submission(files=files))
        request = await bench.until_ended(request_id)
    assert request.counts.files == request.counts.completed == 2
    _, known = await get_dataset(bench.services, USER, request.dataset_id)
    assert [file.paths for file in known] == [(b,), (a,)]


async def test_lists_that_are_told_apart_by_spaces_alone_are_different_data_sets(bench: Bench) -> None:
    a, b = str(bench.root / "a.root"), str(bench.root / "b.root")
    async with bench.working():
        requests = [
            await bench.until_ended(await submit(bench.services, user, bench.submission(files=files)))
            for user, files in ((USER, (f"{a} {b}",)), (OTHER, (a, b)))
        ]
    assert [request.counts.completed for request in requests] == [1, 2]
    assert requests[0].did == requests[1].did, "as the official server would name them"
    assert requests[0].dataset_id != requests[1].dataset_id


async def test_the_same_list_is_another_data_set_after_a_link_has_changed(bench: Bench) -> None:
    a, link = bench.root / "a.root", bench.root / "link.root"
    link.symlink_to(a)
    submission = bench.submission(files=(str(a), str(link)))
    async with bench.working():
        before = await bench.until_ended(await submit(bench.services, USER, submission))
        link.unlink()
        link.symlink_to(bench.root / "b.root")
        after = await bench.until_ended(await submit(bench.services, USER, submission))
    assert (before.counts.completed, after.counts.completed) == (1, 2)


async def test_a_file_list_is_a_data_set_of_its_own_name(bench: Bench) -> None:
    submission = bench.submission(2)
    assert submission.files is not None
    digest = hashlib.sha256(" ".join(submission.files).encode()).hexdigest()
    async with bench.working():
        request = await bench.get(await submit(bench.services, USER, submission))
    dataset, files = await get_dataset(bench.services, USER, request.dataset_id)
    assert request.did == digest
    assert len(dataset.name) == len(digest)
    assert (dataset.did_finder, dataset.lookup_status, dataset.n_files) == ("user", "complete", 2)
    assert [(file.adler32, file.size_bytes, file.n_events) for file in files] == [("xxx", 0, 0)] * 2
    assert min(file.id for file in files) >= 1


async def test_colliding_names_are_told_apart_and_stay(bench: Bench) -> None:
    folder = bench.root / "x"
    files = (str(folder / "y.root"), str(bench.root / "x:y.root"), str(bench.root / "z.root"))
    names = []
    async with bench.working():
        for _ in range(2):
            request_id = await submit(bench.services, USER, bench.submission(files=files))
            await bench.until_ended(request_id)
            results = await list_results(bench.services, USER, request_id)
            names.append({result.path: result.object_name for result in results})
    assert len(set(names[0].values())) == 3
    assert names[0] == names[1]


async def test_root_results_have_root_names(bench: Bench) -> None:
    async with bench.working():
        submission = bench.submission(result_format=ResultFormat.ROOT_FILE)
        request_id = await submit(bench.services, USER, submission)
        await bench.until_ended(request_id)
    (result,) = await list_results(bench.services, USER, request_id, status=FileStatus.SUCCESS)
    assert result.object_name is not None
    assert result.object_name.endswith("f0.root")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"files": ()}, "the file list is empty"),
        ({"files": ("/etc/passwd",)}, "/etc/passwd.*local roots"),
        ({"files": ("",)}, "entry 0 of the file list"),
        ({"files": ("a\0b",)}, "entry 0 of the file list"),
        ({"files": ("gopher://x/y",)}, "gopher"),
        ({"files": None, "did": "rucio://mc:x"}, "no rucio finder, which needs a host.*file lists"),
        ({"files": None, "did": "mc:x"}, "no rucio finder"),
        ({"files": None, "did": "toy://x"}, "no toy finder, which needs to be .* in `broker_finders`"),
        ({"files": None, "did": "cernopendata://1507"}, "no cernopendata finder"),
        ({"files": None, "did": "root://host//x.root"}, "that is a file, or behind xrootd:// a pattern"),
        ({"result_destination": ResultDestination.VOLUME}, "use 'object-store'"),
        ({"title": "x" * 10_241}, "10,241 characters.*at most 10,240"),
        ({"title": "x\0"}, "NUL"),
        ({"selection": "x" * (2**20 + 1)}, "at most 1,048,576"),
        ({"selection": "\ud800"}, "broken Unicode"),
    ],
)
async def test_what_cannot_be_served_is_refused(bench: Bench, changes: dict[str, object], words: str) -> None:
    bench.services = replace(bench.services, absent_finders={"rucio": "a host"})
    with pytest.raises(InvalidRequest, match=words):
        await submit(bench.services, USER, bench.submission(1, **changes))
    assert await list_requests(bench.services, ANYONE) == []


async def test_the_first_refused_path_of_several_is_named(bench: Bench) -> None:
    files = (str(bench.root / "a.root"), "/etc/passwd", "/etc/shadow")
    with pytest.raises(SourceRefused, match=r"entry 1 of the file list.*/etc/passwd"):
        await submit(bench.services, USER, bench.submission(files=files))


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("root://host//run1/*.root", "for the data set xrootd://root://host//run1/\\*.root"),
        ("https://me:secret@host/*.root?x=1", "for the data set https://host/\\*.root$"),
        ("davs://host/*.root", "wildcards are not expanded: list the files$"),
        ("run1/*.root", "for the data set local://run1/\\*.root"),
        ("~/x.root", "begins with '~', which is not expanded: give the whole path$"),
    ],
)
async def test_patterns_are_no_files(bench: Bench, file: str, words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        await submit(bench.services, USER, bench.submission(files=(file,)))


async def test_what_only_workers_see_is_taken(tmp_path: Path) -> None:
    files = ("gone.root", "run[1]/x.root", "https://host/x.root?sign=a*b", "https://host/x?y=[1]")
    async with new_bench(tmp_path, replace(QUICK, preflight_files=0)) as bench:
        assert await submit(bench.services, USER, bench.submission(files=files))


async def test_missing_files_are_told_where_they_can_be_seen(bench: Bench) -> None:
    limits = replace(bench.services.limits, preflight_files=0)
    bench.services = replace(bench.services, sees_inputs=True, limits=limits)
    (bench.root / "run[1].root").touch()
    (bench.root / "folder").mkdir()
    for files, words in (
        (("gone.root",), "the file 'gone.root' does not exist"),
        (("gone.root", f"file://{bench.root}/gone2.root"), "none of the 2 files exists.*'gone.root'"),
        (("run[1].root", "run?.root"), "entry 1.*is a pattern.*data set local://run\\?.root"),
        (("run[1].root", "folder"), f"is a folder.*data set local://{bench.root}/folder/"),
        (("run[1].root", "~/x.root"), "give the whole path$"),
    ):
        with pytest.raises(SourceRefused, match=words):
            await submit(bench.services, USER, bench.submission(files=files))
    assert await list_requests(bench.services, ANYONE) == []
    for files in (("run[1].root", "gone.root"), ("gone.root", "https://host/x.root")):
        # What is there is delivered.
        assert await submit(bench.services, USER, bench.submission(files=files))


async def test_too_many_files_are_refused(tmp_path: Path) -> None:
    async with new_bench(tmp_path, replace(QUICK, files=3)) as bench:
        with pytest.raises(InvalidRequest, match=r"4 entries.*at most 3"):
            await submit(bench.services, USER, bench.submission(4))


async def test_an_unknown_generator_is_refused(bench: Bench) -> None:
    with pytest.raises(UnknownCodegen):
        await submit(bench.services, USER, bench.submission(codegen="atlasr22"))


async def test_a_generator_that_is_switched_off_is_refused(bench: Bench) -> None:
    services = replace(bench.services, codegens={"uproot": "the only one"})
    with pytest.raises(UnknownCodegen, match=r"not offered here: it is switched off\. Offered: uproot"):
        await submit(services, USER, bench.submission())


async def test_a_generator_that_cannot_run_here_is_refused_with_the_reason(bench: Bench) -> None:
    services = replace(
        bench.services, codegens={"uproot": "the only one"}, withheld={"python": "there is no sandbox"}
    )
    with pytest.raises(
        UnknownCodegen, match=r"'python' is not offered here: there is no sandbox\. Offered: up"
    ):
        await submit(services, USER, bench.submission(codegen="python", selection="whatever"))


async def test_a_selection_that_does_not_parse_is_refused(bench: Bench) -> None:
    with pytest.raises(QueryError):
        await submit(bench.services, USER, bench.submission(selection="!"))
    assert await list_requests(bench.services, ANYONE) == []


async def test_large_requests_and_small_ones_take_turns(tmp_path: Path) -> None:
    limits = replace(QUICK, preflight_files=0, publish_page=4)
    url, store, root = await prepare(tmp_path)
    async with open_bench(url, store, root, limits, max_units=6) as bench, bench.working(slots=1):
        large = await submit(bench.services, USER, bench.submission(40))
        small = await submit(bench.services, OTHER, bench.submission(1))
        await bench.until_ended(small)
        assert is_running(await bench.get(large))
        await bench.until_ended(large)
        assert (await bench.get(large)).counts.completed == 40


async def test_one_user_may_have_so_much_under_way(tmp_path: Path) -> None:
    limits = replace(QUICK, preflight_files=0, user_requests=2, user_files=6)
    async with new_bench(tmp_path, limits) as bench:
        first = await submit(bench.services, USER, bench.submission(4))
        with pytest.raises(LimitReached, match="3 files beside the 4 that your unfinished requests wait for"):
            await submit(bench.services, USER, bench.submission(3))
        second = await submit(bench.services, USER, bench.submission(2))
        with pytest.raises(LimitReached, match="2 unfinished requests, and this server takes at most 2"):
            await submit(bench.services, USER, bench.submission(1))
        await submit(bench.services, OTHER, bench.submission(6))
        async with bench.working():
            for request_id in (first, second):
                await bench.until_ended(request_id)
        await submit(bench.services, USER, bench.submission(6))


async def test_more_than_a_user_may_ever_have_is_refused(tmp_path: Path) -> None:
    async with new_bench(tmp_path, replace(QUICK, user_files=3)) as bench:
        with pytest.raises(LimitReached, match=r"4 files beside the 0 .* submit fewer"):
            await submit(bench.services, USER, bench.submission(4))
        assert await list_requests(bench.services, ANYONE) == []


async def test_what_fitted_the_files_is_not_tried_again(bench: Bench) -> None:
    async with bench.working():
        await bench.until_ended(await submit(bench.services, USER, bench.submission(2)))
        for changes, is_tried in (
            ({}, False),
            ({"title": "another"}, False),
            ({"selection": SELECTION + " "}, True),
            ({"result_format": ResultFormat.ROOT_FILE}, True),
            ({"n_files": 3}, True),
        ):
            bench.seen.clear()
            submission = bench.submission(**{"n_files": 2} | changes)
            await bench.until_ended(await submit(bench.services, OTHER, submission))
            assert isinstance(bench.seen[0], PreflightUnit) == is_tried, changes


async def test_a_submit_told_twice_goes_the_way_it_went_first(bench: Bench) -> None:
    """The word of a commit may get lost, and meanwhile another request may show that the query fits."""
    other = SELECTION + " "

    class Twice:
        """Runs changes as the database does when the connection breaks after the commit."""

        async def write(self, change: Callable[..., object], *args: object, **named: object) -> object:
            await bench.services.db.write(change, *args, **named)
            await bench.services.db.write(_ask_as_well, other)
            return await bench.services.db.write(change, *args, **named)

        def __getattr__(self, name: str) -> object:
            return getattr(bench.services.db, name)

    twice = replace(bench.services, db=Twice())  # type: ignore[arg-type]  # all that a submit needs
    async with bench.working():
        await bench.until_ended(await submit(bench.services, USER, bench.submission()))
        bench.seen.clear()
        request_id = await submit(twice, USER, bench.submission(selection=other))
        assert (await bench.until_ended(request_id)).state is RequestState.COMPLETE
    assert isinstance(bench.seen[0], PreflightUnit)


def _ask_as_well(transaction: Transaction, selection: str) -> None:
    """Makes the first request one that was answered to this selection."""
    transaction.execute(text("UPDATE request SET selection = :new WHERE number = 1"), {"new": selection})


async def test_one_file_of_another_user_waits_for_no_more_than_one(tmp_path: Path) -> None:
    has_begun, may_end = asyncio.Event(), asyncio.Event()

    async def hold_first(services: Services, unit: Unit) -> Report:
        has_begun.set()
        await may_end.wait()
        return await succeed(services, unit)

    limits = replace(QUICK, preflight_files=0)
    async with new_bench(tmp_path, limits) as bench, bench.working(hold_first, slots=1):
        for _ in range(5):
            await submit(bench.services, USER, bench.submission(200))
        await has_begun.wait()
        small = await submit(bench.services, OTHER, bench.submission(1))

        async def is_published() -> bool:
            await asyncio.sleep(0)
            return bench.services.backlog.is_empty

        await eventually(is_published)
        may_end.set()
        await bench.until_ended(small)
    assert bench.seen[1].request_id == small
