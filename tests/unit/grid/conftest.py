"""One certificate authority for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid_pki import Pair, TestAuthority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("ca") / "ca")


@pytest.fixture(scope="session")
def voms_server(authority: TestAuthority) -> Pair:
    return authority.found_vo()


@pytest.fixture(scope="session")
def jane(authority: TestAuthority) -> Pair:
    """A user whose key has no passphrase."""
    return authority.issue("Jane Analyst")


@pytest.fixture(scope="session")
def mary(authority: TestAuthority) -> Pair:
    """A user whose key has the passphrase `open sesame`."""
    return authority.issue("Mary Protected", passphrase=b"open sesame")


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder that is not there."""
    return tmp_path / "nothing"
