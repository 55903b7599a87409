"""Results that a running server keeps for the next request: over restarts, users and deletions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest

from server_process import ServerProcess

QUERY = '[{"treename": "Events", "filter_name": ["event", "nMuon"]}]'
LONG_AGO_S = 1_700_000_000.0


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(3):
        shutil.copy(samples / "nano_dy.root", folder / f"{number}.root")
        os.utime(folder / f"{number}.root", (LONG_AGO_S, LONG_AGO_S))
    return folder


def deliver(
    server: ServerProcess, files: list[Path], token: str | None = None, *, uses_cache: bool = True
) -> dict[str, Any]:
    """The status of a new request, once it is complete."""
    body = {
        "file-list": [str(file) for file in files],
        "selection": QUERY,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
        "use-result-cache": uses_cache,
    }
    with server.client(token) as client:
        answer = client.post("/servicex/transformation", json=body)
    assert answer.status_code == 200, answer.text
    return server.wait_complete(answer.json()["request_id"], token)


def download(status: dict[str, Any]) -> dict[str, bytes]:
    """What lies in the request's bucket."""
    s3 = boto3.client(
        "s3",
        endpoint_url=f"http://{status['minio-endpoint']}",
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        region_name="us-east-1",
        config=botocore.config.Config(s3={"addressing_style": "path"}),
    )
    bucket = status["request_id"]
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def make_user(server: ServerProcess, name: str) -> str:
    command = [sys.executable, "-m", "servicex_server", "token", "create", name]
    made = subprocess.run(
        [*command, "--data-dir", str(server.data_dir)], capture_output=True, text=True, check=True, timeout=60
    )
    return made.stdout.strip()


def test_a_result_is_made_once_and_lives_as_long_as_anybody_has_it(tmp_path: Path, inputs: Path) -> None:
    files = sorted(inputs.iterdir())
    server = ServerProcess(tmp_path / "data", ("--workers", "1", "--local-root", str(inputs)))
    with server:
        first = deliver(server, files[:2])
        assert (first["files-completed"], first["files-cached"]) == (2, 0)
        content = download(first)
        assert len(content) == 2
    with server:
        bob = make_user(server, "bob")
        second = deliver(server, files, token=bob)
        assert (second["files-completed"], second["files-cached"]) == (3, 2)
        own = deliver(server, files[:1], uses_cache=False)
        assert own["files-cached"] == 0
        with server.client() as client:
            for status in (first, own):
                assert client.delete(f"/servicex/transformation/{status['request_id']}").status_code == 200
        kept = download(second)
        assert {name: kept[name] for name in content} == content
        with server.client(bob) as client:
            assert client.delete(f"/servicex/transformation/{second['request_id']}").status_code == 200
    with server:
        # Whether or not the object is on its way out by now: what is complete is there.
        assert download(deliver(server, files[:1])).keys() <= content.keys()
