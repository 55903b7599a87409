"""Apps, workers and a sweeper on the services; what dies is started again soon, as Kubernetes would."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import psutil
import psycopg
from botocore.exceptions import BotoCoreError, ClientError

from chaos.services import Services, tree_of
from deployment import Deployment, Role, a_deployment
from rabbitmq_server import free_ports

APPS, WORKERS, SWEEPERS = ("app1", "app2"), ("worker1", "worker2", "worker3"), ("sweeper1",)
_READY = {"app": "ServiceX server is ready", "worker": "worker.ready", "sweeper": "sweeper is ready"}
_LOOK_S = 0.05
_STOP_S = 30.0
_OUTAGE_S = 30.0

T = TypeVar("T")


@dataclass
class Fleet:
    """The processes of one run.

    Attributes:
        expected: roles that a fault has ended; they may be gone with any exit code.
        complaints: exits that nobody asked for.
        finder: the last one that was started.
    """

    services: Services
    deployment: Deployment
    database_url: str
    prefix: str
    ports: Mapping[str, int]
    internal_ports: Mapping[str, int]
    token: str
    dice: random.Random
    expected: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)
    restarts: Counter[str] = field(default_factory=Counter)
    finder: subprocess.Popen[str] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def url_of(self, app: str) -> str:
        return f"http://127.0.0.1:{self.ports[app]}"

    def client(self, app: str, token: str | None = None) -> httpx.Client:
        """An HTTP client of a user."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url_of(app), headers=headers, timeout=60)

    def query(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Rows of the database, seen past the server."""
        return self.persistently(lambda: self._query(statement, values))

    def _query(self, statement: str, values: Sequence[object]) -> list[tuple[object, ...]]:
        with psycopg.connect(self.database_url, connect_timeout=5) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def persistently(self, ask: Callable[[], T]) -> T:
        """The answer of a service that may be broken just now."""
        end = time.monotonic() + _OUTAGE_S
        while True:
            try:
                return ask()
            except (psycopg.OperationalError, BotoCoreError, ClientError):
                if time.monotonic() > end:
                    raise
                time.sleep(_LOOK_S)

    def leader(self) -> str | None:
        """The role that leads, or led last."""
        try:
            ((holder,),) = self._query("SELECT holder FROM lease", ())
        except (psycopg.Error, ValueError):
            return None
        pid = int(str(holder).split(":")[-2])
        for name, role in self.deployment.roles.items():
            if role.process is not None and role.process.pid == pid:
                return name
        return None

    def list_keys(self) -> set[str]:
        """Keys of all objects in the store."""
        url = self.deployment.settings["store_url"]
        if not url.startswith("s3:"):
            objects = Path(url) / "objects"
            return {str(path.relative_to(objects)) for path in objects.rglob("*") if path.is_file()}
        return self.persistently(lambda: self.services.list_keys(self.prefix))

    def end(self, name: str, number: signal.Signals) -> bool:
        """Sends a signal that ends the role's main process; whether it was there."""
        with self.lock:
            role = self.deployment.roles[name]
            if role.process is None or role.process.poll() is not None:
                return False
            self.expected.add(name)
            role.send(number)
            return True

    def processes_of(self, name: str) -> list[psutil.Process]:
        """The role's processes."""
        with self.lock:
            role = self.deployment.roles[name]
            return [] if role.process is None else tree_of(role.process.pid)

    def keep(self) -> None:
        """Starts again what has ended; until `close`."""
        while not self._is_over.wait(_LOOK_S):
            for name, role in list(self.deployment.roles.items()):
                if role.process is not None and role.process.poll() is not None:
                    self._bury(name, role)

    def _bury(self, name: str, role: Role) -> None:
        with self.lock:
            assert role.process is not None
            code = role.process.returncode
            if name not in self.expected:
                self.complaints.append(f"{name} ended by itself with code {code}")
            self.expected.discard(name)
            role.kill()  # what is left of its process group
        if not self._is_over.wait(self.dice.uniform(0.2, 1.5)):
            with self.lock:
                self.restarts[name] += 1
                role.start()

    def stop(self) -> list[str]:
        """Stops everything in order, as a deployment that is taken down; complaints about how it went."""
        self._is_over.set()
        with self.lock:
            running = {name: role for name, role in self.deployment.roles.items() if role.process is not None}
            for role in running.values():
                if role.process is not None and role.process.poll() is None:
                    role.send(signal.SIGTERM)
        return [problem for name, role in running.items() for problem in _wait_for_end(name, role)]


def _wait_for_end(name: str, role: Role) -> Iterator[str]:
    assert role.process is not None
    end = time.monotonic() + _STOP_S
    while role.process.poll() is None and time.monotonic() < end:
        time.sleep(_LOOK_S)
    code = role.process.returncode
    if code is None:
        yield f"{name} does not end within {_STOP_S:g} s after SIGTERM"
    # A process that was just started has no handler yet.
    elif code not in {0, -signal.SIGTERM}:
        yield f"{name} ended with code {code} after SIGTERM"
    role.kill()


@contextmanager
def running_fleet(
    services: Services,
    folder: Path,
    seed: int,
    inputs: Path,
    *,
    store: Mapping[str, str] | None = None,
    workers: Sequence[str] = WORKERS,
    finders: str = "chaos",
    **settings: str,
) -> Iterator[Fleet]:
    """A deployment with a database, queues and a store of its own, that is ready to work.

    Args:
        folder: for logs.
        seed: of how long the dead stay dead.
        store: settings of the store; None for the services' one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = services.postgres.create()
    prefix = f"{folder.name}-{time.time_ns():x}"
    n_apps = len(APPS)
    numbers = free_ports(2 * n_apps)
    ports = dict(zip(APPS, numbers[:n_apps], strict=True))
    internal_ports = dict(zip(APPS, numbers[n_apps:], strict=True))
    with a_deployment(
        folder,
        database_url=database,
        queue_url=services.broker.url,
        store=store or services.store_settings(prefix),
        inputs=inputs,
        allowed_private_hosts="127.0.0.1",
        broker_finders=finders,
        **settings,
    ) as deployment:
        for name, port in ports.items():
            deployment.add(name, "app", "--port", str(port), internal_port=str(internal_ports[name]))
        for name in workers:
            deployment.add(name, "worker", "--workers", "1")
        for name in SWEEPERS:
            # It listens to none, but tells finders where the apps do.
            deployment.add(name, "sweeper", internal_port=str(internal_ports[APPS[0]]))
        token = deployment.run("token", "create", "marie").strip()
        for role in deployment.roles.values():
            role.wait_for(_READY[role.arguments[0]])
        fleet = Fleet(
            services, deployment, database, prefix, ports, internal_ports, token, random.Random(seed)
        )
        keeper = threading.Thread(target=fleet.keep, daemon=True)
        keeper.start()
        try:
            yield fleet
        finally:
            fleet._is_over.set()
            keeper.join()
    services.postgres.drop(database)
