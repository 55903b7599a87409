"""The real clients, run the way their users run them: in processes of their own, over a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

DRIVERS = Path(__file__).parent / "drivers"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a client printed."""

    answer: Any
    messages: str


def isolate(home: Path) -> dict[str, str]:
    """Environment in which no configuration of the person who runs the tests is found."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SERVICEX_", "BEARER_"))
    }
    return kept | {"HOME": str(home), "COLUMNS": "400"}


@pytest.fixture(scope="session")
def run_client33(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Run deliveries with client 3.3: `run_client33(config, stages)`."""

    def run(config: Path, stages: Sequence[Sequence[dict[str, Any]]]) -> Ran:
        home = tmp_path_factory.mktemp("client33")
        for stage in stages:
            for index, delivery in enumerate(stage):
                # Never the same cache for two: the client would answer from it without asking the server.
                delivery.setdefault("cache", str(home / f"cache-{index}"))
        job = json.dumps({"config": str(config), "stages": stages})
        return _run([sys.executable, str(DRIVERS / "client33.py")], job, home)

    return run


@pytest.fixture(scope="session")
def run_client26(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Ran]:
    """Run queries with client 2.6: `run_client26(url, token, queries)`."""
    python = Path(os.environ.get("SERVICEX_TEST_CLIENT26", ROOT / ".venv-client26" / "bin" / "python"))
    if not python.exists():
        message = "the environment of servicex 2.6.2 is missing; `make client26` makes it on Python 3.11"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)

    def run(url: str, token: str, queries: Sequence[dict[str, Any]]) -> Ran:
        home = tmp_path_factory.mktemp("client26")
        endpoint = {"endpoint": url, "name": "local", "type": "uproot", "token": token}
        config = {"api_endpoints": [endpoint], "cache_path": str(home / "cache")}
        (home / "servicex.yaml").write_text(json.dumps(config))
        return _run([str(python), str(DRIVERS / "client26.py")], json.dumps({"queries": queries}), home)

    return run


def _run(command: list[str], job: str, home: Path) -> Ran:
    ran = subprocess.run(
        command,
        input=job,
        capture_output=True,
        text=True,
        timeout=150,
        env=isolate(home),
        cwd=home,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-6000:]
    return Ran(json.loads(ran.stdout), ran.stderr)


@pytest.fixture(scope="session")
def servicex(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the client's own command: `servicex(config, "transforms", "list")`."""
    home = tmp_path_factory.mktemp("servicex")
    command = Path(sys.executable).with_name("servicex")

    def run(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(command), *arguments, "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            env=isolate(home),
            cwd=home,
            check=False,
        )

    return run
