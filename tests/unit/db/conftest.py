"""Databases of both kinds, empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import PostgresServer


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty database is, or will be: SQLite makes its file at first use."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'servicex.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    made = server.create()
    yield made
    server.drop(made)
