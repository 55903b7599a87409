"""Replicas that fail, each for real: the file is delivered from the next one, and the record tells why."""

from __future__ import annotations

import json
import os
import signal
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from faulty_proxy import FaultyProxy, faulty_proxy
from servicex_server.errors import ServicexError, SourceCorrupt, SourceRefused, SourceUnavailable
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.execute import TransformSummary, transform_file
from servicex_server.source import replica
from servicex_server.source.health import SiteHealth
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.reading import HostMount, Reading
from xrootd_server import XrootdServer, require_xrootd, running_xcache, running_xrootd

POLICY = SourcePolicy(allowed_private_hosts=("localhost",))
LIMITS = SourceLimits(
    connect_s=1.0, idle_s=0.5, open_s=1.0, backoff_s=0.02, n_attempts=2, least_bytes_per_s=1_000_000
)
READING = Reading(LIMITS)
N_BASKETS, BASKET = 6, 20_000
SELECTION = json.dumps([{"treename": "Events", "expressions": ["x", "y"]}])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """x.root; other.root is as long and of another file; corrupt.root has one flipped byte in a basket."""
    folder = tmp_path_factory.mktemp("files")
    for name, seed in (("x.root", 1), ("other.root", 2)):
        numbers = np.random.default_rng(seed)
        with uproot.recreate(folder / name) as file:
            file.mktree("Events", {"x": "f8", "y": "f8"})
            for _ in range(N_BASKETS):
                file["Events"].extend({"x": numbers.random(BASKET), "y": numbers.random(BASKET)})
    data = bytearray((folder / "x.root").read_bytes())
    middle = len(data) // 2
    data[middle : middle + 64] = bytes(64)
    (folder / "corrupt.root").write_bytes(data)
    (folder / "short.root").write_bytes(data[:middle])
    return {path.name: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def server(files: dict[str, Path]) -> Iterator[XrootdServer]:
    require_xrootd()
    with running_xrootd(files) as running:
        yield running


@pytest.fixture(params=["root", "http"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(server: XrootdServer, scheme: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(server.port if scheme == "root" else server.http_port) as running:
        yield running


@pytest.fixture(autouse=True)
def sites(monkeypatch: pytest.MonkeyPatch) -> SiteHealth:
    """Each test with sites that nobody knows yet."""
    fresh = SiteHealth()
    monkeypatch.setattr(replica, "sites", fresh)
    return fresh


def url(server: XrootdServer, scheme: str, name: str = "x.root", port: int | None = None) -> str:
    return server.url(name, port=port) if scheme == "root" else server.http_url(name, port=port)


def transform(folder: Path, *replicas: str, reading: Reading = READING) -> TransformSummary:
    return transform_file(
        replicas,
        codegen="uproot-raw",
        selection=SELECTION,
        result_format=ResultFormat.PARQUET,
        output=folder / "result",
        policy=POLICY,
        reading=reading,
        chunk_bytes=BASKET * 16,
    )


def assert_delivered(summary: TransformSummary, files: dict[str, Path]) -> None:
    result = ak.from_parquet(summary.path)
    with uproot.open({files["x.root"]: None}) as file:
        expected = file["Events"].arrays()
    assert ak.array_equal(result.x, expected.x)
    assert ak.array_equal(result.y, expected.y)


@pytest.mark.parametrize(
    "fault", ["refuses", "stalls", "stalls in the middle", "breaks off in the middle", "is slow"]
)
def test_a_file_is_delivered_from_the_next_replica(
    fault: str,
    scheme: str,
    proxy: FaultyProxy,
    server: XrootdServer,
    files: dict[str, Path],
    tmp_path: Path,
) -> None:
    first, second = url(server, scheme, port=proxy.port), url(server, scheme)
    match fault:
        case "refuses":
            proxy.refuse()
        case "stalls":
            proxy.stall()
        case "stalls in the middle":
            proxy.stall_after = 700_000
        case "breaks off in the middle":
            proxy.cut_after = 700_000
        case _:
            proxy.bytes_per_s = 20_000
    summary = transform(tmp_path, first, second)
    assert_delivered(summary, files)
    assert summary.location == second
    assert [attempt.location for attempt in summary.replicas] == [first, second]
    assert summary.replicas[0].outcome != "read"
    assert summary.replicas[1].outcome == "read"
    assert all(0 <= attempt.seconds < 60 for attempt in summary.replicas)


@pytest.mark.parametrize("name", ["corrupt.root", "short.root", "none.root"])
def test_broken_and_missing_files_are_read_elsewhere(
    name: str, scheme: str, server: XrootdServer, files: dict[str, Path], tmp_path: Path
) -> None:
    summary = transform(tmp_path, url(server, scheme, name), url(server, scheme))
    assert_delivered(summary, files)
    assert summary.location == url(server, scheme)
    assert len(summary.replicas) == 2


def test_a_stopped_server_does_not_hold_up_a_file(
    scheme: str, files: dict[str, Path], server: XrootdServer, tmp_path: Path
) -> None:
    with running_xrootd(files) as stopped:
        os.kill(stopped.pid, signal.SIGSTOP)
        summary = transform(tmp_path, url(stopped, scheme), url(server, scheme))
    assert_delivered(summary, files)
    assert summary.location == url(server, scheme)


def test_reading_goes_on_with_the_other_protocol(
    server: XrootdServer, files: dict[str, Path], tmp_path: Path
) -> None:
    with faulty_proxy(server.port) as proxy:
        proxy.cut_after = 700_000
        summary = transform(tmp_path, server.url("x.root", port=proxy.port), server.http_url("x.root"))
    assert_delivered(summary, files)
    # What was read before is not read again.
    assert summary.bytes_read < 2 * files["x.root"].stat().st_size


def test_another_file_of_the_same_name_is_begun_anew(
    scheme: str, proxy: FaultyProxy, server: XrootdServer, files: dict[str, Path], tmp_path: Path
) -> None:
    proxy.cut_after = 700_000
    broken = url(server, scheme, "other.root", port=proxy.port)
    summary = transform(tmp_path, broken, url(server, scheme))
    assert_delivered(summary, files)


def test_an_error_of_all_replicas_tells_of_each(
    scheme: str, proxy: FaultyProxy, server: XrootdServer, tmp_path: Path
) -> None:
    proxy.stall()
    places = [
        url(server, scheme, port=proxy.port),
        url(server, scheme, "none.root"),
        url(server, scheme, "corrupt.root"),
    ]
    with pytest.raises(SourceUnavailable) as caught:
        transform(tmp_path, *places)
    for place in places:
        assert place in caught.value.message
    assert "does not answer in time" in caught.value.message
    assert not (tmp_path / "result").exists()


def test_a_slow_site_gets_company(
    scheme: str,
    proxy: FaultyProxy,
    server: XrootdServer,
    files: dict[str, Path],
    tmp_path: Path,
    sites: SiteHealth,
) -> None:
    proxy.stall()
    patient = replace(LIMITS, connect_s=5.0, idle_s=5.0, open_s=5.0, hedge_s=0.05)
    first, second = url(server, scheme, port=proxy.port), url(server, scheme)
    summary = transform(tmp_path, first, second, reading=Reading(patient))
    assert_delivered(summary, files)
    assert summary.location == second
    assert "faster to open" in summary.replicas[0].outcome
    assert not sites.is_sick(f"localhost:{proxy.port}"), "slow is not sick"


def test_company_helps_nobody_if_all_fail(scheme: str, server: XrootdServer, tmp_path: Path) -> None:
    hedged = Reading(replace(LIMITS, hedge_s=0.01))
    with pytest.raises(ServicexError, match="no replica can be read"):
        transform(tmp_path, *(url(server, scheme, f"none{n}.root") for n in range(3)), reading=hedged)


def test_files_come_through_the_cache(server: XrootdServer, files: dict[str, Path], tmp_path: Path) -> None:
    with running_xcache() as prefix:
        reading = replace(READING, xcache_prefixes=(prefix,))
        summary = transform(tmp_path, server.url("x.root"), reading=reading)
        assert summary.location == prefix + server.url("x.root")
    assert_delivered(summary, files)
    # Without it they come all the same.
    again = transform(tmp_path, server.url("x.root"), reading=reading)
    assert again.location == server.url("x.root")


def test_the_cache_reads_nothing_that_the_server_would_not(server: XrootdServer, tmp_path: Path) -> None:
    with running_xcache() as prefix, pytest.raises(SourceRefused, match="loopback"):
        transform_file(
            server.url("x.root", host="127.0.0.1"),
            codegen="uproot-raw",
            selection=SELECTION,
            result_format=ResultFormat.PARQUET,
            output=tmp_path / "result",
            policy=SourcePolicy(allowed_private_hosts=()),
            reading=replace(READING, xcache_prefixes=(prefix,)),
        )


def test_a_mounted_folder_is_looked_into_first(
    server: XrootdServer, files: dict[str, Path], tmp_path: Path
) -> None:
    prefix = server.url("")
    mounted = replace(READING, host_mounts=(HostMount(prefix, str(server.folder)),))
    summary = transform(tmp_path, server.url("x.root"), reading=mounted)
    assert_delivered(summary, files)
    assert summary.location == str(server.folder / "x.root")
    elsewhere = replace(READING, host_mounts=(HostMount(prefix, str(tmp_path)),))
    assert transform(tmp_path, server.url("x.root"), reading=elsewhere).location == server.url("x.root")


def test_nothing_is_read_outside_a_mounted_folder(server: XrootdServer, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("root")
    (tmp_path / "mounted").mkdir()
    reading = replace(READING, host_mounts=(HostMount(server.url(""), str(tmp_path / "mounted")),))
    with pytest.raises(ServicexError) as caught:
        transform(tmp_path, server.url("../secret"), reading=reading)
    assert "not below a folder" in caught.value.message


def test_corrupt_replicas_are_never_read_where_checksums_are_verified(
    scheme: str, server: XrootdServer, files: dict[str, Path]
) -> None:
    checksum = f"{zlib.adler32(files['x.root'].read_bytes()):08x}"
    verified = replace(READING, verify_checksums=True)
    places = [url(server, scheme, "corrupt.root"), url(server, scheme)]
    replicas = replica.Replicas(places, POLICY, verified, adler32=checksum)
    replicas.open().close()
    assert replicas.location == places[1]
    assert "adler32" in replicas.attempts[0].outcome
    with pytest.raises(SourceCorrupt, match="the catalogue says"):
        replica.Replicas(places[:1], POLICY, verified, adler32=checksum).open()
    replica.Replicas(places[:1], POLICY, READING, adler32=checksum).open().close()
