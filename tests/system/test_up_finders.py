"""Data sets that `servicex-server up` looks up by itself: web servers' lists, and its own earlier results."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pyarrow.parquet as pq
import pytest

from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer
from server_process import ServerProcess
from web_listing import Answer, apache_index, running_web, text_list

SELECTION = '[{"treename": "Events", "filter_name": ["MET_pt"]}]'


def submit(server: ServerProcess, did: str, *, token: str | None = None, **body: str) -> str:
    with server.client(token) as client:
        answer = client.post("/servicex/transformation", json=to_submission(did, **body))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def to_submission(did: str, **body: str) -> dict[str, str]:
    return {
        "did": did,
        "selection": SELECTION,
        "codegen": "uproot-raw",
        "result-format": "parquet",
        "result-destination": "object-store",
        **body,
    }


def until_ended(server: ServerProcess, request_id: str, token: str | None = None) -> dict[str, Any]:
    """The status after the request has ended."""
    return dict(server.wait_finished(request_id, token))


def test_what_a_web_server_lists(samples: Path, tmp_path: Path) -> None:
    content = Answer((samples / "nano_dy.root").read_bytes(), "application/octet-stream")
    pages = {
        "/data/": apache_index("/data", ["a.root", "b.root", "notes.txt", "/secret/c.root"]),
        "/lists/all.txt": text_list("# both", "/data/a.root", "../data/b.root"),
        "/data/a.root": content,
        "/data/b.root": content,
    }
    environment = {
        "SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
        "SERVICEX_FINDERS": "http,https,local,rucio,static",
    }
    with (
        running_web(pages) as url,
        ServerProcess(tmp_path / "data", ("--workers", "1"), environment) as server,
    ):
        good = [
            submit(server, f"{url}{name}")
            for name in ("/data/*.root", "/data/?files=1", "/lists/all.txt", "/data/a.root")
        ]
        missing = submit(server, f"{url}/nowhere/*.root")
        ended = [until_ended(server, request_id) for request_id in good]
        assert [(status["status"], status["files-completed"]) for status in ended] == [
            ("Complete", 2),
            ("Complete", 1),
            ("Complete", 2),
            ("Complete", 1),
        ]
        failed = until_ended(server, missing)
        assert failed["status"] == "Bad Dataset"
        assert "does not exist: no file matches" in failed["title"]
        with server.client() as client:
            private = client.post("/servicex/transformation", json=to_submission("https://10.0.0.1/x/*.root"))
            for did, need in (
                ("rucio://mc:x", "no rucio finder, which needs the setting `rucio_host`"),
                ("static://x", "the setting `static_files`"),
                ("cernopendata://1507", "named in the setting `finders`"),
            ):
                absent = client.post("/servicex/transformation", json=to_submission(did))
                assert absent.status_code == 400
                assert need in absent.json()["message"]
            files = {**to_submission(""), "file-list": [f"{url}/data/a.root"]}
            del files["did"]
            listed = client.post("/servicex/transformation", json=files)
        assert (private.status_code, listed.status_code) == (400, 200)
        assert "does not read from" in private.json()["message"]
        assert until_ended(server, listed.json()["request_id"])["files-completed"] == 1


def download(server: ServerProcess, request_id: str, token: str | None = None) -> list[bytes]:
    """The results of a request, in the order of their names."""
    with server.client(token) as client:
        results = client.get(f"/servicex/transformation/{request_id}/results").json()["results"]
    keys = sorted(result["s3-object-name"] for result in results)
    status = until_ended(server, request_id, token)
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=status["minio-access-key"],
        aws_secret_access_key=status["minio-secret-key"],
        region_name="us-east-1",
    )
    return [client.get_object(Bucket=request_id, Key=key)["Body"].read() for key in keys]


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_results_of_an_earlier_request(
    samples: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("a", "b"):
        shutil.copy(samples / "nano_dy.root", inputs / f"{name}.root")
    environment = {"SERVICEX_LOCAL_ROOTS": str(inputs)}
    if kind == "s3":
        environment |= in_bucket(request.getfixturevalue("seaweed"), f"finders-{tmp_path.name}")
    cut = '[{"treename": "Events", "expressions": ["MET_pt"], "cut": "MET_pt > 20"}]'
    with ServerProcess(tmp_path / "data", ("--workers", "1"), environment) as server:
        ann, bob = (make_user(server, name) for name in ("ann", "bob"))
        direct = submit(server, f"local://{inputs}/*.root", token=ann, selection=cut)
        skim = submit(server, f"local://{inputs}/*.root", token=ann, **{"result-format": "root-file"})
        assert until_ended(server, skim, ann)["status"] == "Complete"
        second = submit(server, f"servicex://{skim}", token=ann, selection=cut)
        status = until_ended(server, second, ann)
        assert (status["status"], status["files-completed"]) == ("Complete", 2), status
        until_ended(server, direct, ann)
        rows, wanted = (
            [pq.read_table(io.BytesIO(content)) for content in download(server, request_id, ann)]
            for request_id in (second, direct)
        )
        assert rows == wanted, "the same as without a step between"
        assert sum(table.num_rows for table in rows) > 0

        foreign = refuse(server, skim, bob)
        none = refuse(server, "00000000-0000-4000-8000-000000000000", bob)
        assert foreign.replace(skim, "X") == none.replace("00000000-0000-4000-8000-000000000000", "X")
        assert "does not exist" in foreign
        assert "has results in the format parquet" in refuse(server, second, ann)
        with server.client(ann) as client:
            assert client.delete(f"/servicex/transformation/{skim}").status_code == 200
        assert "does not exist" in refuse(server, skim, ann)


def in_bucket(seaweed: SeaweedServer, prefix: str) -> dict[str, str]:
    """Settings that keep results there."""
    return {
        "SERVICEX_STORE_URL": f"s3://{BUCKET}/{prefix}",
        "SERVICEX_STORE_ENDPOINT": seaweed.endpoint,
        "SERVICEX_STORE_ACCESS_KEY": ACCESS_KEY,
        "SERVICEX_STORE_SECRET_KEY": SECRET_KEY,
    }


def make_user(server: ServerProcess, name: str) -> str:
    """The token of a new user who is no admin."""
    made = subprocess.run(
        [sys.executable, "-m", "servicex_server", "token", "create", name, "--data-dir", server.data_dir],
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def refuse(server: ServerProcess, request_id: str, token: str) -> str:
    """What a submit of the results of this request is refused with."""
    with server.client(token) as client:
        answer = client.post("/servicex/transformation", json=to_submission(f"servicex://{request_id}"))
    assert answer.status_code == 400, answer.text
    return str(answer.json()["message"])
