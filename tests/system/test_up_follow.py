"""Following a request on a real server: over HTTP, by the command, through cuts and restarts."""

from __future__ import annotations

import io
import json
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import jsonschema
import msgspec
import pyarrow.parquet as pq
import pytest

from gated_files import GatedFiles
from server_process import ServerProcess
from servicex_server.model.provenance import Provenance
from sse import Sent, read, read_some

QUERY = '[{"treename": "Events", "filter_name": ["event", "nMuon"], "cut": "nMuon > 0"}]'
N_GOOD = 9


@pytest.fixture(scope="module")
def folder(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine files that can be read and one that cannot."""
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(N_GOOD):
        shutil.copy(samples / "nano_dy.root", folder / f"file_{number}.root")
    (folder / "file_9.root").write_bytes(b"this is no ROOT file")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("follow") / "data"
    flags = ("--local-root", str(folder), "--workers", "2")
    environment = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    with ServerProcess(data, flags=flags, environment=environment) as server:
        yield server


def submit(server: ServerProcess, files: list[str]) -> str:
    body = {
        "title": "followed",
        "file-list": files,
        "selection": QUERY,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }
    with server.client() as client:
        answer = client.post("/servicex/transformation", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def local(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.iterdir())]


@contextmanager
def command(
    server: ServerProcess, *arguments: str, cwd: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """The command in a folder with the server's servicex.yaml, as long as the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "servicex_server", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd or server.data_dir,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(server: ServerProcess, *arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    """Exit code and words of the command."""
    with command(server, *arguments, cwd=cwd) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def ids(events: list[Sent]) -> list[int]:
    return [event.id for event in events if event.id is not None]


def test_a_stream_tells_files_while_others_still_run(server: ServerProcess, folder: Path) -> None:
    with GatedFiles(folder, held=r"file_[5-8]\.root") as gated, server.client() as client:
        # The files are tried on the first one, which is not held.
        request_id = submit(server, [f"{gated.url}/{path.name}" for path in sorted(folder.iterdir())])
        live: list[Sent] = []
        for event in read(client, request_id):
            live.append(event)
            if event.name == "file":
                gated.open_gate()  # at least one file was told of before the held ones could end
    assert live[0].name == "state"
    files = [event for event in live if event.name == "file"]
    assert len({event.data["path"] for event in files}) == len(files) == N_GOOD + 1
    (bad,) = [event.data for event in files if event.data["state"] == "failed"]
    assert bad["path"].endswith("file_9.root")
    assert bad["reason"]
    assert live[-1].name == "end"
    assert (live[-1].data["delivered"], live[-1].data["failed"]) == (N_GOOD, 1)
    (last,) = [event.data for event in live if event.name == "progress"][-1:]
    assert last["input_mb_per_s"] > 0
    assert last["files_per_s"] > 0


def test_readers_that_are_cut_off_anywhere_hear_one_sequence(server: ServerProcess, folder: Path) -> None:
    dice = random.Random(7)
    request_id = submit(server, local(folder))
    with server.client() as client:
        heard: list[Sent] = []
        while not heard or heard[-1].name != "end":
            after = heard[-1].id if heard else None
            heard += read_some(client, request_id, after, dice.randint(1, 4))
        whole = list(read(client, request_id))
        assert ids(heard) == ids(whole)
        assert len(ids(whole)) == N_GOOD + 2
        url = f"/servicex/transformation/{request_id}"
        known = {"Last-Event-ID": str(ids(whole)[-1])}
        assert client.get(f"{url}/events", headers=known).status_code == 204
        # A retry goes on after the end.
        assert client.post(f"{url}/retry").status_code == 200
        rest = list(read(client, request_id, ids(whole)[-1]))
    assert [event.name for event in rest if event.id] == ["file", "end"]
    assert min(ids(rest)) > ids(whole)[-1]


def test_the_command_tells_the_outcome_and_the_reasons(server: ServerProcess, folder: Path) -> None:
    good = submit(server, local(folder)[:3])
    bad = submit(server, local(folder))
    code, out, err = run(server, "follow", good)
    assert code == 0, err
    assert out.splitlines()[-1].startswith("Complete: 3 of 3 files delivered, ")
    assert "\r" not in out
    code, out, err = run(server, "follow", bad)
    assert code == 1, err
    (reason,) = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert "file_9.root: " in reason
    assert out.splitlines()[-1] == f"try them again: servicex-server retry {bad}"
    code, _, err = run(server, "follow", "4711")
    assert code == 2
    assert "there is no request" in err


def test_failed_files_are_tried_again_by_a_command(
    server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    late = tmp_path / "inputs"
    shutil.copytree(folder, late)
    with GatedFiles(late) as files:
        request_id = submit(server, [f"{files.url}/file_8.root", f"{files.url}/file_9.root"])
        assert run(server, "follow", request_id)[0] == 1
        shutil.copy(folder / "file_0.root", late / "file_9.root")
        code, out, err = run(server, "retry", request_id)
        assert code == 0, err
        first, second = out.splitlines()
        assert first.endswith(f"{request_id} runs again for 1 files")
        told = second.removeprefix("follow it: servicex-server ").split()
        assert told == ["follow", request_id]
        code, out, err = run(server, *told)
        assert code == 0, err
        assert out.splitlines()[-1].startswith("Complete: 2 of 2 files delivered, ")
    code, _, err = run(server, "retry", request_id)
    assert code == 1
    assert "nothing to retry" in err
    flags = ("--url", "http://127.0.0.1:1", "--token-file", "token")
    code, _, err = run(server, "retry", request_id, *flags)
    assert code == 1
    assert f"see `servicex-server follow {request_id} {' '.join(flags)}`" in err


def test_the_command_goes_on_when_the_server_was_killed(folder: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    flags = ("--workers", "2", "--port", port)
    environment = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    server = ServerProcess(tmp_path / "data", flags=flags, environment=environment)
    with GatedFiles(folder, held=r"file_[4-8]\.root") as gated, ExitStack() as stack:
        with server:
            request_id = submit(server, [f"{gated.url}/{path.name}" for path in sorted(folder.iterdir())])
            follower = stack.enter_context(command(server, "follow", request_id, "--json"))
            assert follower.stdout is not None
            assert follower.stderr is not None
            events: list[dict[str, Any]] = []
            while not events or events[-1]["event"] != "file":
                events.append(json.loads(follower.stdout.readline()))
            server.kill()
        gated.open_gate()
        with server:
            # Not `communicate`, which would leave out what `readline` has read ahead.
            events += map(json.loads, follower.stdout)
            err = follower.stderr.read()
            follower.wait(timeout=60)
            with server.client() as client:
                whole = list(read(client, request_id))
    assert follower.returncode == 1, err
    assert "connecting again" in err
    assert [int(event["id"]) for event in events if event["id"]] == ids(whole)
    assert events[-1]["event"] == "end"


def test_a_server_with_open_streams_stops_at_once_and_in_order(folder: Path, tmp_path: Path) -> None:
    with GatedFiles(folder, held=r"file_[1-9]\.root") as gated:
        environment = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
        with ServerProcess(tmp_path / "data", environment=environment) as server:
            request_id = submit(server, [f"{gated.url}/{path.name}" for path in sorted(folder.iterdir())])
            with server.client() as client:
                events = read(client, request_id)
                assert next(events).name == "state"
                assert server.stop() == 0
                assert "end" not in {event.name for event in events}  # the stream ends whole, not its request
        assert "graceful" not in server.log.read_text()


def test_the_record_of_a_request_fits_its_schema_and_its_files(
    server: ServerProcess, folder: Path, tmp_path: Path
) -> None:
    request_id = submit(server, local(folder))
    server.wait_complete(request_id)
    shutil.copy(server.client_config, tmp_path / "servicex.yaml")
    code, _, err = run(server, "provenance", request_id, cwd=tmp_path)
    assert code == 0, err
    record = json.loads((tmp_path / f"{request_id}.provenance.json").read_text())
    jsonschema.validate(record, msgspec.json.schema(Provenance))
    assert [Path(file["replica_used"]).name for file in record["files"]] == [
        f"file_{number}.root" for number in range(N_GOOD + 1)
    ]
    good, bad = record["files"][0], record["files"][-1]
    assert good["entries_before"] > good["entries_after"] == good["cut_flow"][-1]["rows"] > 0
    assert (good["bytes_read"] == 0) is good["cache_hit"]
    assert record["totals"]["cut_flow"][-1]["rows"] == N_GOOD * good["entries_after"]
    assert (bad["outcome"], bad["object"], bad["failed_attempts"][0]["reason"]) == ("failed", None, "corrupt")
    with server.client() as client:
        status = client.get(f"/servicex/transformation/{request_id}").json()
    s3 = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    stored = s3.get_object(Bucket=request_id, Key=good["object"]["key"])
    assert stored["ETag"].strip('"') == good["object"]["etag"]
    content = stored["Body"].read()
    assert len(content) == good["object"]["size_bytes"]
    origin = json.loads(pq.read_metadata(io.BytesIO(content)).metadata[b"servicex.provenance"])
    assert origin == {"plan": record["query"]["plan_sha256"], "engine": record["versions"]["engine"]}
    text = json.dumps(record)
    assert status["minio-secret-key"] not in text
    assert server.token not in text
