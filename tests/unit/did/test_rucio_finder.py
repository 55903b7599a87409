"""The Rucio finder against a server that fails as it is told: nothing is lost, nothing secret is said."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rucio_api import PASSWORD, FakeRucio, Fault, running_rucio_api
from servicex_server.did.finders.rucio import ReplicaChoice, RucioFinder
from servicex_server.did.rucio.login import LoginKind, RucioAccess
from servicex_server.errors import BadDatasetName, FinderError, UnknownDataset
from servicex_server.grid.access import GridAccess
from servicex_server.model.did import FoundFile, parse_did

CUT = Fault()
BUSY = Fault(503)


@pytest.fixture
def rucio() -> Iterator[FakeRucio]:
    with running_rucio_api(FakeRucio({"s:three": 3, "s:many": 1_234, "s:none": 0})) as server:
        yield server


def access_to(rucio: FakeRucio, password: str = PASSWORD) -> RucioAccess:
    return RucioAccess(rucio.url, rucio.url, LoginKind.USERPASS, "root", "jane", password)


def finder_of(rucio: FakeRucio, choice: ReplicaChoice | None = None) -> RucioFinder:
    return RucioFinder(access_to(rucio), choice, pause_s=0.001)


async def find(finder: RucioFinder, text: str) -> list[FoundFile]:
    return [file async for batch in finder.find(parse_did(text)) for file in batch]


async def test_what_is_known_of_a_file(rucio: FakeRucio) -> None:
    first, *_ = await find(finder_of(rucio), "rucio://s:three")
    assert (first.adler32, first.size_bytes, first.n_events) == ("00000000", 100, 10)
    assert first.paths == ("https://a.example/s/f000000.root", "root://b.example//s/f000000.root")


@pytest.mark.parametrize("slash", ["", "/"])
async def test_files_come_in_pages_each_once(rucio: FakeRucio, slash: str) -> None:
    found = await find(finder_of(rucio), f"rucio://s:many{slash}")
    assert len({file.digest for file in found}) == len(found) == 1_234
    # Asked for side by side, so that they may arrive in another order.
    assert sorted(len(asked["dids"]) for asked in rucio.asked) == [50, 184, 500, 500]


async def test_an_empty_data_set_has_no_files(rucio: FakeRucio) -> None:
    assert await find(finder_of(rucio), "rucio://s:none") == []


@pytest.mark.parametrize("fault", [CUT, BUSY, Fault(500), Fault(429, headers={"Retry-After": "0"})])
async def test_passing_faults_are_waited_out(rucio: FakeRucio, fault: Fault) -> None:
    rucio.faults = {kind: [fault, fault] for kind in ("auth", "dids", "replicas")}
    assert len(await find(finder_of(rucio), "rucio://s:three")) == 3


async def test_an_answer_that_breaks_off_is_taken_up_again(rucio: FakeRucio) -> None:
    rucio.faults = {
        "dids": [Fault(after_lines=lines) for lines in (0, 100, 100, 300, 600, 700, 800, 900, 1_000)],
        "replicas": [Fault(after_lines=20), Fault(after_lines=0)],
    }
    found = await find(finder_of(rucio), "rucio://s:many")
    assert len({file.digest for file in found}) == len(found) == 1_234


@pytest.mark.parametrize("kind", ["auth", "dids", "replicas"])
async def test_what_does_not_pass_is_told(rucio: FakeRucio, kind: str) -> None:
    rucio.faults = {kind: [BUSY] * 100}
    with pytest.raises(FinderError, match=r"Rucio .* does not answer .*503") as caught:
        await find(finder_of(rucio), "rucio://s:three")
    assert len(rucio.of_kind(kind)) == 5
    assert type(caught.value) is not UnknownDataset


async def test_a_server_that_is_away_is_told() -> None:
    access = RucioAccess("http://127.0.0.1:1", "http://127.0.0.1:1", LoginKind.USERPASS, "r", "j", PASSWORD)
    with pytest.raises(FinderError, match="does not answer after 5 attempts"):
        await find(RucioFinder(access, pause_s=0.001), "rucio://s:three")


async def test_unknown_and_bad_names_are_told_apart(rucio: FakeRucio) -> None:
    with pytest.raises(UnknownDataset, match="'s:nothing' not found"):
        await find(finder_of(rucio), "rucio://s:nothing")
    with pytest.raises(BadDatasetName, match="does not match the schema"):
        await find(finder_of(rucio), "rucio://s:bad")
    for name in ("x", ":x", "s:", "s:a b", "s:a:b", "../s:x"):
        with pytest.raises(BadDatasetName, match="scope:name"):
            finder_of(rucio).check(parse_did(f"rucio://{name}"))
    finder_of(rucio).check(parse_did("rucio://cms:/Primary/Run2012B/AOD#0f-1e"))


async def test_all_means_all(rucio: FakeRucio) -> None:
    rucio.pfns["f000001.root"] = {"gsiftp://c.example/x": {"rse": "C", "priority": 1}}
    with pytest.raises(FinderError, match=r"no replica .* s:f000001.root; ask with \?get=available"):
        await find(finder_of(rucio), "rucio://s:three")
    found = await find(finder_of(rucio), "rucio://s:three?get=available")
    assert [file.size_bytes for file in found] == [100, 102]


async def test_preferences(rucio: FakeRucio) -> None:
    rucio.pfns["f000000.root"] = {
        "root://near//f": {"rse": "NEAR_DISK", "priority": 1},
        "davs://near/f": {"rse": "NEAR_DISK", "priority": 2},
        "root://tape//f": {"rse": "HOME_TAPE", "priority": 3},
        "root://home//f": {"rse": "HOME_DISK", "priority": 5},
        "root://home//a.zip?xrdcl.unzip=f": {"rse": "HOME_DISK", "priority": 4, "client_extract": True},
    }
    choice = ReplicaChoice(
        sites=("HOME_D*", "HOME*"), schemes=("davs", "root"), position=(46.2, 6.1), site="H"
    )
    (first, *_) = await find(finder_of(rucio, choice), "rucio://s:three")
    assert first.paths == ("root://home//f", "root://tape//f", "https://near/f", "root://near//f")
    (asked,) = rucio.asked
    del asked["dids"]
    location = {"latitude": 46.2, "longitude": 6.1, "site": "H"}
    assert asked == {"schemes": ["davs", "root"], "sort": "geoip", "client_location": location}


async def test_logical_names(rucio: FakeRucio) -> None:
    choice = ReplicaChoice(logical_prefix="root://cache.example//")
    found = await find(finder_of(rucio, choice), "rucio://s:three")
    assert found[0].paths == ("root://cache.example//s:f000000.root",)
    assert not rucio.asked


async def test_a_token_serves_many_look_ups_and_is_renewed(rucio: FakeRucio) -> None:
    finder = finder_of(rucio)
    await asyncio.gather(*(find(finder, "rucio://s:three") for _ in range(4)))
    assert len(rucio.of_kind("auth")) == 1
    rucio.tokens.clear()
    await find(finder, "rucio://s:three")
    assert len(rucio.of_kind("auth")) == 2, "Rucio forgot the first"
    ends_soon = finder_of(rucio)
    rucio.token_life_s = -1
    await find(ends_soon, "rucio://s:three")
    assert len(rucio.of_kind("auth")) == 4, "before each of the two calls"


async def test_a_wrong_password_is_told_but_not_shown(
    rucio: FakeRucio, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "servicex_server")
    access = access_to(rucio, "hunter2hunter2")
    with pytest.raises(FinderError, match=r"does not let this server in as root .*rucio_password") as caught:
        await find(RucioFinder(access, pause_s=0.001), "rucio://s:three")
    rucio.faults = {"replicas": [BUSY]}
    await find(finder_of(rucio), "rucio://s:three")
    for secret in ("hunter2", PASSWORD, *rucio.tokens):
        assert secret not in f"{caught.value} {access!r} {caplog.text}"


async def test_redirects_are_not_followed(rucio: FakeRucio) -> None:
    rucio.faults = {"dids": [Fault(302, headers={"Location": f"{rucio.url}/stolen/x"})]}
    with pytest.raises(FinderError, match="rucio_host"):
        await find(finder_of(rucio), "rucio://s:three")
    assert not rucio.of_kind("stolen")


def token_until(end_s: float) -> str:
    claims = urlsafe_b64encode(json.dumps({"exp": end_s}).encode()).decode().rstrip("=")
    return f"e30.{claims}.x"


async def test_bearer_tokens_are_read_for_each_call(rucio: FakeRucio, tmp_path: Path) -> None:
    file = tmp_path / "token"
    access = replace(access_to(rucio), kind=LoginKind.OIDC, grid=GridAccess(token_file=file))
    finder = RucioFinder(access, pause_s=0.001)
    for life_s in (60, 120):
        token = token_until(int(time.time()) + life_s)
        file.write_text(token)
        rucio.tokens = {token}
        assert len(await find(finder, "rucio://s:three")) == 3
    assert not rucio.of_kind("auth")
    file.write_text(token_until(int(time.time()) - 60))
    with pytest.raises(FinderError, match="has expired"):
        await find(finder, "rucio://s:three")
    file.unlink()
    with pytest.raises(FinderError, match="has none"):
        await find(finder, "rucio://s:three")


async def test_a_missing_proxy_is_told(rucio: FakeRucio, tmp_path: Path) -> None:
    grid = GridAccess(proxy_file=tmp_path / "none")
    access = RucioAccess(rucio.url, rucio.url, LoginKind.X509_PROXY, "root", grid=grid)
    with pytest.raises(FinderError, match=r"has no proxy.*makes one with `servicex-server proxy`") as caught:
        await find(RucioFinder(access, pause_s=0.001), "rucio://s:three")
    assert "token" not in caught.value.message, "it would not help"
    assert str(tmp_path) not in caught.value.message, "paths are for the operator alone"
    assert rucio.calls == [], "nobody is asked in vain"


async def test_whoever_stops_early_leaves_nothing_behind(rucio: FakeRucio) -> None:
    found = finder_of(rucio).find(parse_did("rucio://s:many"))
    async for _ in found:
        break
    await found.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert not [task for task in asyncio.all_tasks() if "_locate" in repr(task)]
