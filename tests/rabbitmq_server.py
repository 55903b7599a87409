"""A real RabbitMQ on 127.0.0.1 for tests: Debian's, in a folder and an Erlang network of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's wrapper on the search path works for the system's instance only."""

START_S = 60.0
USER, PASSWORD = "tester", "pass/word"

_CONFIG = """\
listeners.tcp.default = 127.0.0.1:{port}
default_user = {user}
default_pass = {password}
loopback_users = none
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
log.file.level = info
{more}
"""
_ERLANG = "+S 2:2 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"


def require_rabbitmq() -> None:
    """Skips the test, with a reason, where there is no broker; in CI that is an error."""
    if not PROGRAM.exists():
        message = "missing for AMQP tests: RabbitMQ (apt-get install rabbitmq-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@dataclass
class RabbitServer:
    """A broker that tests may kill, stop, wipe and start again on the same port.

    Attributes:
        config: further lines of `rabbitmq.conf`.
        advanced: `advanced.config`, in Erlang's terms, for what the other has no words for.
    """

    config: str = ""
    advanced: str = "[]."
    folder: Path = field(init=False)
    port: int = field(init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        # Not below pytest's folder: paths of Erlang's sockets and files are bounded.
        self.folder = Path(tempfile.mkdtemp(prefix="rabbitmq-test-"))
        try:
            self.port, self._epmd_port, self._dist_port = free_ports(3)
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._kill_epmd()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self) -> str:
        return f"amqp://{USER}:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{self.port}/%2F"

    @property
    def log(self) -> str:
        return (self.folder / "console").read_text(errors="replace")

    def start(self) -> None:
        """Starts the broker, and returns when it takes connections."""
        config = self.folder / "rabbitmq.conf"
        config.write_text(_CONFIG.format(port=self.port, user=USER, password=PASSWORD, more=self.config))
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "env").write_text("")
        (self.folder / "advanced.config").write_text(f"{self.advanced}\n")
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                [str(PROGRAM)],
                env=self._environment(),
                cwd=self.folder,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()

    def kill(self) -> None:
        """Ends the broker as a power cut would (SIGKILL)."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stops all its processes (SIGSTOP) without closing a connection."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets a frozen broker go on."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)

    def wait_until_kept(self, *queues: str) -> None:
        """Returns when quorum queues that were just declared would survive `kill`.

        RabbitMQ 3.10 has their names in a table that it writes after half a second; a queue whose name was
        not written comes back without a leader, and never answers.
        """
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            (table,) = self.folder.glob("mnesia/*/quorum/*/names.dets")
            content = table.read_bytes()
            if all(f"%2F_{name}".encode() in content for name in queues):
                return
            time.sleep(0.05)
        message = f"the broker does not write the names of {queues}"
        raise RuntimeError(message)

    def wipe(self) -> None:
        """Forgets everything that a killed broker had on disk."""
        shutil.rmtree(self.folder / "mnesia")

    def _environment(self) -> dict[str, str]:
        folder = self.folder
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": "test@localhost",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "env"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "mnesia" / "feature_flags"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG,
        }

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        end = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe:
                    probe.settimeout(2.0)
                    probe.sendall(b"AMQP\x00\x00\x09\x01")
                    if probe.recv(1):
                        return
            except OSError:
                pass
            time.sleep(0.05)
        message = f"RabbitMQ does not start: {self.log[-2000:]}"
        raise RuntimeError(message)

    def _kill_epmd(self) -> None:
        """Erlang's port mapper is a daemon of its own session; it is known by its port."""
        for status in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"ERL_EPMD_PORT={self._epmd_port}\0".encode() in status.read_bytes():
                    os.kill(int(status.parent.name), signal.SIGKILL)


@contextlib.contextmanager
def running_rabbitmq(config: str = "", advanced: str = "[].") -> Iterator[RabbitServer]:
    """A broker for a module or a session; isolate tests by a prefix of their queues' names."""
    require_rabbitmq()
    with RabbitServer(config, advanced) as server:
        yield server


def free_ports(n: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(n)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
