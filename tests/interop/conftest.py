"""The real clients, run the way their users run them: in processes of their own, over a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class Running:
    """A driver at work."""

    process: subprocess.Popen[str]

    def wait(self) -> Ran:
        """Return what it printed, once it has ended."""
        answer, messages = self.process.communicate(timeout=150)
        assert self.process.returncode == 0, messages[-6000:]
        return Ran(json.loads(answer), messages)


@dataclass(frozen=True, slots=True)
class Command:
    """How a `servicex ...` command ended, and the folder it ran in."""

    folder: Path
    code: int
    stdout: str
    stderr: str

    @property
    def was_carried_out(self) -> bool:
        """Whether the server did it; after `transforms cancel` and `delete` 3.3.1 stumbles over itself."""
        return self.code == 0 or "a coroutine was expected, got None" in self.stderr


def isolate(home: Path) -> dict[str, str]:
    """Environment in which no configuration of the person who runs the tests is found."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("SERVICEX_", "BEARER_"))
    }
    return kept | {"HOME": str(home), "COLUMNS": "400"}


@pytest.fixture(scope="session")
def start_driver() -> Iterator[Callable[..., Running]]:
    """Start `driver.py` with a job on its standard input; it is ended with the tests at the latest."""
    started: list[subprocess.Popen[str]] = []

    def start(python: str, driver: str, job: object, home: Path) -> Running:
        process = subprocess.Popen(
            [python, str(DRIVERS / driver)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=isolate(home),
            cwd=home,
        )
        started.append(process)
        assert process.stdin is not None
        text = json.dumps(job)
        process.stdin.write(text)
        process.stdin.close()
        process.stdin = None
        return Running(process)

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def start_client33(
    start_driver: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Running]:
    """Start deliveries with client 3.3: `start_client33(config, stages)`."""

    def start(config: Path, stages: Sequence[Sequence[dict[str, Any]]]) -> Running:
        home = tmp_path_factory.mktemp("client33")
        for stage in stages:
            for index, delivery in enumerate(stage):
                # Never the same cache for two: the client would answer from it without asking the server.
                delivery.setdefault("cache", str(home / f"cache-{index}"))
        return start_driver(sys.executable, "client33.py", {"config": str(config), "stages": stages}, home)

    return start


@pytest.fixture(scope="session")
def run_client26(
    start_driver: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Ran]:
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
        return start_driver(str(python), "client26.py", {"queries": queries}, home).wait()

    return run


@pytest.fixture(scope="session")
def servicex(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Command]:
    """Run the client's own command: `servicex(config, "transforms", "list")`."""
    home = tmp_path_factory.mktemp("servicex")
    command = Path(sys.executable).with_name("servicex")

    def run(config: Path, *arguments: str) -> Command:
        ran = subprocess.run(
            [str(command), *arguments, "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=60,
            env=isolate(home),
            cwd=home,
            check=False,
        )
        return Command(home, ran.returncode, ran.stdout, ran.stderr)

    return run
