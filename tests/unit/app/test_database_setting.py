"""Where the database is, who may say so, and what a server does with a schema that is not its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from postgres_server import PostgresServer
from servicex_server.app import checks, database
from servicex_server.app.finding import Grade
from servicex_server.app.settings import Settings, load
from servicex_server.app.tokens import issue, names
from servicex_server.cli import app
from servicex_server.db import schema
from servicex_server.errors import ConfigurationError, ServicexError

URL = "postgresql://marie:hunter2@db.example/servicex"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SERVICEX_"):
            monkeypatch.delenv(name)


def url_of(settings: Settings) -> str:
    return database.database_url(settings)


def test_by_default_it_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path / "data")
    assert url_of(settings) == f"sqlite+aiosqlite:///{tmp_path / 'data' / 'servicex.db'}"
    assert not database.is_external(settings)


def test_it_is_given_by_flag_environment_or_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert url_of(load(database_url=URL)) == URL
    secret = tmp_path / "secret"
    secret.write_text(f"{URL}\n")
    monkeypatch.setenv("SERVICEX_DATABASE_URL_FILE", str(secret))
    assert url_of(load()) == URL
    monkeypatch.setenv("SERVICEX_DATABASE_URL", "sqlite:////tmp/other.db")
    assert url_of(load()) == "sqlite:////tmp/other.db"


def test_the_password_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    settings = load(database_url=URL)
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    wrong = tmp_path / "settings.yaml"
    for content in (
        "database_url: hunter2",
        "database_url: [hunter2]",
        "database_url: a: hunter2",
        "{hunter2",
    ):
        wrong.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            load(wrong)
        assert "hunter2" not in caught.value.message
        assert "hunter2" not in str(caught.value.__cause__)
    for act in (database.check, database.upgrade, database.prepare):
        with pytest.raises(ConfigurationError) as caught:
            act(load(database_url="postgresql://marie:hunter2@127.0.0.1:1/servicex"))
        assert "postgresql://marie:***@127.0.0.1:1/servicex" in caught.value.message
        assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("", "is empty"), ("x", "start with")]
)
def test_a_file_without_url_is_named(tmp_path: Path, content: str | None, words: str) -> None:
    secret = tmp_path / "secret"
    if content is not None:
        secret.write_text(content)
    with pytest.raises(ConfigurationError, match=words):
        load(database_url_file=secret)


def test_a_deployments_schema_is_changed_by_command_alone(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create()
    settings = load(database_url=url, data_dir=tmp_path / "data")
    with pytest.raises(ConfigurationError, match="create it with `servicex-server db upgrade`"):
        database.prepare(settings)
    assert schema.read_version(url) is None
    result = CliRunner().invoke(app, ["db", "check", "--database", url])
    assert isinstance(result.exception, ServicexError)
    result = CliRunner().invoke(app, ["db", "upgrade"], env={"SERVICEX_DATABASE_URL": url})
    assert result.output == f"schema is at {schema.HEAD}\n"
    result = CliRunner().invoke(app, ["db", "check", "--database", url])
    assert (result.exit_code, result.output) == (0, "schema is up to date\n")
    assert database.prepare(settings) == url
    assert not (tmp_path / "data").exists()
    postgres.drop(url)


def test_the_file_in_the_data_folder_is_brought_up_to_date(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path)
    assert schema.read_version(database.prepare(settings)) == schema.HEAD


def test_commands_use_it(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.create(with_schema=True)
    settings = load(database_url=url, data_dir=tmp_path)
    issue(settings, "niels", is_admin=False)
    assert names(settings) == ["niels"]
    (finding,) = [found for found in checks.examine(settings) if found.subject == "database"]
    assert (finding.grade, finding.detail.rpartition("/")[2]) == (
        Grade.OK,
        f"{url.rpartition('/')[2]}, schema up to date",
    )
    assert "servicex:***@" in finding.detail
    postgres.drop(url)
