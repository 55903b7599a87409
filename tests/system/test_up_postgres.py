"""`servicex-server up` on PostgreSQL, which goes away and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import PASSWORD, PostgresServer, require_postgres, running_postgres
from server_process import ServerProcess
from servicex_server.db import schema

QUERY = '[{"treename": "Events", "filter_name": ["event", "nMuon"]}]'


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Of this module's own, since it is stopped and started."""
    require_postgres()
    with running_postgres() as server:
        yield server


@pytest.fixture
def server(postgres: PostgresServer, tmp_path: Path, samples: Path) -> ServerProcess:
    flags = ("--workers", "1", "--local-root", str(samples))
    return ServerProcess(tmp_path / "data", flags, {"SERVICEX_DATABASE_URL": postgres.create()})


def submit(server: ServerProcess, samples: Path) -> str:
    body = {
        "title": "on PostgreSQL",
        "file-list": [str(samples / "nano_dy.root")],
        "selection": QUERY,
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }
    with server.client() as client:
        answer = client.post("/servicex/transformation", json=body)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def test_it_does_not_start_on_another_schema(server: ServerProcess) -> None:
    assert server.environment is not None
    start = ["up", "--port", "0", "--data-dir", str(server.data_dir)]
    command = [sys.executable, "-m", "servicex_server", *start]
    refused = subprocess.run(
        command, env=os.environ | server.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert refused.returncode == 1
    assert "no schema yet; create it with `servicex-server db upgrade`" in refused.stderr


def test_it_outlives_restarts_of_the_database(
    server: ServerProcess, postgres: PostgresServer, samples: Path
) -> None:
    assert server.environment is not None
    schema.upgrade(server.environment["SERVICEX_DATABASE_URL"])
    with server:
        server.wait_complete(submit(server, samples))
        postgres.stop("immediate")
        with server.client() as client:
            answer = client.get("/servicex/transformation")
            assert answer.status_code == 503
            assert "The database cannot be reached now" in answer.text
            assert str(postgres.port) not in answer.text, "addresses are for the log"
        postgres.start()
        server.wait_complete(submit(server, samples))
        postgres.break_connections(server.environment["SERVICEX_DATABASE_URL"])
        server.wait_complete(submit(server, samples))
    log = server.log.read_text()
    assert f"port {postgres.port} failed" in log
    assert PASSWORD not in log
    assert "open%20sesame" not in log
    assert not (server.data_dir / "servicex.db").exists()
