"""Run `servicex-server up` beside a script, and stop it whatever happens to the script.

with local_server(folder, local_roots=[data]) as server:
    deliver(spec, config_path=str(server.client_config))
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

READY_WITHIN_S = 60.0
STOPPED_WITHIN_S = 20.0


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that answers, and how to reach it."""

    url: str
    data_dir: Path
    process: subprocess.Popen[bytes]
    seconds_to_ready: float

    @property
    def client_config(self) -> Path:
        """The file to give to the official client."""
        return self.data_dir / "servicex.yaml"

    @property
    def token(self) -> str | None:
        """The token in that file."""
        token = yaml.safe_load(self.client_config.read_text())["api_endpoints"][0].get("token")
        return str(token) if token else None

    def http(self) -> httpx.Client:
        """A client that is signed in, for what the official client does not show."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30.0)


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path, log: Path) -> str:
    """Return the URL as soon as `/readyz` says yes."""
    give_up = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            message = f"the server ended with exit code {process.returncode}:\n{log.read_text()[-4000:]}"
            raise RuntimeError(message)
        try:
            known = json.loads((data_dir / "server.json").read_text())
            # A server that was killed leaves its address behind.
            if known["pid"] == process.pid and httpx.get(f"{known['url']}/readyz").is_success:
                return str(known["url"])
        except (OSError, ValueError, httpx.TransportError):
            pass
        time.sleep(0.01)
    message = f"the server is not ready after {READY_WITHIN_S:.0f} s:\n{log.read_text()[-4000:]}"
    raise RuntimeError(message)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask as Ctrl-C does; end the whole process group if that does not help."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def stop_on_sigterm() -> None:
    """Let SIGTERM end the script as Ctrl-C does, so that its server is stopped too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


@contextmanager
def local_server(
    data_dir: Path,
    *,
    local_roots: Sequence[Path],
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    module: str = "servicex_server",
) -> Iterator[LocalServer]:
    """Yield a running server on a free port of 127.0.0.1.

    Args:
        data_dir: folder for its database, results and configuration.
        local_roots: folders below which it may read input files.
        options: further options of `servicex-server up`.
        environment: further settings, as `SERVICEX_...` variables.
        module: whose `up` it is.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir / "server.log"
    command = [sys.executable, "-m", module, "up", "--port", "0", "--data-dir", str(data_dir)]
    command += [part for root in local_roots for part in ("--local-root", str(root))]
    started = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        url = _wait_until_ready(process, data_dir, log)
        yield LocalServer(url, data_dir, process, time.monotonic() - started)
    finally:
        _stop(process)
