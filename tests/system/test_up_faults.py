"""The server as a process tree: starting, stopping, and being killed anywhere in the middle of 20 files."""

from __future__ import annotations

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import boto3
import botocore.config
import pyarrow.parquet as pq
import pytest
import uproot

from gated_files import GatedFiles
from server_process import ServerProcess

QUERY = '[{"treename": "Events", "filter_name": ["event", "nMuon"]}]'


def processes(mark: str) -> dict[int, tuple[int, str]]:
    """Pid -> (parent, command line) of every live process that inherited `mark` in its environment."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark.encode() not in (entry / "environ").read_bytes():
                continue
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue
        if fields[0] != "Z":
            found[int(entry.name)] = (int(fields[1]), command)
    return found


def wait_until(condition: object, what: str, timeout_s: float = 60) -> None:
    """Polls an outside process, which cannot notify us."""
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def submit(server: ServerProcess, files: list[str], selection: str = QUERY) -> str:
    body = {
        "title": "faults",
        "file-list": files,
        "selection": selection,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }
    with server.client() as client:
        answer = client.post("/servicex/transformation", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def delivered_events(server: ServerProcess, status: dict[str, object]) -> dict[str, list[int]]:
    """Object name -> the event numbers in it, read through the S3 endpoint with the request's own keys."""
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{status['minio-endpoint']}",
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    bucket = status["request_id"]
    listed = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    read = {}
    for entry in listed:
        body = s3.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        assert len(body) == entry["Size"]
        read[entry["Key"]] = pq.read_table(io.BytesIO(body))["event"].to_pylist()
    return read


@pytest.fixture
def mark() -> Iterator[str]:
    text = f"mark-{uuid.uuid4()}"
    yield text
    for pid in processes(text):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def twenty(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twenty")
    for n in range(20):
        shutil.copy(samples / "nano_dy.root", folder / f"file_{n:02}.root")
    return folder


@pytest.fixture(scope="module")
def expected(twenty: Path) -> list[int]:
    events = uproot.open(twenty / "file_00.root")["Events"]["event"].array()
    return [int(event) for event in ak.to_list(events)]


def start(data_dir: Path, mark: str, *, roots: Path | None = None) -> ServerProcess:
    environment = {"TEST_MARK": mark, "SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    flags = ("--workers", "2", *(("--local-root", str(roots)) if roots else ()))
    return ServerProcess(data_dir, flags, environment)


def check_each_file_once(server: ServerProcess, request_id: str, expected: list[int]) -> None:
    status = server.wait_finished(request_id)
    assert (status["status"], status["files"], status["files-completed"], status["files-failed"]) == (
        "Complete",
        20,
        20,
        0,
    )
    with server.client() as client:
        results = client.get(f"/servicex/transformation/{request_id}/results").json()["results"]
    assert len(results) == 20
    assert {result["transform_status"] for result in results} == {"success"}
    read = delivered_events(server, status)
    assert set(read) == {result["s3-object-name"] for result in results}
    assert len(read) == 20
    assert all(events == expected for events in read.values())


def test_up_starts_tells_where_it_is_and_stops_on_ctrl_c(tmp_path: Path, mark: str) -> None:
    with start(tmp_path / "data", mark) as server:
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
            wait_until(lambda: client.get("/readyz").status_code == 200, "never ready")
        assert stat.S_IMODE(server.client_config.stat().st_mode) == 0o600
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        token = server.token
        assert server.stop() == 0
        assert processes(mark) == {}
        log = server.log.read_text()
        assert "Traceback" not in log
        assert token not in log


def test_token_stays_the_same_over_restarts(tmp_path: Path, mark: str) -> None:
    with start(tmp_path / "data", mark) as server:
        first = server.token
    with start(tmp_path / "data", mark) as server:
        assert server.token == first
        with server.client() as client:
            assert client.get("/servicex/transformation").status_code == 200


def test_second_server_on_the_same_folder_is_refused(tmp_path: Path, mark: str) -> None:
    with start(tmp_path / "data", mark) as server:
        second = subprocess.run(
            [
                sys.executable,
                "-m",
                "servicex_server",
                "up",
                "--data-dir",
                str(server.data_dir),
                "--port",
                "0",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert "already runs" in second.stderr
        assert server.url in second.stderr


def test_port_in_use_is_named(tmp_path: Path, mark: str) -> None:
    with start(tmp_path / "data", mark) as server:
        port = server.url.rpartition(":")[2]
        second = subprocess.run(
            [
                *(sys.executable, "-m", "servicex_server", "up", "--port", port),
                *("--data-dir", str(tmp_path / "other")),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 1
        assert port in second.stderr
        assert "--port" in second.stderr


@pytest.mark.parametrize("victim", ["worker child", "worker parent", "server"])
def test_kill_in_the_middle_of_twenty_files(
    victim: str, tmp_path: Path, mark: str, twenty: Path, expected: list[int]
) -> None:
    with GatedFiles(twenty, held=r"file_(0[5-9]|1.)\.root") as files:
        inputs = [f"{files.url}/file_{n:02}.root" for n in range(20)]
        with start(tmp_path / "data", mark) as server:
            request_id = submit(server, inputs)
            files.wait_for_readers(2)
            assert server.process is not None
            if victim == "server":
                server.kill()
                wait_until(lambda: processes(mark) == {}, "workers outlived their server")
            else:
                os.kill(find(victim, mark, server.process.pid), signal.SIGKILL)
            files.open_gate()
            if victim != "server":
                check_each_file_once(server, request_id, expected)
        if victim == "server":
            with start(tmp_path / "data", mark) as server:
                check_each_file_once(server, request_id, expected)


def find(victim: str, mark: str, server: int) -> int:
    """Pid of the worker parent (a child of the server) or of a transforming child (a leaf below it)."""
    alive = processes(mark)
    parent = next(pid for pid, (ppid, _) in alive.items() if ppid == server)
    if victim == "worker parent":
        return parent
    below = {parent}
    for _ in alive:
        below |= {pid for pid, (ppid, _) in alive.items() if ppid in below}
    parents = {ppid for ppid, _ in alive.values()}
    return max(pid for pid in below if pid not in parents and "resource_tracker" not in alive[pid][1])


def test_ctrl_c_in_the_middle_keeps_the_request_for_the_next_start(
    tmp_path: Path, mark: str, twenty: Path, expected: list[int]
) -> None:
    with GatedFiles(twenty, held=r"file_(0[5-9]|1.)\.root") as files:
        with start(tmp_path / "data", mark) as server:
            request_id = submit(server, [f"{files.url}/file_{n:02}.root" for n in range(20)])
            files.wait_for_readers(2)
            assert server.stop() == 0
            assert processes(mark) == {}
        files.open_gate()
        with start(tmp_path / "data", mark) as server:
            check_each_file_once(server, request_id, expected)
