"""A real Rucio server, and storage that demands a VOMS proxy: data sets by name, through our server."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot

from grid_pki import TestAuthority, fake_voms_proxy, require_voms
from rucio_server import PASSWORD, USERNAME, CatalogueFile, Content, RucioServer, require_rucio, running_rucio
from secured_xrootd import SecuredServer, require_secured_xrootd, running_gsi_xrootd
from server_process import ServerProcess
from servicex_server.did.finders.rucio import RucioFinder
from servicex_server.did.rucio.login import LoginKind, RucioAccess
from servicex_server.errors import FinderError
from servicex_server.grid.access import GridAccess
from servicex_server.model.did import FoundFile, parse_did

pytestmark = pytest.mark.rucio

N_FILES = 8
QUERY = [{"treename": "tree", "expressions": ["x"]}]


@dataclass(frozen=True, slots=True)
class Setting:
    """What runs: a catalogue and its storage, and the proxy that both demand."""

    rucio: RucioServer
    storage: SecuredServer
    proxy: Path
    authority: TestAuthority
    values: dict[str, Any]

    def access(self, kind: LoginKind, password: str = PASSWORD) -> RucioAccess:
        return RucioAccess(
            self.rucio.url,
            self.rucio.url,
            kind,
            "root",
            USERNAME,
            password,
            GridAccess(proxy_file=self.proxy, cert_dir=self.authority.cert_dir),
            self.rucio.ca_file,
        )


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    require_rucio()
    require_secured_xrootd()
    require_voms()
    folder = tmp_path_factory.mktemp("rucio")
    authority = TestAuthority(folder / "ca")
    host, jane = authority.issue("localhost", hosts=("localhost",)), authority.issue("Jane Analyst")
    voms = authority.found_vo()
    fake_voms_proxy(authority, jane, voms, folder / "x509up")
    values: dict[str, Any] = {}
    paths = {}
    for number in range(N_FILES):
        path = paths[f"f{number}.root"] = folder / f"f{number}.root"
        values[path.name] = np.random.default_rng(number).random(5_000)
        with uproot.recreate(path) as file:
            file.mktree("tree", {"x": values[path.name]})
    with running_gsi_xrootd(authority, host, paths) as storage:
        names = list(paths)
        files = [
            CatalogueFile(
                name,
                path.stat().st_size,
                f"{zlib.adler32(path.read_bytes()):08x}",
                5_000,
                storage.url(name),
            )
            for name, path in paths.items()
        ]
        content = Content(
            [*files, CatalogueFile("lost.root")],
            {"first": names[:4], "second": names[4:], "empty": [], "holed": [names[0], "lost.root"]},
            {"inner": ["second"], "outer": ["first", "second"], "all": ["outer", "inner"]},
            port=storage.port,
        )
        with running_rucio(folder / "server", authority, host, jane, content) as rucio:
            yield Setting(rucio, storage, folder / "x509up", authority, values)


@pytest.fixture(scope="module")
def server(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """`up` with the proxy for both, as its administrator would set it up."""
    environment = {
        "SERVICEX_RUCIO_HOST": setting.rucio.url,
        "SERVICEX_RUCIO_ACCOUNT": "root",
        "SERVICEX_RUCIO_CA_FILE": str(setting.rucio.ca_file),
        "SERVICEX_X509_PROXY_FILE": str(setting.proxy),
        "SERVICEX_X509_CERT_DIR": str(setting.authority.cert_dir),
        "SERVICEX_ALLOWED_PRIVATE_HOSTS": "localhost",
    }
    folder = tmp_path_factory.mktemp("servicex")
    with ServerProcess(folder / "data", ("--workers", "1"), environment) as process:
        yield process


async def find(finder: RucioFinder, text: str) -> list[FoundFile]:
    batches: AsyncIterator[Any] = finder.find(parse_did(text))
    return sorted([file async for batch in batches for file in batch], key=lambda file: file.paths)


@pytest.mark.parametrize("kind", [LoginKind.USERPASS, LoginKind.X509_PROXY])
async def test_data_sets_containers_and_files(setting: Setting, kind: LoginKind) -> None:
    finder = RucioFinder(setting.access(kind))
    for name, wanted in {"first": 4, "all": 8, "inner": 4, "empty": 0, "f3.root": 1}.items():
        assert len(await find(finder, f"rucio://test:{name}")) == wanted, name
    (file,) = await find(finder, "rucio://test:f3.root")
    source = setting.storage.folder / "f3.root"
    assert file.size_bytes == source.stat().st_size
    assert file.adler32 == f"{zlib.adler32(source.read_bytes()):08x}"
    assert file.n_events == 5_000
    assert [Path(path).name for path in file.paths] == ["f3.root"]


async def test_files_without_replicas(setting: Setting) -> None:
    finder = RucioFinder(setting.access(LoginKind.USERPASS))
    with pytest.raises(FinderError, match=r"test:lost\.root"):
        await find(finder, "rucio://test:holed")
    assert len(await find(finder, "rucio://test:holed?get=available")) == 1


async def test_a_wrong_password(setting: Setting) -> None:
    finder = RucioFinder(setting.access(LoginKind.USERPASS, "wrong-password"))
    with pytest.raises(FinderError, match="does not let this server in") as caught:
        await find(finder, "rucio://test:first")
    assert "wrong-password" not in str(caught.value)


def submit(server: ServerProcess, did: str) -> dict[str, Any]:
    body = {
        "did": did,
        "selection": json.dumps(QUERY),
        "codegen": "uproot-raw",
        "result-format": "parquet",
        "result-destination": "object-store",
    }
    with server.client() as client:
        answer = client.post("/servicex/transformation", json=body)
        assert answer.status_code == 200, answer.text
    return server.wait_finished(str(answer.json()["request_id"]))


def paths_of(server: ServerProcess, status: dict[str, Any]) -> list[Any]:
    with server.client() as client:
        return sorted(
            file["paths"] for file in client.get(f"/servicex/datasets/{status['did_id']}").json()["files"]
        )


def test_the_same_three_files_each_time(server: ServerProcess) -> None:
    taken = []
    for lookup in ("cached", "cached", "refresh"):
        status = submit(server, f"rucio://test:all?files=3&lookup={lookup}")
        assert (status["status"], status["files-completed"]) == ("Complete", 3), status
        taken.append(paths_of(server, status))
    assert taken[0] == taken[1] == taken[2]


@pytest.mark.parametrize(
    ("did", "words"),
    [
        ("test:nothing", "does not exist"),
        ("nowhere:nothing", "does not exist"),
        ("test:holed", "could not be looked up"),
    ],
)
def test_what_cannot_be_found(server: ServerProcess, did: str, words: str) -> None:
    status = submit(server, f"rucio://{did}")
    assert status["status"] == "Bad Dataset"
    assert words in status["title"]
    assert did.partition(":")[2] in status["title"]


def test_the_client_gets_the_values(
    server: ServerProcess, setting: Setting, start_client33: Callable[..., Any]
) -> None:
    wanted = {"first": "test:first", "all": "test:all", "one": "test:f5.root"}
    samples = [
        {"name": name, "dataset": ["Rucio", did], "n_files": None, "kind": "uproot-raw", "query": QUERY}
        for name, did in wanted.items()
    ]
    delivery = {"format": "parquet", "delivery": "LocalCache", "samples": samples}
    ran = start_client33(server.client_config, [[delivery]]).wait()
    (answer,) = ran.answer[0]
    assert "raised" not in answer, answer
    for name, numbers in {"first": range(4), "all": range(N_FILES), "one": [5]}.items():
        got = np.concatenate([np.asarray(ak.from_parquet(path)["x"]) for path in answer["delivered"][name]])
        expected = np.concatenate([setting.values[f"f{number}.root"] for number in numbers])
        assert np.array_equal(np.sort(got), np.sort(expected)), name
