"""A real `servicex-server up` in a process group of its own, for tests that go through the public door."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import yaml


@dataclass
class ServerProcess:
    """Starts on entry (waits until the server says it is ready), stops on exit.

    Attributes:
        data_dir: its data folder; start again on the same one to test resuming.
        flags: further command-line flags.
        environment: further environment variables.
        cwd: folder to start in.
    """

    data_dir: Path
    flags: tuple[str, ...] = ()
    environment: dict[str, str] | None = None
    cwd: Path | None = None
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def __enter__(self) -> Self:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SERVICEX_")}
        self.data_dir.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "servicex_server", "up", "--port", "0"),
                    *("--data-dir", str(self.data_dir)),
                    *self.flags,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment | (self.environment or {}),
                cwd=self.cwd,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("ServiceX server"):
                self.url = line.split()[-1]
                return self
        message = f"the server did not start: {self.log.read_text()}"
        raise AssertionError(message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        return self.data_dir.with_suffix(".log")

    @property
    def client_config(self) -> Path:
        return self.data_dir / "servicex.yaml"

    @property
    def token(self) -> str:
        content = yaml.safe_load(self.client_config.read_text())
        return str(content["api_endpoints"][0]["token"])

    def client(self, token: str | None = None) -> httpx.Client:
        """An HTTP client that brings the owner's token (or the given one)."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def wait_finished(self, request_id: str, token: str | None = None) -> dict[str, object]:
        """The status of the request in a terminal state; polls are held by the server, so few are made."""
        with self.client(token) as client:
            end = time.monotonic() + 120
            while True:
                answer = client.get(f"/servicex/transformation/{request_id}")
                assert answer.status_code == 200, answer.text
                status: dict[str, object] = answer.json()
                if status["status"] in {"Complete", "Fatal", "Canceled", "Bad Dataset"}:
                    return status
                assert time.monotonic() < end, status

    def wait_complete(self, request_id: str, token: str | None = None) -> dict[str, object]:
        """The status of the request once it is complete; no other end will do."""
        status = self.wait_finished(request_id, token)
        assert status["status"] == "Complete", status
        return status

    def stop(self) -> int:
        """Asks the server to stop, as Ctrl-C does, and waits until it has."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self._reap()
        self.process = None
        return code

    def kill(self) -> None:
        """`kill -9` of the server itself; its workers must notice and go."""
        assert self.process is not None
        self.process.kill()
        self._reap()
        self.process = None

    def _reap(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
