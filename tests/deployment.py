"""A deployment as an administrator would run it: apps, workers and sweepers, on real services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_S = 60.0


@dataclass
class Role:
    """One process of a deployment.

    Attributes:
        arguments: of `servicex-server`.
        environment: all of it.
        log: where its output goes.
        module: whose command it is.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    module: str = "servicex_server"
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process, in a process group of its own."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                (sys.executable, "-m", self.module, *self.arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def text(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Returns when it has said these words so often."""
        end = time.monotonic() + START_S
        while self.text().count(words) < times:
            if time.monotonic() > end or self.process is None or self.process.poll() is not None:
                message = f"{self.arguments[0]} did not say {words!r}:\n{self.text()[-4000:]}"
                raise AssertionError(message)
            time.sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to the process alone."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """`kill -9` of the process and of all its children."""
        if self.process is not None:
            for send in (signal.SIGCONT, signal.SIGKILL):
                try:
                    os.killpg(self.process.pid, send)
                except ProcessLookupError:
                    break
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM, as a rolling restart does; returns the exit code."""
        assert self.process is not None
        self.send(signal.SIGTERM)
        code = self.process.wait(START_S)
        self.process = None
        return code


@dataclass
class Deployment:
    """Processes that share a database, a broker and a store.

    Attributes:
        folder: for logs and data folders.
        settings: what all processes are told, by setting.
        roles: those started so far, by name.
    """

    folder: Path
    settings: dict[str, str]
    roles: dict[str, Role] = field(default_factory=dict)

    def add(self, name: str, *arguments: str, module: str = "servicex_server", **settings: str) -> Role:
        """Starts a process under that name."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SERVICEX_")}
        own = {"data_dir": str(self.folder / name), **self.settings, **settings}
        role = Role(
            arguments,
            {**clean, **{f"SERVICEX_{key.upper()}": value for key, value in own.items()}},
            self.folder / f"{name}.log",
            module,
        )
        role.start()
        self.roles[name] = role
        return role

    def add_app(self, name: str, port: int = 0, **settings: str) -> Role:
        """An app that is ready to serve."""
        role = self.add(name, "app", "--port", str(port), **settings)
        role.wait_for("ServiceX server is ready")
        return role

    def add_worker(self, name: str, slots: int = 2, **settings: str) -> Role:
        """A worker that is ready to work."""
        role = self.add(name, "worker", "--workers", str(slots), **settings)
        role.wait_for("worker.ready")
        return role

    def url_of(self, name: str) -> str:
        """Where an app serves."""
        lines = [line for line in self.roles[name].text().splitlines() if "server is ready" in line]
        return lines[-1].split()[-1]

    def run(self, *arguments: str) -> str:
        """What a command of `servicex-server` says, told the same settings."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("SERVICEX_")}
        own = {"data_dir": str(self.folder / "command"), **self.settings}
        done = subprocess.run(
            (sys.executable, "-m", "servicex_server", *arguments),
            env={**clean, **{f"SERVICEX_{key.upper()}": value for key, value in own.items()}},
            capture_output=True,
            text=True,
            timeout=START_S,
            check=True,
        )
        return done.stdout

    def close(self) -> None:
        """Ends all processes."""
        for role in self.roles.values():
            role.kill()


@contextmanager
def a_deployment(
    folder: Path,
    *,
    database_url: str,
    queue_url: str,
    store: Mapping[str, str],
    inputs: Path,
    **settings: str,
) -> Iterator[Deployment]:
    """A deployment without processes, over a database that has its schema.

    Args:
        store: the settings of the store.
        inputs: folder below which files may be read.
    """
    told = {
        "database_url": database_url,
        "queue_url": queue_url,
        "queue_prefix": f"sx{uuid.uuid4().hex[:8]}",
        "signing_secret": uuid.uuid4().hex,
        "local_roots": str(inputs),
        "log_level": "INFO",
        **store,
        **settings,
    }
    deployment = Deployment(folder, told)
    deployment.run("db", "upgrade")
    try:
        yield deployment
    finally:
        deployment.close()


def submit(url: str, token: str, **body: object) -> str:
    """Id of a request for files."""
    answer = httpx.post(
        f"{url}/servicex/transformation",
        json={"result-destination": "object-store", "result-format": "parquet", "codegen": "uproot", **body},
        headers={"Authorization": f"Bearer {token}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])
