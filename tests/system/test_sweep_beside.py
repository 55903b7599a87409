"""`servicex-server sweep` beside a server that runs, and a server whose disk is nearly full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from server_process import ServerProcess

QUERY = '[{"treename": "Events", "filter_name": ["event"]}]'


def submission(path: Path) -> dict[str, object]:
    return {
        "title": "beside",
        "file-list": [str(path)],
        "selection": QUERY,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }


def command(*arguments: str, **environment: str) -> dict[str, object]:
    answer = subprocess.run(
        [sys.executable, "-m", "servicex_server", *arguments, "--json"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    document: dict[str, object] = json.loads(answer.stdout)
    return document


def test_the_server_goes_on_while_results_are_swept_away(samples: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    flags = ("--workers", "1", "--local-root", str(samples))
    with ServerProcess(data, flags, {"SERVICEX_LOG_LEVEL": "INFO"}) as server, server.client() as client:
        ids = []
        for _ in range(2):
            answer = client.post("/servicex/transformation", json=submission(samples / "nano_dy.root"))
            ids.append(answer.json()["request_id"])
            server.wait_complete(ids[-1])
        found = command("disk", "--data-dir", str(data))
        assert [each["request_id"] for each in found["requests"]].count(ids[0]) == 1  # type: ignore[attr-defined]
        swept = command("sweep", "--data-dir", str(data), SERVICEX_RESULTS_MAX_AGE_DAYS="0.0000001")
        assert [each["request_id"] for each in swept["expired"]] == ids  # type: ignore[attr-defined]
        for request_id in ids:
            assert client.get(f"/servicex/transformation/{request_id}").status_code == 404
        assert not any(path.is_file() for path in (data / "store" / "objects").rglob("*"))
        answer = client.post("/servicex/transformation", json=submission(samples / "nano_dy.root"))
        server.wait_complete(answer.json()["request_id"])


def test_a_disk_that_is_nearly_full_takes_no_new_requests(samples: Path, tmp_path: Path) -> None:
    # Room for results, but less than twice what has to stay free.
    usage = os.statvfs(tmp_path)
    needed = int(0.75 * usage.f_bavail * usage.f_frsize)
    flags = ("--workers", "1", "--local-root", str(samples))
    environment = {"SERVICEX_MIN_FREE_BYTES": str(needed)}
    with ServerProcess(tmp_path / "data", flags, environment) as server, server.client() as client:
        answer = client.post("/servicex/transformation", json=submission(samples / "nano_dy.root"))
        assert answer.status_code == 507
        assert "`servicex-server sweep`" in answer.json()["message"]
