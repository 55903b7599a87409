"""Transactions off the event loop: many readers, and for SQLite one writer that commits in groups.

A query or change is a plain function whose first argument is a connection. It runs in a thread, whole:
one hop per transaction instead of several per statement, which is what lets SQLite keep up with many
clients. Changes must touch nothing but their connection, because a group that fails is run again one by one.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeGuard, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from servicex_server.errors import ConfigurationError, DatabaseUnavailable
from servicex_server.telemetry.metrics import DB_WRITE_SECONDS

logger = logging.getLogger(__name__)

Transaction = Connection
"""What a query or change works on; others name it by this, so that SQLAlchemy stays in here."""

P = ParamSpec("P")
T = TypeVar("T")

_GROUP = 64
"""Changes of one SQLite commit: enough that a commit's cost vanishes, few enough that nobody waits long."""


class Database:
    """An open database. Use as an async context manager, or call `close`."""

    def __init__(self, url: str, *, readers: int = 4, writers: int = 4, busy_timeout_s: float = 10.0) -> None:
        """Opens the database at a SQLAlchemy URL; nothing is read yet.

        Args:
            url: `sqlite:///folder/file.db` or `postgresql://...`.
            readers: connections for reading.
            writers: connections for changes; SQLite always has one.
            busy_timeout_s: how long SQLite waits for another process that writes.
        """
        self.url = url
        is_sqlite = make_url(normalise_url(url)).get_backend_name() == "sqlite"
        self._read_engine = build_engine(url, size=readers, busy_timeout_s=busy_timeout_s, read_only=True)
        self._write_engine = build_engine(
            url, size=1 if is_sqlite else writers, busy_timeout_s=busy_timeout_s, read_only=False
        )
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._writers = [
            threading.Thread(
                target=self._write_forever,
                args=(_GROUP if is_sqlite else 1,),
                name=f"db-write-{n}",
                daemon=True,
            )
            for n in range(1 if is_sqlite else writers)
        ]
        self._is_closed = False
        for thread in self._writers:
            thread.start()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def read(
        self, query: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the query returns, seen in one consistent transaction.

        Raises:
            DatabaseUnavailable: the database cannot be reached.
        """
        run = partial(_read, self._read_engine, partial(_bind, query, args, kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the change returns, after it is committed. The change may be run more than once.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or another process keeps it locked.
        """
        if self._is_closed:
            message = "the database is closed"
            raise DatabaseUnavailable(message)
        future: Future[T] = Future()
        asked_s = time.perf_counter()
        self._changes.put(_Change(partial(_bind, change, args, kwargs), future))
        value = await asyncio.wrap_future(future)
        DB_WRITE_SECONDS.observe(time.perf_counter() - asked_s)
        return value

    async def close(self) -> None:
        """Finishes the changes that were asked for, then lets go of the connections."""
        if self._is_closed:
            return
        self._is_closed = True
        for _ in self._writers:
            self._changes.put(None)
        for thread in self._writers:
            await asyncio.to_thread(thread.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _write_forever(self, group_size: int) -> None:
        while True:
            change = self._changes.get()
            if change is None:
                return
            group = [change]
            is_last = False
            with suppress(queue.Empty):
                while len(group) < group_size and not is_last:
                    following = self._changes.get_nowait()
                    if following is None:
                        is_last = True
                    else:
                        group.append(following)
            self._write_group(group)
            if is_last:
                return

    def _write_group(self, group: list[_Change]) -> None:
        """Commits the changes together; if one fails, each by itself, so that only that one is refused."""
        wanted = [change for change in group if change.future.set_running_or_notify_cancel()]
        if len(wanted) > 1:
            try:
                with self._write_engine.begin() as connection:
                    values = [change.run(connection) for change in wanted]
            except Exception as error:  # noqa: BLE001  each change gets its own error below
                logger.debug("a group of %d changes is run one by one after %s", len(wanted), error)
            else:
                for change, value in zip(wanted, values, strict=True):
                    change.future.set_result(value)
                return
        for change in wanted:
            self._write_alone(change)

    def _write_alone(self, change: _Change) -> None:
        try:
            with self._write_engine.begin() as connection:
                value = change.run(connection)
        except BaseException as error:  # noqa: BLE001  it belongs to whoever asked for the change
            change.future.set_exception(_unavailable(error) if _is_outage(error) else error)
        else:
            change.future.set_result(value)


class _Change:
    """A change on its way to a writer."""

    __slots__ = ("future", "run")

    def __init__(self, run: Callable[[Connection], Any], future: Future[Any]) -> None:
        self.run = run
        self.future = future


def normalise_url(url: str) -> str:
    """The URL with the driver we use, whatever driver it names.

    >>> normalise_url("postgresql://host/name"), normalise_url("sqlite+aiosqlite:///x.db")
    ('postgresql+psycopg://host/name', 'sqlite:///x.db')
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend not in {"sqlite", "postgresql"}:
        message = f"the database URL starts with {backend!r}; supported are sqlite:/// and postgresql://"
        raise ConfigurationError(message)
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        message = "the database URL names no file; use for instance sqlite:///folder/servicex.db"
        raise ConfigurationError(message)
    driver = "sqlite" if backend == "sqlite" else "postgresql+psycopg"
    return parsed.set(drivername=driver).render_as_string(hide_password=False)


def build_engine(url: str, *, size: int, busy_timeout_s: float, read_only: bool) -> Engine:
    """An engine whose SQLite connections begin transactions themselves, and never write if `read_only`.

    Its errors do not show parameters: they end in logs, and some are secret keys and digests of tokens.
    """
    address = normalise_url(url)
    if not address.startswith("sqlite"):
        return create_engine(
            address, pool_size=size, max_overflow=0, pool_pre_ping=True, hide_parameters=True
        )
    # sqlite3's own transaction handling begins too late (at the first change) and as a reader, which
    # then fails at once if somebody else writes; so it is switched off and BEGIN is ours.
    engine = create_engine(
        address,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"timeout": busy_timeout_s, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_set_pragmas, read_only))
    event.listen(engine, "begin", partial(_begin, "BEGIN" if read_only else "BEGIN IMMEDIATE"))
    return engine


def _set_pragmas(read_only: bool, connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    if read_only:
        cursor.execute("PRAGMA query_only=ON")
    cursor.close()


def _begin(statement: str, connection: Connection) -> None:
    connection.exec_driver_sql(statement)


def _bind(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection
) -> T:
    return function(connection, *args, **kwargs)


def _read(engine: Engine, query: Callable[[Connection], T]) -> T:
    try:
        with engine.connect() as connection:
            return query(connection)
    except DBAPIError as error:
        if _is_outage(error):
            raise _unavailable(error) from error.orig
        raise


def _is_outage(error: BaseException) -> TypeGuard[DBAPIError]:
    """Whether waiting may help; with SQLite an interface error is a value that it never takes."""
    if isinstance(error, InterfaceError):
        return not isinstance(error.orig, sqlite3.Error)
    return isinstance(error, OperationalError)


def _unavailable(error: DBAPIError) -> DatabaseUnavailable:
    """Names the cause without the statement, whose parameters may hold secrets."""
    unavailable = DatabaseUnavailable(f"the database does not answer: {error.orig}; try again later")
    unavailable.__cause__ = error.orig
    return unavailable
