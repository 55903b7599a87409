"""The data folder, and what a composition root keeps in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from servicex_server.app import database
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import load
from servicex_server.app.tokens import names
from servicex_server.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that was there before the server, and that others may look into."""
    made = tmp_path / "data"
    made.mkdir()
    made.chmod(0o755)
    return made


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


def test_the_database_is_its_owners_alone_in_a_folder_of_everybody(folder: Path) -> None:
    database.upgrade(load(data_dir=folder))
    assert modes(folder) == {"servicex.db": 0o600}


def test_a_database_that_others_could_read_is_closed(folder: Path) -> None:
    settings = load(data_dir=folder)
    database.upgrade(settings)
    data = DataDir(folder)
    for suffix in ("", "-wal", "-shm"):
        path = data.database.with_name(data.database.name + suffix)
        path.touch()
        path.chmod(0o644)
    names(settings)
    assert set(modes(folder).values()) == {0o600}


def test_a_database_that_is_a_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").touch(mode=0o644)
    (folder / "servicex.db").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match=r"servicex\.db cannot be made private"):
        DataDir(folder).create()
