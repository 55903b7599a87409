"""The server of a command: found as the official client finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicex_server.cli.endpoint import Endpoint, find_endpoint
from servicex_server.errors import ConfigurationError

TWO = """
api_endpoints:
  - endpoint: http://one:5000/
    name: one
    token: first
  - endpoint: http://two:5000
    name: two
    token: second
default_endpoint: two
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / "a" / "b").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home / "a" / "b")
    return home


@pytest.mark.parametrize("place", ["servicex.yaml", ".servicex", "a/.servicex", "a/b/servicex.yaml"])
def test_default_endpoint_of_the_nearest_file(home: Path, place: str) -> None:
    (home / place).write_text(TWO)
    assert find_endpoint(None, None) == Endpoint("http://two:5000", "second")


def test_without_a_default_the_first_one(home: Path) -> None:
    (home / "servicex.yaml").write_text(TWO.replace("default_endpoint: two", ""))
    assert find_endpoint(None, None) == Endpoint("http://one:5000", "first")


def test_the_hidden_name_comes_first_and_the_home_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "servicex.yaml").write_text(TWO)
    (home / ".servicex").write_text(TWO.replace("default_endpoint: two", "default_endpoint: one"))
    assert find_endpoint(None, None).url == "http://one:5000"
    monkeypatch.chdir("/")
    assert find_endpoint(None, None).url == "http://one:5000"


def test_flags_come_first_and_a_token_goes_to_its_own_server_only(home: Path, tmp_path: Path) -> None:
    (home / "servicex.yaml").write_text(TWO)
    token = tmp_path / "token"
    token.write_text("mine\n")
    assert find_endpoint("http://one:5000/", None) == Endpoint("http://one:5000", "first")
    assert find_endpoint("http://three:5000", None) == Endpoint("http://three:5000", None)
    assert find_endpoint("http://three:5000", token) == Endpoint("http://three:5000", "mine")
    assert find_endpoint(None, token) == Endpoint("http://two:5000", "mine")


def test_what_is_wrong_is_told(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no server is named"):
        find_endpoint(None, None)
    with pytest.raises(ConfigurationError, match="http"):
        find_endpoint("localhost:5000", None)
    with pytest.raises(ConfigurationError, match="cannot read"):
        find_endpoint("http://x", tmp_path / "missing")
    (tmp_path / "two words").write_text("two words")
    with pytest.raises(ConfigurationError, match="one token"):
        find_endpoint("http://x", tmp_path / "two words")
    for text in (
        "[]",
        "api_endpoints: 3",
        "api_endpoints: [3]",
        "api_endpoints: [{name: x}]",
        "{",
        "a: [",
        "",
    ):
        (home / "servicex.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match="api_endpoints"):
            find_endpoint(None, None)


def test_tokens_are_not_shown() -> None:
    assert "secret" not in repr(Endpoint("http://x", "secret"))
