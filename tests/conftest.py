"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import PostgresServer, require_postgres, running_postgres


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of small real CMS, ATLAS, EDM4hep and Delphes files (`make samples` fetches it)."""
    folder = Path(os.environ.get("SERVICEX_TEST_SAMPLES", Path(__file__).parents[1] / ".cache" / "samples"))
    if not (folder / "nano_dy.root").exists():
        message = f"sample files are missing in {folder}; `make samples` fetches them"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests of this process; each makes its own database."""
    require_postgres()
    with running_postgres() as server:
        yield server
