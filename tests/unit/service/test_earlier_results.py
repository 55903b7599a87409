"""What one request delivered is the input of another: for whom, when, and from where."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import uproot

from scripted_finder import ScriptedFinder
from service_bench import OTHER, QUICK, USER, Bench, new_bench
from servicex_server.did.finders.earlier import EarlierFinder
from servicex_server.errors import InvalidRequest, SourceRefused
from servicex_server.model.did import FoundFile
from servicex_server.model.earlier import to_location
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import FileStatus, RequestState, ResultFormat
from servicex_server.model.request import FileResult, Principal
from servicex_server.model.unit import PreflightUnit, Report, Unit
from servicex_server.run.execute import transform_unit
from servicex_server.run.preflight import preflight_unit
from servicex_server.service.context import Services
from servicex_server.service.delete import delete, purge
from servicex_server.service.expire import expire, find_expired
from servicex_server.service.read import list_results
from servicex_server.service.retention import Retention
from servicex_server.service.submit import submit

N_FILES = 3
N_ENTRIES = 50
ROOT, RNTUPLE, PARQUET = ResultFormat.ROOT_FILE, ResultFormat.ROOT_RNTUPLE, ResultFormat.PARQUET
CUT = '[{"treename": "Events", "expressions": ["Muon_pt"], "cut": "Muon_pt >= 40"}]'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        finders = {"servicex": EarlierFinder(bench.services.db)}
        bench.services = replace(bench.services, finders=finders)
        for number in range(N_FILES):
            with uproot.recreate(bench.root / f"f{number}.root") as file:
                values = np.arange(N_ENTRIES, dtype="f4")
                file.mktree("Events", {"Muon_pt": "f4"}).extend({"Muon_pt": values})
        yield bench


async def work(services: Services, unit: Unit) -> Report:
    """As a worker does."""
    if isinstance(unit, PreflightUnit):
        return await asyncio.to_thread(preflight_unit, unit, services.policy, store=services.store)
    return await asyncio.to_thread(transform_unit, unit, services.store, services.policy)


async def run(bench: Bench, user: Principal, **changes: object) -> RequestId:
    """The id of a request that has ended."""
    async with bench.working(work):
        request_id = await submit(bench.services, user, bench.submission(N_FILES, **changes))
        await bench.until_ended(request_id)
    return request_id


def of(request_id: RequestId, query: str = "") -> dict[str, object]:
    """Changes of a submission that make it one of these results."""
    return {"files": None, "did": f"servicex://{request_id}{query}", "selection": CUT}


async def results_of(bench: Bench, user: Principal, request_id: RequestId) -> list[FileResult]:
    return await list_results(bench.services, user, request_id)


@pytest.mark.parametrize("result_format", [ROOT, RNTUPLE])
async def test_results_are_input(bench: Bench, result_format: ResultFormat) -> None:
    first = await run(bench, USER, result_format=result_format)
    second = await run(bench, USER, **of(first))
    request = await bench.get(second)
    assert (request.state, request.counts.completed) == (RequestState.COMPLETE, N_FILES), request
    results = await results_of(bench, USER, second)
    assert [(each.n_events_in, each.n_events_out) for each in results] == [(N_ENTRIES, 10)] * N_FILES
    names = {result.object_name for result in await results_of(bench, USER, first)}
    assert {each.path for each in results} == {to_location(first, str(name)) for name in names}
    two = await run(bench, USER, **of(first, "?files=2"))
    assert (await bench.get(two)).counts.completed == 2
    third = await run(bench, USER, **of(first), result_format=ROOT)
    assert (await bench.get(await run(bench, USER, **of(third)))).state is RequestState.COMPLETE


async def test_nobody_else_may_use_them(bench: Bench) -> None:
    first = await run(bench, USER, result_format=ROOT)
    unknown = RequestId("00000000-0000-4000-8000-000000000000")
    told = []
    for request_id in (first, unknown):
        with pytest.raises(InvalidRequest, match="does not exist") as caught:
            await submit(bench.services, OTHER, bench.submission(N_FILES, **of(request_id)))
        told.append(caught.value.message.replace(request_id, "…"))
    assert told[0] == told[1], "nobody learns that there is such a request"
    for user in (USER, Principal("root", is_admin=True)):
        assert (await bench.get(await run(bench, user, **of(first)))).counts.completed == N_FILES


async def test_paths_that_somebody_makes_up_open_nothing(bench: Bench) -> None:
    first = await run(bench, USER, result_format=ROOT)
    (result, *_) = await results_of(bench, USER, first)
    path = to_location(first, str(result.object_name))
    for files in ((path,), (f"store://{result.store_key}",)):
        with pytest.raises(SourceRefused, match="is not supported"):
            await submit(bench.services, OTHER, bench.submission(files=files))
    # A catalogue that anybody may write to.
    liar = ScriptedFinder({"x": [[FoundFile((path,))]]})
    bench.services = replace(bench.services, finders={**bench.services.finders, "toy": liar})
    for user in (OTHER, USER):
        lied = await run(bench, user, files=None, did="toy://x", selection=CUT)
        (failure,) = await results_of(bench, user, lied)
        assert failure.status is FileStatus.FAILURE
        assert f"of request {first} is gone" in (failure.reason or "")


async def test_a_result_of_a_users_results_is_nobody_elses(bench: Bench) -> None:
    first = await run(bench, USER, result_format=ROOT)
    mine = await run(bench, USER, **of(first))
    assert not any(result.is_cached for result in await results_of(bench, USER, mine))
    again = await run(bench, USER, **of(first))
    assert all(result.is_cached for result in await results_of(bench, USER, again))
    admin = Principal("root", is_admin=True)
    others = await run(bench, admin, **of(first))
    assert not any(result.is_cached for result in await results_of(bench, admin, others))


async def test_what_can_not_be_input_is_told_at_once(bench: Bench) -> None:
    async def refusal(request_id: str, query: str = "") -> str:
        with pytest.raises(InvalidRequest) as caught:
            await submit(bench.services, USER, bench.submission(N_FILES, **of(RequestId(request_id), query)))
        return caught.value.message

    parquet = await run(bench, USER, result_format=PARQUET)
    said = await refusal(parquet)
    assert "has results in the format parquet" in said
    assert "those in root-file and root-rntuple can be input" in said
    waiting = await submit(
        replace(bench.services, limits=replace(QUICK, preflight_wait_s=0)),
        USER,
        bench.submission(N_FILES, result_format=ROOT),
    )
    assert f"request {waiting} is Submitted, not Complete: use its results once" in await refusal(waiting)
    for name in ("x", "12", parquet.upper(), f"{parquet}/x"):
        assert "is no id of a request" in await refusal(name)
    assert "allowed: files, get, lookup" in await refusal(parquet, "?x=1")


async def test_part_of_a_request_is_not_taken_for_all_of_it(bench: Bench) -> None:
    (bench.root / "f1.root").write_bytes(b"no file of that kind")
    first = await run(bench, USER, result_format=ROOT)
    with pytest.raises(InvalidRequest, match=r"lacks 1 of its 3 files.*get=available"):
        await submit(bench.services, USER, bench.submission(N_FILES, **of(first)))
    second = await run(bench, USER, **of(first, "?get=available"))
    assert (await bench.get(second)).counts.completed == 2


async def test_results_that_go_meanwhile_are_told(bench: Bench) -> None:
    first = await run(bench, USER, result_format=ROOT)
    is_deleted = False

    async def work_after_deletion(services: Services, unit: Unit) -> Report:
        nonlocal is_deleted
        if not isinstance(unit, PreflightUnit) and not is_deleted:
            is_deleted = True
            await delete(services, USER, first)
            await purge(services)
        return await work(services, unit)

    async with bench.working(work_after_deletion):
        second = await submit(bench.services, USER, bench.submission(N_FILES, **of(first)))
        await bench.until_ended(second)
    results = await results_of(bench, USER, second)
    assert [result.status for result in results] == [FileStatus.FAILURE] * N_FILES
    assert all(f"of request {first} is gone: that request has been" in str(each.reason) for each in results)
    with pytest.raises(InvalidRequest, match="or it has been deleted"):
        await submit(bench.services, USER, bench.submission(N_FILES, **of(first)))


async def test_the_sweep_spares_what_is_being_read(bench: Bench) -> None:
    first = await run(bench, USER, result_format=ROOT)
    second = await submit(
        replace(bench.services, limits=replace(QUICK, preflight_wait_s=0)),
        USER,
        bench.submission(N_FILES, **of(first)),
    )
    old = aged(bench)
    assert await expire(old) == []
    async with bench.working(work):
        await bench.until_ended(second)
    assert (await bench.get(second)).state is RequestState.COMPLETE
    assert {doomed.request.id for doomed in await expire(old)} == {first, second}


async def test_a_request_that_becomes_input_between_looking_and_hiding_stays(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await run(bench, USER, result_format=ROOT)
    old = aged(bench)
    seen = await find_expired(old)
    second = await submit(
        replace(bench.services, limits=replace(QUICK, preflight_wait_s=0)),
        USER,
        bench.submission(N_FILES, **of(first)),
    )

    async def find_as_seen(_: Services) -> object:
        return seen

    monkeypatch.setattr("servicex_server.service.expire.find_expired", find_as_seen)
    assert await expire(old) == []
    async with bench.working(work):
        await bench.until_ended(second)
    assert (await bench.get(second)).state is RequestState.COMPLETE


async def test_a_request_that_goes_while_it_becomes_input_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await run(bench, USER, result_format=ROOT)

    async def check_and_expire(*_: object) -> None:
        assert [doomed.request.id for doomed in await expire(aged(bench))] == [first]

    monkeypatch.setattr("servicex_server.service.submit._check_earlier", check_and_expire)
    with pytest.raises(InvalidRequest, match="does not exist"):
        await submit(bench.services, USER, bench.submission(N_FILES, **of(first)))


def aged(bench: Bench) -> Services:
    """The same services when all that is there now is too old."""
    return replace(
        bench.services,
        limits=replace(QUICK, retention=Retention(max_age_s=60.0)),
        clock=lambda: bench.services.clock() + timedelta(hours=1),
    )
