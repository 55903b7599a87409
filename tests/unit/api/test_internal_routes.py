"""What finders and sidecars are told when they report: paths, bodies and answers of the official server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge import RESULT, Edge, open_edge
from scripted_finder import RecordingRemote
from servicex_server.api.internal import build_internal_app
from servicex_server.errors import DatabaseUnavailable
from servicex_server.service.sidecar import SidecarReports

BASE = "/servicex/internal/transformation"
SUMMARY = {"files-skipped": 0, "total-events": 0, "total-bytes": 0, "elapsed-time": 1}


@dataclass
class Inside:
    """A server and its internal port.

    Attributes:
        http: speaks to that port.
        remote: what finders are asked.
    """

    edge: Edge
    http: httpx.AsyncClient
    remote: RecordingRemote

    async def submit(self, did: str = "rucio://mc:x") -> tuple[str, int]:
        """A request that waits for its look-up, and its data set."""
        body = self.edge.submission(did=did)
        del body["file-list"]
        answer = await self.edge.http().post("/servicex/transformation", json=body)
        assert answer.status_code == 200, answer.text
        _, dataset_id = await self.remote.asked.get()
        return answer.json()["request_id"], dataset_id

    async def status(self, request_id: str) -> dict[str, Any]:
        answer = await self.edge.http().get(f"/servicex/transformation/{request_id}")
        status: dict[str, Any] = answer.json()
        return status


def entry(name: str, **changes: object) -> dict[str, object]:
    """A file as the library sends it."""
    known = {
        "timestamp": "2026-05-15T12:00:00.123456",
        "paths": [f"root://eos.example//{name}.root"],
        "adler32": 0,
        "file_size": 0,
        "file_events": 0,
    }
    return known | changes


@asynccontextmanager
async def opened(folder: Path, blank: Path, **internal: Any) -> AsyncIterator[Inside]:
    remote = RecordingRemote()
    async with open_edge(folder, blank, hold_s=0.0, remote_finders=remote) as edge:
        reports = SidecarReports(edge.services)
        recording = asyncio.ensure_future(reports.run())
        transport = httpx.ASGITransport(build_internal_app(edge.services, reports, **internal))
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as http:
            try:
                yield Inside(edge, http, remote)
            finally:
                recording.cancel()
                await asyncio.gather(recording, return_exceptions=True)


@pytest.fixture
async def inside(tmp_path: Path, blank_database: Path) -> AsyncIterator[Inside]:
    async with opened(tmp_path, blank_database) as it:
        yield it


async def test_a_finder_tells_files_and_the_end(inside: Inside) -> None:
    request_id, dataset_id = await inside.submit()
    many = [entry(f"f{number}") for number in range(5)]
    answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=many)
    assert (answer.status_code, answer.json()) == (200, {"dataset_id": str(dataset_id)})
    # A sign of life.
    assert (await inside.http.put(f"{BASE}/{dataset_id}/files", json=[])).status_code == 200
    # Early ones send a single file, and rucio's checksums are text.
    answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=entry("one", adler32="0a1b2c3d"))
    assert answer.status_code == 200
    assert (await inside.status(request_id))["status"] == "Lookup"
    answer = await inside.http.put(f"{BASE}/{dataset_id}/complete", json={"files": 6, **SUMMARY})
    assert (answer.status_code, answer.json()) == (200, None)
    status = await inside.status(request_id)
    assert (status["status"], status["files"]) == ("Running", 6)
    shown = (await inside.edge.http().get(f"/servicex/datasets/{dataset_id}")).json()
    assert (shown["lookup_status"], shown["n_files"], shown["did_finder"]) == ("complete", 6, "rucio")
    assert [file["adler32"] for file in shown["files"]] == ["0"] * 5 + ["0a1b2c3d"]


@pytest.mark.parametrize("kind", ["does_not_exist", "bad_name", "internal_failure", "something_new"])
async def test_a_finder_gives_up(inside: Inside, kind: str) -> None:
    request_id, dataset_id = await inside.submit()
    error = {"elapsed-time": 1, "message": "it is [gone]", "error-type": kind}
    answer = await inside.http.put(f"{BASE}/{dataset_id}/error", json=error)
    assert answer.status_code == 200
    status = await inside.status(request_id)
    assert status["status"] == "Bad Dataset"
    assert "it is (gone)" in status["title"]
    shown = (await inside.edge.http().get(f"/servicex/datasets/{dataset_id}")).json()
    assert shown["lookup_status"] == ("internal_failure" if kind == "something_new" else kind)
    assert shown["is_stale"] is True
    fresh = (await inside.edge.http().get("/servicex/datasets?did-finder=rucio")).json()["datasets"]
    stale = (await inside.edge.http().get("/servicex/datasets?show-deleted=true")).json()["datasets"]
    assert (fresh, [each["id"] for each in stale]) == ([], [dataset_id])


@pytest.mark.parametrize("what", ["files", "complete", "error"])
async def test_unknown_data_sets_are_told(inside: Inside, what: str) -> None:
    body: Any = [entry("a")] if what == "files" else {}
    for number in ("99", "0", "x", "9" * 30):
        answer = await inside.http.put(f"{BASE}/{number}/{what}", json=body)
        assert answer.status_code == 422
        assert "no data set" in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[[]]",
        b"\xff",
        b'[{"paths": []}]',
        b'[{"paths": [""]}]',
        b'[{"paths": ["a\\u0000b"]}]',
        b'[{"paths": ["a"], "file_size": -1}]',
        json.dumps([{"paths": ["x" * 5000]}]).encode(),
        json.dumps([{"paths": ["a"] * 1001}]).encode(),
    ],
)
async def test_an_answer_that_cannot_be_read_ends_the_look_up(inside: Inside, body: bytes) -> None:
    request_id, dataset_id = await inside.submit()
    answer = await inside.http.put(f"{BASE}/{dataset_id}/files", content=body)
    assert answer.status_code == 400
    status = await inside.status(request_id)
    assert status["status"] == "Bad Dataset"
    assert "the finder's answer cannot be read" in status["title"]


async def test_numbers_come_in_many_forms(inside: Inside) -> None:
    _, dataset_id = await inside.submit()
    odd = [
        entry("a", file_size="12", file_events=None, adler32=None),
        entry("b", file_size=12.0, adler32=4711),
        {"paths": ["root://h//c"], "further": 1},
    ]
    answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=odd)
    assert answer.status_code == 200, answer.text
    shown = (await inside.edge.http().get(f"/servicex/datasets/{dataset_id}")).json()
    assert [file["file_size"] for file in shown["files"]] == [12, 12, 0]
    assert [file["adler32"] for file in shown["files"]] == [None, "4711", None]


async def test_bodies_are_bounded(tmp_path: Path, blank_database: Path) -> None:
    async with opened(tmp_path, blank_database, max_body_bytes=2000) as inside:
        _, dataset_id = await inside.submit()
        many = [entry(f"f{number}") for number in range(50)]
        answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=many)
        assert answer.status_code == 413


async def test_other_paths_and_methods_are_told(inside: Inside) -> None:
    assert (await inside.http.get("/servicex")).status_code == 404
    assert (await inside.http.post(f"{BASE}/1/files")).status_code == 405
    assert (await inside.http.get("/healthz")).text == "ok\n"


async def test_the_public_port_has_no_internal_routes(inside: Inside) -> None:
    _, dataset_id = await inside.submit()
    answer = await inside.edge.http().put(f"{BASE}/{dataset_id}/complete", json={})
    assert answer.status_code in {404, 405}


async def test_an_absent_database_is_waited_for(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    _, dataset_id = await inside.submit()
    write, calls = inside.edge.services.db.write, 0

    async def fail_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise DatabaseUnavailable
        return await write(*args, **kwargs)

    monkeypatch.setattr(inside.edge.services.db, "write", fail_once)
    answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=[entry("a")])
    assert (answer.status_code, calls >= 2) == (200, True)


async def test_no_caller_waits_for_ever(
    tmp_path: Path, blank_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, blank_database, patience_s=0.0) as inside:
        _, dataset_id = await inside.submit()

        async def fail(*_args: Any, **_kwargs: Any) -> Any:
            raise DatabaseUnavailable

        monkeypatch.setattr(inside.edge.services.db, "write", fail)
        answer = await inside.http.put(f"{BASE}/{dataset_id}/files", json=[entry("a")])
        assert answer.status_code == 503


# Sidecars


async def running(inside: Inside, n_files: int = 2) -> tuple[str, list[int]]:
    """A request whose files nobody of ours works on, and their ids."""
    request_id, dataset_id = await inside.submit()
    await inside.http.put(
        f"{BASE}/{dataset_id}/files", json=[entry(f"f{number}") for number in range(n_files)]
    )
    await inside.http.put(f"{BASE}/{dataset_id}/complete", json={"files": n_files, **SUMMARY})
    shown = (await inside.edge.http().get(f"/servicex/datasets/{dataset_id}")).json()
    return request_id, [file["id"] for file in shown["files"]]


def told(file_id: int, name: str, **changes: object) -> dict[str, object]:
    """What a sidecar reports of a file."""
    path = f"root://eos.example//{name}.root"
    known = {
        "requestId": "ignored",
        "file-path": path,
        "file-id": file_id,
        "status": "success",
        "total-time": 1.5,
        "total-events": 100,
        "total-bytes": 4711,
        "avg-rate": 66.6,
        "place": {"host_name": "node", "site": None},
    }
    return known | changes


def store(inside: Inside, request_id: str, name: str) -> None:
    """The object that a sidecar puts into the bucket before it reports."""
    made = inside.edge.store.scratch_folder() / "made"
    made.write_bytes(RESULT)
    inside.edge.store.put_file(f"{request_id}/{name}", made)


async def test_a_sidecar_tells_outcomes(inside: Inside) -> None:
    request_id, ids = await running(inside)
    store(inside, request_id, "root:::eos.example::f0.root.parquet")
    url = f"{BASE}/{request_id}/file-complete"
    reports = [
        told(ids[0], "f0", **{"s3-object-name": "root:::eos.example::f0.root.parquet"}),
        told(ids[1], "f1", status="failure", **{"s3-object-name": "none"}),
    ]
    for body in reports * 2:
        answer = await inside.http.put(url, json=body)
        assert (answer.status_code, answer.json()) == (200, "Ok")
    status = await inside.status(request_id)
    assert (status["status"], status["files-completed"], status["files-failed"]) == ("Complete", 1, 1)
    results = await inside.edge.http().get(f"/servicex/transformation/{request_id}/results")
    good = [each for each in results.json()["results"] if each["transform_status"] == "success"]
    assert [each["total-bytes"] for each in good] == [len(RESULT)], "as the store says"


async def test_a_result_that_was_never_stored_is_a_failure(inside: Inside) -> None:
    request_id, ids = await running(inside, 1)
    answer = await inside.http.put(f"{BASE}/{request_id}/file-complete", json=told(ids[0], "f0"))
    assert answer.status_code == 200
    status = await inside.status(request_id)
    assert (status["status"], status["files-failed"]) == ("Complete", 1)


async def test_many_sidecars_report_at_once(inside: Inside) -> None:
    request_id, ids = await running(inside, 300)
    answers = await asyncio.gather(
        *(
            inside.http.put(f"{BASE}/{request_id}/file-complete", json=told(id_, "f", status="failure"))
            for id_ in ids
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert (await inside.status(request_id))["files-failed"] == 300


async def test_sidecars_of_unknown_requests_are_told(inside: Inside) -> None:
    for request_id in ("9b2f2f38-0000-0000-0000-000000000000", "x"):
        answer = await inside.http.put(f"{BASE}/{request_id}/file-complete", json=told(1, "f"))
        assert answer.status_code == 404
        assert "Request not found" in answer.json()["message"]


async def test_a_fatal_status_ends_the_request(inside: Inside) -> None:
    request_id, _ = await running(inside)
    url = f"{BASE}/{request_id}/status"
    for body in ({"info": "x"}, {"source": "x"}):
        assert (await inside.http.post(url, json=body)).status_code == 400
    note = {"timestamp": "2026-01-01T00:00:00", "source": "transformer", "info": "about to start"}
    assert (await inside.http.post(url, json=note)).status_code == 200
    assert (await inside.status(request_id))["status"] == "Running"
    fatal = {**note, "info": "it burns", "severity": "fatal"}
    assert (await inside.http.post(url, json=fatal)).status_code == 200
    status = await inside.status(request_id)
    assert (status["status"], status["failure-info"]) == ("Fatal", "it burns")
