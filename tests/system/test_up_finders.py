"""Data sets that `servicex-server up` looks up by itself: what a web server lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server_process import ServerProcess
from web_listing import Answer, apache_index, running_web, text_list

SELECTION = '[{"treename": "Events", "filter_name": ["MET_pt"]}]'


def submit(server: ServerProcess, did: str, **body: str) -> str:
    with server.client() as client:
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


def until_ended(server: ServerProcess, request_id: str) -> dict[str, Any]:
    """The status after the request has ended; the server holds each answer for a while."""
    with server.client() as client:
        for _ in range(200):
            status: dict[str, Any] = client.get(f"/servicex/transformation/{request_id}").json()
            if status["finish-time"] != "None":
                return status
    raise AssertionError(status)


def test_what_a_web_server_lists(samples: Path, tmp_path: Path) -> None:
    content = Answer((samples / "nano_dy.root").read_bytes(), "application/octet-stream")
    pages = {
        "/data/": apache_index("/data", ["a.root", "b.root", "notes.txt", "/secret/c.root"]),
        "/lists/all.txt": text_list("# both", "/data/a.root", "../data/b.root"),
        "/data/a.root": content,
        "/data/b.root": content,
    }
    allowed = {"SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    with running_web(pages) as url, ServerProcess(tmp_path / "data", ("--workers", "1"), allowed) as server:
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
            files = {**to_submission(""), "file-list": [f"{url}/data/a.root"]}
            del files["did"]
            listed = client.post("/servicex/transformation", json=files)
        assert (private.status_code, listed.status_code) == (400, 200)
        assert "does not read from" in private.json()["message"]
        assert until_ended(server, listed.json()["request_id"])["files-completed"] == 1
