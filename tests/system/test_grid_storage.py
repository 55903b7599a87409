"""Files on real XRootD servers that demand a VOMS proxy or a bearer token: read with it, refused without."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import uproot
from cryptography import x509

from grid_pki import Pair, TestAuthority, fake_voms_proxy, require_voms
from secured_xrootd import (
    SecuredServer,
    TokenIssuer,
    require_secured_xrootd,
    running_gsi_xrootd,
    running_token_xrootd,
)
from servicex_server.app.datadir import DataDir
from servicex_server.app.ports import executor
from servicex_server.app.settings import load
from servicex_server.did.finders.web import WebFinder
from servicex_server.errors import FinderError
from servicex_server.grid.access import GridAccess
from servicex_server.grid.certificate import UserFiles
from servicex_server.grid.maker import PlainProxy, ProxyWish
from servicex_server.grid.place import write_private
from servicex_server.model.did import parse_did
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileDone, FileFailed, Reason, TransformUnit
from servicex_server.queue.codec import decode_report, encode_unit
from servicex_server.run.children import Child, open_children
from servicex_server.source.policy import SourcePolicy

SELECTION = json.dumps([{"treename": "tree", "expressions": ["x"]}])
HOSTS = ("localhost",)
numbers = count(1)


@dataclass(frozen=True)
class Grid:
    """A CA, a VO and its members, and the file that is served."""

    authority: TestAuthority
    jane: Pair
    mary: Pair
    voms: Pair
    host: Pair
    file: Path

    def proxy(self, path: Path, *, vo: str = "atlas", life_s: int = 7200, user: Pair | None = None) -> Path:
        fake_voms_proxy(self.authority, user or self.jane, self.voms, path, vo=vo, life_s=life_s)
        return path


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    require_secured_xrootd()
    require_voms()
    folder = tmp_path_factory.mktemp("grid")
    authority = TestAuthority(folder / "ca")
    file = folder / "data.root"
    with uproot.recreate(file) as root:
        # Less than one first request: XRootD 5.5 promises bytes beyond the end of a file over https.
        root.mktree("tree", {"x": np.random.default_rng(1).random(2_000)})
    host = authority.issue("localhost", hosts=("localhost",))
    jane, mary = authority.issue("Jane Analyst"), authority.issue("Mary Analyst")
    return Grid(authority, jane, mary, authority.found_vo(), host, file)


@pytest.fixture(scope="module")
def gsi(grid: Grid) -> Iterator[SecuredServer]:
    with running_gsi_xrootd(grid.authority, grid.host, {"data.root": grid.file}) as server:
        yield server


@pytest.fixture(scope="module")
def tokens(grid: Grid) -> Iterator[tuple[SecuredServer, TokenIssuer]]:
    with running_token_xrootd(grid.authority, grid.host, {"data.root": grid.file}) as server:
        yield server


@pytest.fixture
def other_account(grid: Grid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the account that runs the tests is found by grid clients."""
    for name in ("X509_USER_PROXY", "BEARER_TOKEN", "BEARER_TOKEN_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("X509_CERT_DIR", str(grid.authority.cert_dir))


@asynccontextmanager
async def worker_child(folder: Path, **settings: Path | tuple[str, ...]) -> AsyncIterator[Child]:
    """A worker's child, started as a worker does it, with these settings."""
    flags: dict[str, object] = {"allowed_private_hosts": ("localhost",), "min_free_bytes": 0, "workers": 1}
    chosen = load(None, **flags, **settings, data_dir=folder / "data")
    data = DataDir(chosen.data_dir)
    data.create_folder()
    async with open_children(1, executor(chosen, data), preload=()) as children:
        yield await children.take()


async def read(child: Child, url: str) -> FileDone | FileFailed:
    """What becomes of that file."""
    number = next(numbers)
    unit = TransformUnit(
        RequestId("r"), FileId(number), (url,), "uproot-raw", SELECTION, ResultFormat.PARQUET, f"r/{number}"
    )
    answer = await child.ask(encode_unit(unit))
    assert answer is not None, f"the child {await child.describe_end()}"
    report = decode_report(answer)
    assert isinstance(report, FileDone | FileFailed)
    return report


def fresh(server: SecuredServer) -> str:
    """A URL for which the client connects anew: connections belong to a user and a server."""
    return server.url("data.root").replace("root://", f"root://u{next(numbers)}@")


async def require_refused(child: Child, url: str, words: str, reason: Reason = Reason.REFUSED) -> None:
    report = await read(child, url)
    assert isinstance(report, FileFailed)
    assert words in report.failure.message, report.failure.message
    assert report.failure.reason is reason


async def require_delivered(child: Child, url: str) -> None:
    report = await read(child, url)
    assert isinstance(report, FileDone), report
    assert report.n_events_out == 2_000


@pytest.mark.usefixtures("other_account")
async def test_workers_read_with_the_proxy(grid: Grid, gsi: SecuredServer, tmp_path: Path) -> None:
    proxy = grid.proxy(tmp_path / "x509up")
    async with worker_child(tmp_path, x509_proxy_file=proxy, grid_hosts=HOSTS) as child:
        await require_delivered(child, gsi.url("data.root"))
        await require_delivered(child, gsi.https_url("data.root"))


@pytest.mark.usefixtures("other_account")
async def test_without_a_proxy_the_reason_says_so(gsi: SecuredServer, tmp_path: Path) -> None:
    async with worker_child(tmp_path, grid_hosts=HOSTS) as child:
        words = "this server has no proxy"
        await require_refused(child, gsi.url("data.root"), words)
        await require_refused(child, gsi.https_url("data.root"), words)


@pytest.mark.usefixtures("other_account")
async def test_a_file_that_is_no_proxy_costs_no_worker(gsi: SecuredServer, tmp_path: Path) -> None:
    broken = tmp_path / "x509up"
    for content in (b"", b"no proxy"):
        write_private(broken, content)
        async with worker_child(tmp_path, x509_proxy_file=broken, grid_hosts=HOSTS) as child:
            await require_refused(
                child, gsi.url("data.root"), "proxy or token cannot be read", Reason.UNAVAILABLE
            )


@pytest.mark.usefixtures("other_account")
async def test_a_proxy_of_another_vo_is_named(grid: Grid, gsi: SecuredServer, tmp_path: Path) -> None:
    proxy = grid.proxy(tmp_path / "x509up", vo="cms")
    async with worker_child(tmp_path, x509_proxy_file=proxy) as child:
        words = f"the proxy of this server is that of {grid.jane.subject} of VO cms"
        await require_refused(child, gsi.url("data.root"), words)


@pytest.mark.usefixtures("other_account")
async def test_a_proxy_that_ends_and_is_renewed_during_a_run(
    grid: Grid, gsi: SecuredServer, tmp_path: Path
) -> None:
    proxy = tmp_path / "x509up"
    held = fresh(gsi)
    async with (
        worker_child(tmp_path, x509_proxy_file=proxy) as old,
        worker_child(tmp_path, x509_proxy_file=proxy) as new,
    ):
        # Made when all is imported, so that a busy machine has the proxy's whole life for one small file.
        for child in (old, new):
            await require_refused(child, fresh(gsi), "this server has no proxy")
        grid.proxy(proxy, life_s=4)
        (certificate, *_) = x509.load_pem_x509_certificates(proxy.read_bytes())
        await require_delivered(old, held)
        # Both ends look at the clock, which counts whole seconds for them.
        await asyncio.sleep((certificate.not_valid_after_utc - datetime.now(UTC)).total_seconds() + 1.1)
        await require_refused(new, fresh(gsi), "EXPIRED", Reason.UNAVAILABLE)
        await require_delivered(old, held)
        write_private(proxy, grid.proxy(tmp_path / "next", user=grid.mary).read_bytes())
        for child in (old, new):
            n_before = gsi.log.read_text(errors="replace").count(f"login as {grid.mary.subject}")
            await require_delivered(child, fresh(gsi))
            assert gsi.log.read_text(errors="replace").count(f"login as {grid.mary.subject}") == n_before + 1


@pytest.mark.usefixtures("other_account")
async def test_a_proxy_may_come_late_and_go(grid: Grid, gsi: SecuredServer, tmp_path: Path) -> None:
    proxy = tmp_path / "x509up"
    async with worker_child(tmp_path, x509_proxy_file=proxy) as child:
        await require_refused(child, fresh(gsi), "this server has no proxy")
        grid.proxy(proxy)
        await require_delivered(child, fresh(gsi))
        proxy.unlink()
        await require_refused(child, fresh(gsi), "this server has no proxy")


@pytest.mark.usefixtures("other_account")
async def test_a_mounted_secret_is_copied_for_the_client(
    grid: Grid, gsi: SecuredServer, tokens: tuple[SecuredServer, TokenIssuer], tmp_path: Path
) -> None:
    server, issuer = tokens
    proxy, token = grid.proxy(tmp_path / "x509up"), tmp_path / "token"
    token.write_text(issuer.sign())
    for mounted in (proxy, token):
        mounted.chmod(0o440)
    async with worker_child(
        tmp_path, x509_proxy_file=proxy, bearer_token_file=token, grid_hosts=HOSTS
    ) as child:
        await require_delivered(child, gsi.url("data.root"))
        await require_delivered(child, server.url("data.root"))
    copies = sorted((tmp_path / "data" / "grid" / "shown").iterdir())
    assert [(copy.name, copy.stat().st_mode & 0o777) for copy in copies] == [
        ("token", 0o600),
        ("x509up", 0o600),
    ]


@pytest.mark.usefixtures("other_account")
async def test_workers_read_with_the_token(tokens: tuple[SecuredServer, TokenIssuer], tmp_path: Path) -> None:
    server, issuer = tokens
    token = tmp_path / "token"
    write_private(token, issuer.sign().encode())
    async with worker_child(tmp_path, bearer_token_file=token, grid_hosts=HOSTS) as child:
        await require_delivered(child, server.url("data.root"))
        await require_delivered(child, server.https_url("data.root"))
        write_private(token, issuer.sign(life_s=-10).encode())
        words = "its bearer token EXPIRED, it was that of jane"
        await require_refused(child, fresh(server), words, Reason.UNAVAILABLE)
        await require_refused(child, server.https_url("data.root"), words, Reason.UNAVAILABLE)
        write_private(token, issuer.sign(scope="read:/elsewhere storage.read:/elsewhere").encode())
        await require_refused(child, fresh(server), "its bearer token is that of jane")
        write_private(token, issuer.sign().encode())
        await require_delivered(child, fresh(server))
        await require_delivered(child, server.https_url("data.root"))


@pytest.mark.usefixtures("other_account")
async def test_a_directory_is_listed_over_tls_with_the_token(
    grid: Grid, tokens: tuple[SecuredServer, TokenIssuer], tmp_path: Path
) -> None:
    server, issuer = tokens
    token = tmp_path / "token"
    write_private(token, issuer.sign().encode())
    access = GridAccess(cert_dir=grid.authority.cert_dir, token_file=token, hosts=HOSTS)
    did = parse_did(server.https_url("*.root"))

    async def find(allowed: GridAccess) -> list[str]:
        finder = WebFinder(SourcePolicy(allowed_private_hosts=HOSTS, grid=allowed))
        return [path async for batch in finder.find(did) for file in batch for path in file.paths]

    (path,) = await find(access)
    assert path.replace("store//", "store/") == server.https_url("data.root")
    with pytest.raises(FinderError, match="403"):
        await find(replace(access, token_file=None))
    with pytest.raises(FinderError, match="certificate"):
        await find(GridAccess())


_FIND = """
import asyncio, sys
from pathlib import Path
from servicex_server.did.finders.xrootd import XrootdFinder
from servicex_server.errors import FinderError
from servicex_server.grid.access import GridAccess
from servicex_server.model.did import parse_did
from servicex_server.source.policy import SourcePolicy

async def find(did, token, host):
    grid = GridAccess(token_file=Path(token), hosts=(host,))
    finder = XrootdFinder(SourcePolicy(allowed_private_hosts=("localhost",), grid=grid))
    try:
        print([path async for batch in finder.find(parse_did(did)) for file in batch for path in file.paths])
    except FinderError as error:
        print(error.message)

asyncio.run(find(*sys.argv[1:]))
"""


@pytest.mark.usefixtures("other_account")
def test_a_finder_shows_the_token_to_named_hosts_alone(
    tokens: tuple[SecuredServer, TokenIssuer], tmp_path: Path
) -> None:
    server, issuer = tokens
    token = tmp_path / "token"
    write_private(token, issuer.sign().encode())
    did = f"xrootd://{server.url('*.root')}"

    def find(host: str) -> str:
        # Each in a process of its own, where a variable names the token as it comes to a server.
        command = [sys.executable, "-c", _FIND, did, str(token), host]
        environment = os.environ | {"BEARER_TOKEN_FILE": str(token)}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout.strip()

    assert find("door.example.org").startswith("cannot list ")
    assert find("localhost") == str([server.url("data.root")])


@pytest.mark.usefixtures("other_account")
async def test_a_host_that_is_not_named_never_sees_the_token(
    grid: Grid, tokens: tuple[SecuredServer, TokenIssuer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, issuer = tokens
    token = tmp_path / "token"
    write_private(token, issuer.sign().encode())
    monkeypatch.setenv("SSL_CERT_FILE", str(grid.authority.ca_file))
    async with worker_child(tmp_path, bearer_token_file=token, grid_hosts=("door.example.org",)) as child:
        # Both servers would have let us in.
        await require_refused(child, server.url("data.root"), "its bearer token is not shown to localhost")
        await require_refused(child, server.https_url("data.root"), "403")
        # Nor can the URL tell the client what to show.
        for parameter in ("xrd.wantprot=ztn", "xrd.gsiusrpxy=/etc/passwd", "a=b&XRD%2Ek5ccname=/tmp/x"):
            await require_refused(child, f"{server.url('data.root')}?{parameter}", "are not allowed")


@pytest.mark.usefixtures("other_account")
def test_the_command_line_reads_with_its_callers_proxy(
    grid: Grid, gsi: SecuredServer, tmp_path: Path
) -> None:
    proxy = grid.proxy(tmp_path / "x509up")
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-m", "servicex_server", "transform"]
    command += [gsi.url("data.root"), gsi.https_url("data.root"), "--codegen", "uproot-raw"]
    command += ["--selection", SELECTION, "--output", str(tmp_path / "out")]
    environment = {**grid.authority.environment(), "SERVICEX_GRID_HOSTS": "localhost"}
    # The switch makes XRootD's own clients crash.
    for switch in ({}, {"XrdSecGSICREATEPROXY": "0"}):
        without = run_command(command, environment | switch)
        assert without.returncode == 1
        assert without.stderr.count("is there a valid proxy (X509_USER_PROXY) or token") == 2, without.stderr
    environment["X509_USER_PROXY"] = str(proxy)
    done = run_command(command, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2000 rows out") == 2


def run_command(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("other_account")
async def test_a_proxy_made_here_opens_storage_that_asks_for_no_vo(grid: Grid, tmp_path: Path) -> None:
    proxy = tmp_path / "x509up"
    write_private(proxy, PlainProxy(UserFiles(grid.jane.cert.parent), ProxyWish(life_s=3600)).make(None))
    with running_gsi_xrootd(grid.authority, grid.host, {"data.root": grid.file}, needs_vo=False) as server:
        async with worker_child(tmp_path, x509_proxy_file=proxy, grid_hosts=HOSTS) as child:
            await require_delivered(child, server.url("data.root"))
            await require_delivered(child, server.https_url("data.root"))
