"""Transactions off the event loop: many readers, and for SQLite one writer that commits in groups.

A query or change is a plain function whose first argument is a connection. It runs in a thread, whole:
one hop per transaction instead of several per statement, which is what lets SQLite keep up with many
clients. Changes must touch nothing but their connection, because they are run more than once: one by one
after their group failed, after a deadlock, and after the connection broke. In the last case the first run
may be committed all the same, since the word of it can get lost, so a change has to find that out from the
rows, or its caller has to keep what the first run returned.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from servicex_server.db.engine import (
    build_engine,
    in_one_line,
    is_outage,
    parse_url,
    pause_before_retry,
    unavailable,
)
from servicex_server.errors import DatabaseUnavailable
from servicex_server.telemetry.metrics import DB_WRITE_SECONDS

logger = logging.getLogger(__name__)

Transaction = Connection
"""What a query or change works on; others name it by this, so that SQLAlchemy stays in here."""

P = ParamSpec("P")
T = TypeVar("T")

_GROUP = 64
"""Changes of one SQLite commit: enough that a commit's cost vanishes, few enough that nobody waits long.

PostgreSQL lets several writers commit at once and groups their waits for the disk by itself. Groups of ours
were no faster there (docs/decisions/0020), and would hold the locks of many requests at once.
"""

_TELL_EVERY_S = 10.0
"""How often the log hears why the database is away, however many ask for it."""


class Database:
    """An open database. Use as an async context manager, or call `close`."""

    def __init__(
        self,
        url: str,
        *,
        readers: int = 4,
        writers: int = 4,
        busy_timeout_s: float = 10.0,
        statement_timeout_s: float = 60.0,
        patience_s: float = 30.0,
    ) -> None:
        """Opens the database at a SQLAlchemy URL; nothing is read yet.

        Args:
            url: `sqlite:///folder/file.db` or `postgresql://...`.
            readers: connections for reading.
            writers: connections for changes; SQLite always has one.
            busy_timeout_s: how long a change waits for another process that writes (the same rows).
            statement_timeout_s: how long PostgreSQL may work on one statement.
            patience_s: how long a query or change waits for a free connection before it is refused.
        """
        self.url = url
        is_sqlite = parse_url(url).get_backend_name() == "sqlite"
        if is_sqlite:
            writers = 1
        build = partial(
            build_engine, url, busy_timeout_s=busy_timeout_s, statement_timeout_s=statement_timeout_s
        )
        self._read_engine = build(size=readers, read_only=True)
        self._write_engine = build(size=writers, read_only=False)
        self._patience_s = patience_s
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="db-read")
        self._changes: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._writers = [
            threading.Thread(
                target=self._write_forever,
                args=(_GROUP if is_sqlite else 1,),
                name=f"db-write-{n}",
                daemon=True,
            )
            for n in range(writers)
        ]
        self._is_closed = False
        self._told_s = -_TELL_EVERY_S
        self._commits = _Commits()
        for thread in self._writers:
            thread.start()

    @property
    def version(self) -> int | None:
        """A number that grows with each commit of this process; None while one is on its way.

        What was read after asking is still true, as far as this process goes, while the answer is the same.
        """
        return self._commits.version

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
        run = partial(self._read, partial(_bind, query, args, kwargs), time.monotonic())
        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(
        self, change: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """What the change returns, after it is committed. The change may be run more than once.

        Raises:
            DatabaseUnavailable: the database cannot be reached, or another process keeps it locked. If the
                connection broke, the change may be stored all the same.
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

    def _read(self, query: Callable[[Connection], T], asked_s: float) -> T:
        self._check_patience(asked_s)
        tries = 0
        while True:
            tries += 1
            try:
                with self._read_engine.connect() as connection:
                    return query(connection)
            except DBAPIError as error:
                self._wait_or_raise(error, tries)

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
                values = self._commit(lambda connection: [change.run(connection) for change in wanted])
            except Exception as error:  # noqa: BLE001  each change gets its own error below
                logger.debug("a group of %d changes is run one by one after %s", len(wanted), error)
            else:
                for change, value in zip(wanted, values, strict=True):
                    change.future.set_result(value)
                return
        for change in wanted:
            try:
                value = self._write_alone(change)
            except BaseException as error:  # noqa: BLE001  it belongs to whoever asked for the change
                change.future.set_exception(error)
            else:
                change.future.set_result(value)

    def _write_alone(self, change: _Change) -> Any:
        self._check_patience(change.asked_s)
        tries = 0
        while True:
            tries += 1
            try:
                return self._commit(change.run)
            except DBAPIError as error:
                self._wait_or_raise(error, tries)

    def _wait_or_raise(self, error: DBAPIError, tries: int) -> None:
        pause_s = pause_before_retry(error, tries)
        if pause_s is not None:
            logger.info("a transaction is tried again after: %s", in_one_line(error))
            time.sleep(pause_s)
            return
        if not is_outage(error):
            raise error
        now_s = time.monotonic()
        if now_s - self._told_s > _TELL_EVERY_S:
            self._told_s = now_s
            logger.warning("database.unavailable: %s", in_one_line(error))
        raise unavailable(error) from error.orig

    def _commit(self, change: Callable[[Connection], T]) -> T:
        with self._write_engine.connect() as connection, connection.begin() as transaction:
            value = change(connection)
            with self._commits.one():
                transaction.commit()
        return value

    def _check_patience(self, asked_s: float) -> None:
        """Refuses what waited for long: a silent server would be waited for once per caller in the line."""
        if time.monotonic() - asked_s > self._patience_s:
            message = f"the database was busy or silent for {self._patience_s:g} s; try again later"
            raise DatabaseUnavailable(message)


class _Commits:
    """Counts commits from before they begin until they are through, or have failed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun = 0
        self._ended = 0

    @property
    def version(self) -> int | None:
        with self._lock:
            return self._begun if self._begun == self._ended else None

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self._begun += 1
        try:
            yield
        finally:
            with self._lock:
                self._ended += 1


class _Change:
    """A change on its way to a writer."""

    __slots__ = ("asked_s", "future", "run")

    def __init__(self, run: Callable[[Connection], Any], future: Future[Any]) -> None:
        self.run = run
        self.future = future
        self.asked_s = time.monotonic()


def _bind(
    function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any], connection: Connection
) -> T:
    return function(connection, *args, **kwargs)
