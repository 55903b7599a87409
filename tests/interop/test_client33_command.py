"""The official client's own command, `servicex`, and two owners who use one server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import boto3
import h5py
import pyarrow as pa
import pytest
import yaml

from server_process import ServerProcess

Servicex = Callable[..., Any]
QUERY = [{"treename": "Events", "expressions": ["event", "MET_pt"]}]


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    shutil.copy(samples / "nano_dy.root", folder / "good.root")
    return folder


@pytest.fixture(scope="module")
def server(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("server") / "data"
    with ServerProcess(data_dir, ("--workers", "1", "--local-root", str(inputs))) as running:
        yield running


def submit(server: ServerProcess, file: Path, title: str, result_format: str = "parquet") -> str:
    """Submit without the client (it would wait 5 s); return the request's id once it is complete."""
    body = {
        "title": title,
        "file-list": [str(file)],
        "selection": json.dumps(QUERY),
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": result_format,
    }
    with server.client() as http:
        answer = http.post("/servicex/transformation", json=body)
        request_id = str(answer.raise_for_status().json()["request_id"])
    server.wait_complete(request_id)
    return request_id


def test_lists_transforms_files_datasets_and_code_generators(
    server: ServerProcess, inputs: Path, servicex: Servicex, tmp_path: Path
) -> None:
    request_id = submit(server, inputs / "good.root", "a title to find")
    config = server.client_config
    commands = {
        "transforms": ("transforms", "list"),
        "complete": ("transforms", "list", "--complete"),
        "files": ("transforms", "files", "-d", str(tmp_path / "cache"), request_id),
        "datasets": ("datasets", "list"),
        "codegens": ("codegen", "list"),
    }
    with ThreadPoolExecutor(3) as pool:
        running = {name: pool.submit(servicex, config, *command) for name, command in commands.items()}
    shown = {name: ran.result() for name, ran in running.items()}
    for name, ran in shown.items():
        assert ran.code == 0, (name, ran.stderr)
    for name in ("transforms", "complete"):
        assert request_id in shown[name].stdout
        assert "a title to find" in shown[name].stdout
    assert "good.root.parquet" in shown["files"].stdout
    assert "File list" in shown["datasets"].stdout
    assert {"uproot", "uproot-raw"} <= set(json.loads(shown["codegens"].stdout))


def test_downloads_gets_a_dataset_and_deletes(
    server: ServerProcess, inputs: Path, servicex: Servicex
) -> None:
    request_id = submit(server, inputs / "good.root", "to be deleted")
    config = server.client_config
    with server.client() as http:
        dataset_id = http.get(f"/servicex/transformation/{request_id}").json()["did_id"]

    downloaded = servicex(config, "transforms", "download", request_id)
    assert downloaded.code == 0, downloaded.stderr
    dataset = servicex(config, "datasets", "get", str(dataset_id))
    assert str(inputs / "good.root") in json.dumps(json.loads(dataset.stdout))
    (result,) = [line for line in downloaded.stdout.splitlines() if line.endswith("good.root.parquet")]
    assert len(ak.from_parquet(downloaded.folder / result)) == 40

    deleted = servicex(config, "transforms", "delete", request_id)
    assert deleted.was_carried_out, deleted.stderr
    assert request_id not in servicex(config, "transforms", "list").stdout
    assert "deleted" in servicex(config, "datasets", "delete", str(dataset_id)).stdout


def test_formats_unknown_to_the_client_do_not_spoil_its_list(
    server: ServerProcess, inputs: Path, servicex: Servicex, tmp_path: Path
) -> None:
    known = submit(server, inputs / "good.root", "known")
    unknown = {kind: submit(server, inputs / "good.root", kind, kind) for kind in ("arrow", "hdf5")}
    listed = servicex(server.client_config, "transforms", "list")
    assert listed.code == 0, listed.stderr
    assert known in listed.stdout
    assert not any(request_id in listed.stdout for request_id in unknown.values())

    counts = {}
    with server.client() as http:
        for kind, request_id in unknown.items():
            url = f"/servicex/transformation/{request_id}"
            status = http.get(url).json()
            assert status["result-format"] == kind
            (result,) = http.get(f"{url}/results").json()["results"]
            path = tmp_path / kind
            path.write_bytes(read_object(status, result["s3-object-name"]))
            assert path.stat().st_size == result["total-bytes"]
            counts[kind] = count_rows(path)
            assert http.delete(url).status_code == 200
            assert http.get(url).status_code == 404
    assert counts == {"arrow": 40, "hdf5": 40}


def read_object(status: dict[str, Any], key: str) -> bytes:
    """A result, fetched with the keys of its request."""
    store = boto3.client(
        "s3",
        endpoint_url=f"http://{status['minio-endpoint']}",
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        region_name="us-east-1",
    )
    content = store.get_object(Bucket=status["request_id"], Key=key)["Body"].read()
    assert isinstance(content, bytes)
    return content


def count_rows(path: Path) -> int:
    """Rows of an Arrow or HDF5 file."""
    if path.name == "arrow":
        return len(ak.from_arrow(pa.ipc.open_file(path).read_all()))
    with h5py.File(path) as file:
        return len(file["Events/MET_pt"])


def test_an_unknown_transform_is_an_error_and_no_hang(server: ServerProcess, servicex: Servicex) -> None:
    ran = servicex(server.client_config, "transforms", "cancel", "00000000-0000-4000-8000-000000000000")
    assert not ran.was_carried_out
    assert "not found" in ran.stderr + ran.stdout


def test_two_owners_see_their_own_requests_only(
    server: ServerProcess,
    inputs: Path,
    servicex: Servicex,
    start_client33: Callable[..., Any],
    tmp_path: Path,
) -> None:
    configs = {name: issue_token(server, name, tmp_path / name) for name in ("alice", "bob")}
    deliveries = {
        name: {
            "format": "parquet",
            "delivery": "LocalCache",
            "samples": [
                {
                    "name": f"of {name}",
                    "files": [str(inputs / "good.root")],
                    "kind": "uproot-raw",
                    "query": QUERY,
                }
            ],
        }
        for name in configs
    }
    running = {name: start_client33(config, [[deliveries[name]]]) for name, config in configs.items()}
    for name, client in running.items():
        (answer,) = client.wait().answer[0]
        assert len(answer["delivered"][f"of {name}"]) == 1, answer
    lists = {name: servicex(config, "transforms", "list").stdout for name, config in configs.items()}
    assert "of alice" in lists["alice"]
    assert "of alice" not in lists["bob"]
    assert "of bob" in lists["bob"]
    assert "of bob" not in lists["alice"]

    (of_bob,) = [word for word in lists["bob"].split() if word.count("-") == 4]
    refused = servicex(configs["alice"], "transforms", "delete", of_bob)
    assert not refused.was_carried_out
    assert of_bob in servicex(configs["bob"], "transforms", "list").stdout


def issue_token(server: ServerProcess, name: str, folder: Path) -> Path:
    """Return a client configuration with a new user's token."""
    command = [sys.executable, "-m", "servicex_server", "token", "create", name]
    command += ["--data-dir", str(server.data_dir)]
    token = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()[-1]
    content = yaml.safe_load(server.client_config.read_text())
    content["api_endpoints"][0]["token"] = token
    folder.mkdir()
    config = folder / "servicex.yaml"
    config.write_text(yaml.safe_dump(content))
    return config
