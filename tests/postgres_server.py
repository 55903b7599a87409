"""A real PostgreSQL on 127.0.0.1 for tests: Debian's programs, a folder of its own, one database per test."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_S = 20
PASSWORD = "open sesame: p@ss/w%rd"  # what an URL has to quote
_QUOTED = "open%20sesame%3A%20p%40ss%2Fw%25rd"
_TEMPLATE = "blank"
_FAST = ("fsync=off", "full_page_writes=off")
_SETTINGS = ("shared_buffers=64MB", "max_connections=80", "autovacuum_naptime=5s", "log_lock_waits=on")
_numbers = itertools.count(1)


@dataclass
class PostgresServer:
    """A server that a test may stop and start again; `create` gives a new database."""

    folder: Path
    port: int
    settings: tuple[str, ...]
    databases: list[str] = field(default_factory=list)

    def url(self, name: str, *, host: str = "127.0.0.1", user: str = "servicex") -> str:
        """The address of a database, with the password in it."""
        return f"postgresql://{user}:{_QUOTED}@{host}:{self.port}/{name}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def create(self, *, with_schema: bool = False) -> str:
        """The URL of a new database, empty or with the current schema."""
        name = f"t{next(_numbers)}"
        if with_schema and _TEMPLATE not in self.databases:
            self._run(f"CREATE DATABASE {_TEMPLATE} OWNER servicex")
            self.databases.append(_TEMPLATE)
            from servicex_server.db import schema  # noqa: PLC0415  collecting tests needs no database

            schema.upgrade(self.url(_TEMPLATE))
        self._run(
            f"CREATE DATABASE {name} OWNER servicex TEMPLATE {_TEMPLATE if with_schema else 'template0'}"
        )
        self.databases.append(name)
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.rpartition("/")[2]
        self._run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self.databases.remove(name)

    def break_connections(self, url: str) -> int:
        """Ends every session of the database, as an administrator would; returns how many there were."""
        name = url.rpartition("/")[2]
        kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{}'"
        return int(self._run(kill.format(name)))

    def start(self) -> None:
        options = [f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-k {self.folder}"]
        options += [f"-c {setting}" for setting in (*_SETTINGS, *self.settings)]
        _pg(self.folder, "pg_ctl", "-w", "-s", "-t", str(START_S), "-l", str(self.folder / "log"),
            "-o", " ".join(options), "start")  # fmt: skip

    def stop(self, mode: str = "fast") -> None:
        """Stops it: `fast` ends sessions with a word, `immediate` is a crash."""
        _pg(self.folder, "pg_ctl", "-w", "-s", "-t", str(START_S), "-m", mode, "stop")

    def _run(self, statement: str, database: str = "postgres") -> str:
        import psycopg  # noqa: PLC0415  see require_postgres

        address = f"host={self.folder} port={self.port} user=postgres dbname={database}"
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
        return "" if row is None else str(row[0])


def require_postgres() -> None:
    """Skips the test, with a reason, where there is no server; in CI that is an error."""
    missing = []
    if _find("initdb") is None:
        missing.append("the program initdb (apt-get install postgresql)")
    elif os.geteuid() == 0 and not _has_user("postgres"):
        missing.append("a user called postgres, because the server refuses to run as root")
    try:
        import psycopg  # noqa: F401, PLC0415  (only to see whether it is there)
    except ImportError:
        missing.append("the Python package psycopg[binary]")
    if missing:
        message = f"missing for PostgreSQL tests: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def running_postgres(*, durable: bool = False, settings: tuple[str, ...] = ()) -> Iterator[PostgresServer]:
    """A new server; only a `durable` one waits for its disk, which benchmarks want and tests do not."""
    # Not below pytest's folder: the server runs as another user and could not pass the folders above.
    folder = Path(tempfile.mkdtemp(prefix="postgres-test-"))
    server = PostgresServer(folder, _free_port(), settings if durable else (*_FAST, *settings))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        # Local sessions need no password; those over TCP, as the server's, do.
        _pg(folder, "initdb", "-U", "postgres", "-N", "--no-instructions",
            "--auth-local=trust", "--auth-host=scram-sha-256")  # fmt: skip
        server.start()
        server._run(f"CREATE ROLE servicex LOGIN PASSWORD '{PASSWORD}'")
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop("immediate")
        shutil.rmtree(folder, ignore_errors=True)


def _pg(folder: Path, program: str, *arguments: str) -> None:
    command = [str(_find(program)), "-D", str(folder / "data"), *arguments]
    if os.geteuid() == 0:
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", *command]
    environment = {**os.environ, "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    # The server would inherit a pipe and keep it open.
    with (folder / "output").open("w") as output:
        subprocess.run(
            command, env=environment, cwd=folder, stdout=output, stderr=output, timeout=60, check=True
        )


def _find(program: str) -> Path | None:
    """Debian keeps each version's programs outside of PATH; the newest is taken."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which(program)
    return found[-1] if found else Path(on_path) if on_path else None


def _has_user(name: str) -> bool:
    import pwd  # noqa: PLC0415  only where there are users

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
