"""The token of the person who runs the server, from start to start."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from servicex_server.app import database, tokens
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings, load
from servicex_server.cli import app
from servicex_server.cli.endpoint import Endpoint, find_endpoint
from servicex_server.db.session import Database
from servicex_server.model.request import Principal
from servicex_server.service.principal import find_principal


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load(data_dir=tmp_path / "data")
    database.upgrade(settings)
    return settings


def start(settings: Settings) -> str:
    """What a start of the server does about the token."""
    data = DataDir(settings.data_dir)

    async def ensure() -> str:
        async with Database(data.database_url) as db:
            return await tokens.ensure_owner_token(db, data)

    token = asyncio.run(ensure())
    data.write_client_config("http://127.0.0.1:5000", token)
    return token


def holder(settings: Settings, token: str) -> Principal | None:
    async def find() -> Principal | None:
        async with Database(DataDir(settings.data_dir).database_url) as db:
            return await find_principal(db, token)

    return asyncio.run(find())


def test_the_token_stays_and_is_the_owners_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "marie")
    token = start(settings)
    assert holder(settings, token) == Principal("marie", is_admin=True)
    assert start(settings) == token
    assert (settings.data_dir / "token").stat().st_mode & 0o777 == 0o600


def test_the_token_outlives_a_start_without_access_control(settings: Settings) -> None:
    token = start(settings)
    data = DataDir(settings.data_dir)
    data.write_client_config("http://127.0.0.1:5000", None)  # as `up --no-auth` does
    assert token not in data.client_config.read_text()
    assert start(settings) == token


def test_under_another_login_name_the_owner_is_the_same(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "marie")
    token = start(settings)
    monkeypatch.setenv("LOGNAME", "pierre")
    assert start(settings) == token
    assert tokens.names(settings) == ["marie"]


def test_a_token_that_was_replaced_stays_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "marie")
    leaked = start(settings)
    fresh, _ = tokens.issue(settings, "marie", is_admin=False)
    assert start(settings) == fresh
    assert holder(settings, fresh) == Principal("marie", is_admin=True), "the owner stays in charge"
    assert holder(settings, leaked) is None
    tokens.revoke(settings, "marie")
    assert start(settings) not in {leaked, fresh}
    assert holder(settings, fresh) is None


def test_the_clients_file_goes_with_the_owners_token(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "marie")
    data = DataDir(settings.data_dir)
    first = start(settings)
    assert data.read_client_token() == first
    second, _ = tokens.issue(settings, "marie", is_admin=True)
    assert data.read_client_token() == second
    assert (data.client_config.stat().st_mode & 0o777, first in data.client_config.read_text()) == (
        0o600,
        False,
    )
    assert yaml.safe_load(data.client_config.read_text())["api_endpoints"] == [
        {"endpoint": "http://127.0.0.1:5000", "name": "servicex", "token": second}
    ]
    tokens.revoke(settings, "marie")
    assert data.read_client_token() is None
    third, _ = tokens.issue(settings, "marie", is_admin=True)
    assert data.read_client_token() == third
    assert start(settings) == third, "what was printed works after the next start, too"
    tokens.issue(settings, "pierre", is_admin=True)
    assert data.read_client_token() == third


@pytest.mark.parametrize("content", [None, "", "[", "api_endpoints: []", "api_endpoints: [1]", "- 1", "\x00"])
def test_a_clients_file_that_is_not_ours_stays(settings: Settings, content: str | None) -> None:
    data = DataDir(settings.data_dir)
    if content is not None:
        data.client_config.write_text(content)
    data.change_client_token("new")
    assert data.read_client_token() is None
    assert data.client_config.exists() == (content is not None)
    assert content is None or data.client_config.read_text() == content


def test_others_tokens_are_not_the_owners(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "marie")
    token = start(settings)
    tokens.issue(settings, "pierre", is_admin=False)
    tokens.revoke(settings, "pierre")
    assert start(settings) == token


def test_a_new_users_client_file_stands_beside_the_token(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("token", "create", "pierre", "--data-dir", str(settings.data_dir))
    run = CliRunner().invoke(app, command)
    assert holder(settings, run.stdout.strip()) == Principal("pierre"), "scripts take all of it"
    assert "in place of https://servicex.example.org" in run.stderr
    assert "earlier token" not in run.stderr
    DataDir(settings.data_dir).write_url("http://127.0.0.1:5000")
    for environment, url in (
        ({}, "http://127.0.0.1:5000"),
        ({"SERVICEX_PUBLIC_URL": "https://servicex.uni.example/"}, "https://servicex.uni.example"),
    ):
        run = CliRunner().invoke(app, command, env=environment)
        _, _, entry = run.stderr.partition(":\n\n")
        token = run.stdout.strip()
        assert token not in run.stderr, "it ends in the log of a job"
        (tmp_path / "servicex.yaml").write_text(entry.replace("<the token on standard output>", token))
        assert find_endpoint(None, None) == Endpoint(url, token)
        assert "in place of" not in run.stderr
        assert "The earlier token of pierre has stopped working" in run.stderr
