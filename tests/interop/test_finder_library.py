"""The library of the official DID finders, 3.2.0, unmodified, finds files for our server over RabbitMQ."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from finder_library import require_finder_library, running_finder
from opendata_portal import listed, record, running_portal
from rabbitmq_server import RabbitServer, free_ports, require_rabbitmq, running_rabbitmq
from server_process import ServerProcess
from xrootd_server import XrootdServer, require_xrootd, running_xrootd

QUERY = '[{"treename": "Events", "filter_name": ["MET_pt"]}]'
N_FILES = 4


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    require_rabbitmq()
    require_finder_library()
    with running_rabbitmq() as server:
        yield server


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(N_FILES):
        shutil.copy(samples / "nano_dy.root", folder / f"f{number:05d}.root")
    return folder


@pytest.fixture(scope="module")
def storage(inputs: Path) -> Iterator[XrootdServer]:
    require_xrootd()
    with running_xrootd({path.name: path for path in inputs.iterdir()}) as server:
        yield server


@pytest.fixture(scope="module")
def server(
    broker: RabbitServer, storage: XrootdServer, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """`up` with a finder of the library for rucio, and finders of its own for the other schemes."""
    folder = tmp_path_factory.mktemp("server")
    (internal,) = free_ports(1)
    uris = [storage.url(f"f{number:05d}.root") for number in range(N_FILES)]
    pages = {"/api/records/1507": record(1507, [listed(uri) for uri in uris])}
    with running_portal(pages) as portal, running_finder(broker.url, folder, files=inputs):
        environment = {
            "SERVICEX_BROKER_FINDERS": "rucio",
            "SERVICEX_FINDER_BROKER_URL": broker.url,
            "SERVICEX_INTERNAL_PORT": str(internal),
            "SERVICEX_CERNOPENDATA_URL": portal,
            "SERVICEX_ALLOWED_PRIVATE_HOSTS": "localhost",
            "SERVICEX_LOCAL_ROOTS": str(inputs),
        }
        with ServerProcess(folder / "data", ("--workers", "1"), environment) as process:
            yield process


def submit(server: ServerProcess, did: str) -> str:
    with server.client() as client:
        answer = client.post(
            "/servicex/transformation",
            json={
                "did": did,
                "selection": QUERY,
                "codegen": "uproot-raw",
                "result-format": "parquet",
                "result-destination": "object-store",
            },
        )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def until(server: ServerProcess, request_id: str, *states: str) -> dict[str, Any]:
    """The status of the request once it is in one of these states."""
    end = time.monotonic() + 60
    with server.client() as client:
        while time.monotonic() < end:
            answer = client.get(f"/servicex/transformation/{request_id}")
            if answer.status_code == httpx.codes.OK and answer.json()["status"] in states:
                status: dict[str, Any] = answer.json()
                return status
    message = f"{request_id} is not {states}: {answer.text}"
    raise AssertionError(message)


def dataset(server: ServerProcess, status: dict[str, Any]) -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.get(f"/servicex/datasets/{status['did_id']}").json()
        return found


def test_a_small_data_set(server: ServerProcess) -> None:
    status = until(server, submit(server, f"rucio://good:{N_FILES}"), "Complete")
    assert (status["files"], status["files-completed"]) == (N_FILES, N_FILES)
    known = dataset(server, status)
    assert (known["lookup_status"], known["did_finder"]) == ("complete", "rucio")
    assert {file["adler32"] for file in known["files"]} == {"0a1b2c3d"}


def test_the_first_files_are_those_of_the_cached_look_up(server: ServerProcess) -> None:
    of_the_finder = until(server, submit(server, "good:4?files=2"), "Complete")
    until(server, submit(server, "rucio://good:4"), "Complete")
    with server.client() as client:
        client.delete(f"/servicex/datasets/{of_the_finder['did_id']}")
    of_the_cache = until(server, submit(server, "good:4?files=2"), "Complete")
    taken = [
        sorted(file["paths"] for file in dataset(server, status)["files"])
        for status in (of_the_finder, of_the_cache)
    ]
    assert of_the_finder["did_id"] != of_the_cache["did_id"]
    assert [Path(path).name for path in taken[0]] == ["f00000.root", "f00001.root"]
    assert taken[0] == taken[1]


def test_a_large_data_set(server: ServerProcess) -> None:
    request_id = submit(server, "rucio://good:5000")
    status = until(server, request_id, "Running", "Complete")
    assert status["files"] == 5000
    with server.client() as client:
        assert client.get(f"/servicex/transformation/{request_id}/cancel").status_code == 200


@pytest.mark.parametrize(
    ("did", "kind", "words"),
    [
        ("missing:x", "does_not_exist", "the catalogue has no missing:x"),
        ("odd:x", "bad_name", "odd:x has no scope"),
        ("broken:x", "internal_failure", "the catalogue is shut"),
        ("half:4", "internal_failure", "the catalogue was shut meanwhile"),
    ],
)
def test_failures(server: ServerProcess, did: str, kind: str, words: str) -> None:
    status = until(server, submit(server, f"rucio://{did}"), "Bad Dataset")
    assert words in status["title"]
    assert dataset(server, status)["lookup_status"] == kind


def test_an_empty_data_set(server: ServerProcess) -> None:
    assert until(server, submit(server, "rucio://empty:x"), "Complete")["files"] == 0


def test_the_client_asks_for_data_sets_by_name(
    server: ServerProcess, storage: XrootdServer, start_client33: Callable[..., Any]
) -> None:
    pattern = storage.url("f0000*.root")
    query = [{"treename": "Events", "filter_name": ["MET_pt"]}]
    sources = {
        "rucio": ["Rucio", "good:4"],
        "xrootd": ["XRootD", pattern],
        "opendata": ["CERNOpenData", 1507],
    }
    sources["missing"] = ["Rucio", "missing:x"]
    # Not in one delivery: the client takes samples that differ by their number of files for the same one.
    deliveries = [
        {
            "format": "parquet",
            "delivery": "LocalCache",
            "samples": [
                {"name": name, "dataset": source, "n_files": n_files, "kind": "uproot-raw", "query": query}
                for name, source in sources.items()
            ],
        }
        for n_files in (None, 3)
    ]
    ran = start_client33(server.client_config, [deliveries]).wait()
    for answer, n_files in zip(ran.answer[0], (N_FILES, 3), strict=True):
        assert "raised" not in answer, answer
        counts = {name: len(files) for name, files in answer["delivered"].items()}
        assert counts == {"rucio": n_files, "xrootd": n_files, "opendata": n_files}
        assert "missing" in answer["errors"]
