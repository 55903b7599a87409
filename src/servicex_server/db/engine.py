"""Connections: how each database is spoken to, and what its errors mean.

Every wait has an end: for a connection, a lock, a statement, an answer. No message or error shows a
password, or a value that was to be stored.
"""

from __future__ import annotations

import random
import re
import sqlite3
from functools import partial
from typing import Any, TypeGuard

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from servicex_server.db.document import read_json, write_json
from servicex_server.errors import ConfigurationError, DatabaseUnavailable

_CONFLICTS = frozenset({"40001", "40P01"})
"""PostgreSQL's codes for a serialization failure and a deadlock: nothing was stored, another try may do."""
_READ_ONLY = "25006"
"""PostgreSQL's code for a change on a server that takes none: a primary that became a standby."""
_MOST_TRIES = 6
_CONFLICT_PAUSE_S = 0.02

_LIBPQ = {
    "application_name": "servicex-server",
    "connect_timeout": 5,
    # A peer that vanished without a word is noticed within half a minute, asked or not.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""What libpq is told, unless the URL says otherwise."""


def parse_url(url: str) -> URL:
    """The URL with the driver we use, whatever driver it names.

    Raises:
        ConfigurationError: it is none, or of a database that is not supported; the text holds no password.

    >>> parse_url("sqlite+aiosqlite:///x.db").drivername, parse_url("postgres://host/name").drivername
    ('sqlite', 'postgresql+psycopg')
    """
    try:
        parsed = make_url(re.sub("^postgres(?=[:+])", "postgresql", url))  # as libpq allows it too
        backend = parsed.get_backend_name()
    except (ArgumentError, ValueError):
        message = (
            "the database URL cannot be read; use sqlite:///folder/servicex.db or "
            "postgresql://user:password@host:5432/name, with special characters of the password as %XX"
        )
        # Not chained: the cause may quote the URL, or a piece of the password taken for a port.
        raise ConfigurationError(message) from None
    if backend not in {"sqlite", "postgresql"}:
        message = f"the database URL starts with {backend!r}; supported are sqlite:/// and postgresql://"
        raise ConfigurationError(message)
    if backend == "sqlite" and parsed.database in {None, "", ":memory:"}:
        message = "the database URL names no file; use for instance sqlite:///folder/servicex.db"
        raise ConfigurationError(message)
    return parsed.set(drivername="sqlite" if backend == "sqlite" else "postgresql+psycopg")


def show_url(url: str) -> str:
    """The URL for messages and logs: no password, no options, which may hold one too.

    >>> show_url("postgresql://marie:secret@host:5432/servicex?password=secret")
    'postgresql://marie:***@host:5432/servicex'
    """
    parsed = parse_url(url)
    return parsed.set(drivername=parsed.get_backend_name(), query={}).render_as_string(hide_password=True)


def build_engine(
    url: str,
    *,
    size: int,
    busy_timeout_s: float,
    read_only: bool,
    statement_timeout_s: float | None = None,
) -> Engine:
    """An engine with at most `size` connections.

    SQLite's begin their transactions themselves; none writes if `read_only`, and then a transaction sees one
    state of the database from its first query to its last. Errors show no parameters: they end in logs,
    and some are secret keys and digests of tokens.

    Args:
        url: as `parse_url` takes.
        size: connections.
        busy_timeout_s: how long a change waits for another that holds the same lock.
        read_only: for queries alone.
        statement_timeout_s: how long PostgreSQL may work on one statement; None for no bound.
    """
    address = parse_url(url)
    if address.get_backend_name() == "postgresql":
        return _build_postgresql(
            address,
            size=size,
            read_only=read_only,
            timeouts_s={"lock_timeout": busy_timeout_s, "statement_timeout": statement_timeout_s or 0},
        )
    # sqlite3's own transaction handling begins too late (at the first change) and as a reader, which
    # then fails at once if somebody else writes; so it is switched off and BEGIN is ours.
    engine = create_engine(
        address,
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=write_json,
        json_deserializer=read_json,
        connect_args={"timeout": busy_timeout_s, "isolation_level": None, "check_same_thread": False},
    )
    event.listen(engine, "connect", partial(_set_pragmas, read_only))
    event.listen(engine, "begin", partial(_begin, "BEGIN" if read_only else "BEGIN IMMEDIATE"))
    return engine


def _build_postgresql(address: URL, *, size: int, read_only: bool, timeouts_s: dict[str, float]) -> Engine:
    settings = {name: f"{round(1000 * value)}" for name, value in timeouts_s.items()}
    settings |= {"idle_in_transaction_session_timeout": "60000", "timezone": "UTC"}
    ours = " ".join(f"-c {name}={value}" for name, value in settings.items())
    theirs = address.query.get("options", "")
    arguments = {name: value for name, value in _LIBPQ.items() if name not in address.query}
    engine = create_engine(
        address.difference_update_query(["options"]),
        pool_size=size,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=write_json,
        json_deserializer=read_json,
        connect_args={**arguments, "options": f"{ours} {theirs}".strip()},
    )
    event.listen(engine, "handle_error", partial(_tidy_error, read_only))
    if read_only:
        event.listen(engine, "connect", _read_one_state)
    return engine


def _read_one_state(connection: Any, _record: object) -> None:
    from psycopg import IsolationLevel  # noqa: PLC0415  not installed where SQLite is enough

    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def _tidy_error(read_only: bool, context: ExceptionContext) -> None:
    """Cuts the values out of PostgreSQL's words, and leaves a server that became a standby."""
    primary = getattr(getattr(context.original_exception, "diag", None), "message_primary", None)
    if primary is None or context.sqlalchemy_exception is None:
        return
    whole = str(context.original_exception)
    # What follows the first sentence quotes the offending row: `Key (access_key)=(…) already exists`.
    context.original_exception.args = (primary,)
    wrapped = context.sqlalchemy_exception
    wrapped.args = tuple(
        part.replace(whole, primary) if isinstance(part, str) else part for part in wrapped.args
    )
    if not read_only and getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
        context.is_disconnect = True


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


def pause_before_retry(error: DBAPIError, tries: int) -> float | None:
    """Seconds after which the transaction may be tried again by itself, after `tries`; None for not at all.

    A broken connection is worth one try: the others of the pool are as old, and all are dropped by now.
    """
    if error.connection_invalidated:
        return 0.0 if tries == 1 else None
    if getattr(error.orig, "sqlstate", None) in _CONFLICTS and tries < _MOST_TRIES:
        return random.uniform(0, _CONFLICT_PAUSE_S * 2**tries)  # noqa: S311  to part rivals
    return None


def is_outage(error: BaseException) -> TypeGuard[DBAPIError]:
    """Whether waiting may help; with SQLite an interface error is a value that it never takes."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, InterfaceError):
        return not isinstance(error.orig, sqlite3.Error)
    if getattr(getattr(error, "orig", None), "sqlstate", None) == _READ_ONLY:
        return True
    return isinstance(error, OperationalError)


def unavailable(error: DBAPIError) -> DatabaseUnavailable:
    """Names the cause without the statement, whose parameters may hold secrets, and without addresses.

    Users read it; what a failed connection has to say is in the cause.
    """
    is_refusal = isinstance(error.orig, sqlite3.Error) or getattr(error.orig, "sqlstate", None) is not None
    message = f"the database does not answer: {in_one_line(error)}; try again later" if is_refusal else None
    outage = DatabaseUnavailable(message)
    outage.__cause__ = error.orig
    return outage


def in_one_line(error: DBAPIError) -> str:
    """What the database or its driver said."""
    return " ".join(str(error.orig).split())
