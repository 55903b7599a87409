"""Every test with a database is run on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import service_bench
from postgres_server import PostgresServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "tmp_path" in metafunc.fixturenames:
        metafunc.parametrize("dialect", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture(autouse=True)
def dialect(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What `service_bench.prepare` makes its database with."""
    name: str = getattr(request, "param", "sqlite")
    made: list[str] = []
    if name == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")

        def new_database(folder: Path) -> str:
            made.append(server.create(with_schema=True))
            return made[-1]

        monkeypatch.setattr(service_bench, "new_database", new_database)
    yield name
    for url in made:
        server.drop(url)
