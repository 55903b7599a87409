"""`servicex-server check` and `servicex-server db`: what an operator is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from servicex_server.app import database, tokens
from servicex_server.app.checks import examine
from servicex_server.app.datadir import DataDir
from servicex_server.app.finding import Finding, Grade
from servicex_server.app.settings import load
from servicex_server.cli import app
from servicex_server.db import schema
from servicex_server.db.engine import build_engine
from servicex_server.errors import ConfigurationError


def find(subject: str, **settings: object) -> Finding:
    (finding,) = [each for each in examine(load(None, **settings)) if each.subject == subject]
    return finding


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder with an up-to-date database."""
    database.upgrade(load(data_dir=tmp_path / "data"))
    return tmp_path / "data"


def age_schema(data_dir: Path) -> None:
    engine = build_engine(DataDir(data_dir).database_url, size=1, busy_timeout_s=1, read_only=False)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    engine.dispose()


def test_a_folder_that_is_yet_to_be_made_is_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert find("data folder", data_dir=folder, min_free_bytes=0).grade is Grade.OK
    assert find("database", data_dir=folder).grade is Grade.NOTE
    assert find("server", data_dir=folder).grade is Grade.NOTE
    assert not folder.exists(), "looking changes nothing"


def test_a_full_disk_is_an_obstacle(data_dir: Path) -> None:
    finding = find("data folder", data_dir=data_dir, min_free_bytes=2**62)
    assert finding.grade is Grade.FAIL
    assert "min_free_bytes" in finding.detail


def test_the_schema_is_looked_at(data_dir: Path) -> None:
    assert find("database", data_dir=data_dir).grade is Grade.OK
    age_schema(data_dir)
    finding = find("database", data_dir=data_dir)
    assert finding.grade is Grade.FAIL
    assert schema.COMMAND in finding.detail


def test_roots_are_looked_at(tmp_path: Path, data_dir: Path) -> None:
    def grade(*roots: Path) -> Grade:
        return find("local root", data_dir=data_dir, local_roots=roots).grade

    assert grade(tmp_path) is Grade.OK
    assert grade(tmp_path / "no") is Grade.WARNING
    assert grade(data_dir) is Grade.FAIL
    assert grade(data_dir / "store") is Grade.FAIL
    assert grade() is Grade.NOTE


def test_settings_that_open_the_server_are_pointed_out(data_dir: Path) -> None:
    assert "a server started with these settings" in find("access", data_dir=data_dir).detail
    assert find("access", data_dir=data_dir).grade is Grade.OK
    assert find("access", data_dir=data_dir, auth=False).grade is Grade.NOTE
    assert find("access", data_dir=data_dir, auth=False, host="0.0.0.0").grade is Grade.WARNING


@contextmanager
def answers(codes: dict[str, int]) -> Iterator[str]:
    """URL of something that answers with these codes by path."""

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(codes.get(self.path, 404))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Ready) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def answering() -> Iterator[str]:
    """URL of something that says it is ready."""
    with answers({"/readyz": 200, "/servicex": 401}) as url:
        yield url


@pytest.mark.parametrize(
    ("code", "grade", "text"),
    [
        (401, Grade.OK, "asks for a token"),
        (200, Grade.NOTE, "open to every user"),
        (500, Grade.WARNING, "500"),
    ],
)
def test_access_is_what_the_running_server_says(data_dir: Path, code: int, grade: Grade, text: str) -> None:
    with answers({"/readyz": 200, "/servicex": code}) as url:
        DataDir(data_dir).write_url(url)
        for auth in (True, False):
            finding = find("access", data_dir=data_dir, auth=auth)
            assert finding.grade is grade
            assert url in finding.detail
            assert text in finding.detail


def test_the_clients_file_is_looked_at(data_dir: Path) -> None:
    settings = load(data_dir=data_dir)
    data = DataDir(data_dir)
    assert find("client file", data_dir=data_dir).detail.endswith("servicex.yaml, made at first start")
    data.write_client_config("http://127.0.0.1:5000", None)
    assert "carries no token" in find("client file", data_dir=data_dir).detail
    token, _ = tokens.issue(settings, "marie", is_admin=False)
    data.write_client_config("http://127.0.0.1:5000", token)
    good = find("client file", data_dir=data_dir)
    assert (good.grade, "the token of marie" in good.detail) == (Grade.OK, True)
    tokens.revoke(settings, "marie")
    bad = find("client file", data_dir=data_dir)
    assert (bad.grade, "does not work" in bad.detail) == (Grade.WARNING, True)
    age_schema(data_dir)
    assert "cannot be looked up" in find("client file", data_dir=data_dir).detail
    assert token not in good.detail + bad.detail


def test_a_running_server_is_asked(data_dir: Path, answering: str) -> None:
    DataDir(data_dir).write_url(answering)
    assert find("server", data_dir=data_dir).grade is Grade.OK
    DataDir(data_dir).write_url(f"{answering}/elsewhere")
    assert find("server", data_dir=data_dir).grade is Grade.WARNING
    DataDir(data_dir).write_url("http://127.0.0.1:9")
    finding = find("server", data_dir=data_dir)
    assert finding.grade is Grade.WARNING
    assert "does not answer" in finding.detail


def test_the_command_fails_if_the_server_could_not_start(data_dir: Path) -> None:
    command = ["check", "--data-dir", str(data_dir)]
    good = CliRunner().invoke(app, command)
    assert good.exit_code == 0, good.output
    assert "schema up to date" in good.stdout
    age_schema(data_dir)
    bad = CliRunner().invoke(app, [*command, "--output", "json"])
    assert bad.exit_code == 1
    grades = {finding["subject"]: finding["grade"] for finding in json.loads(bad.stdout)}
    assert grades["database"] == "FAIL"
    assert {
        "versions",
        "data folder",
        "local root",
        "access",
        "code generators",
        "server",
        "client file",
    } <= grades.keys()


def test_the_schema_is_checked_and_upgraded_from_the_command_line(tmp_path: Path) -> None:
    folder = ["--data-dir", str(tmp_path / "data")]
    missing = CliRunner().invoke(app, ["db", "check", *folder])
    assert isinstance(missing.exception, ConfigurationError)
    assert schema.COMMAND in missing.exception.message
    made = CliRunner().invoke(app, ["db", "upgrade", *folder])
    assert (made.exit_code, made.stdout) == (0, f"schema is at {schema.HEAD}\n")
    assert CliRunner().invoke(app, ["db", "check", *folder]).stdout == "schema is up to date\n"
    age_schema(tmp_path / "data")
    old = CliRunner().invoke(app, ["db", "check", *folder])
    assert isinstance(old.exception, ConfigurationError)
