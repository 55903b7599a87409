"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from postgres_server import PostgresServer, require_postgres, running_postgres

if TYPE_CHECKING:
    from seaweed_server import SeaweedServer


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """An S3 server for all tests of a process; each takes a prefix of its own, and none stops it."""
    from seaweed_server import require_seaweed, running_seaweed  # noqa: PLC0415  heavy, for few

    require_seaweed()
    with running_seaweed() as server:
        yield server


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
