"""PostgreSQL goes away and comes back: who asks learns it in bounded time, nothing has to be restarted."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, event, text

from postgres_server import PASSWORD, PostgresServer, require_postgres, running_postgres
from servicex_server.db import schema
from servicex_server.db.session import Database
from servicex_server.errors import ConfigurationError, DatabaseUnavailable


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Of this module's own, since it is stopped and started."""
    require_postgres()
    with running_postgres(settings=("deadlock_timeout=50ms",)) as server:
        yield server


@pytest.fixture
async def db(server: PostgresServer) -> AsyncIterator[Database]:
    url = server.create()
    async with Database(url, busy_timeout_s=5.0) as db:
        await db.write(_run, "CREATE TABLE note (n INTEGER PRIMARY KEY, times INTEGER NOT NULL DEFAULT 1)")
        await db.write(_run, "INSERT INTO note SELECT generate_series(1, 2)")
        yield db
    server.drop(url)


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def _count(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM note")).scalar_one())


async def _use_all(db: Database) -> None:
    """Opens every connection of the pools."""
    await asyncio.gather(*(db.read(_count) for _ in range(16)), *(db.write(_count) for _ in range(16)))


async def test_broken_connections_are_replaced_unnoticed(db: Database, server: PostgresServer) -> None:
    await _use_all(db)
    assert server.break_connections(db.url) > 1
    await _use_all(db)


async def test_a_restart_is_noticed_by_those_alone_who_ask_meanwhile(
    db: Database, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    await _use_all(db)
    server.stop("immediate")
    for ask in (db.read, db.write):
        with pytest.raises(DatabaseUnavailable, match="cannot be reached now") as caught:
            await ask(_count)
        assert str(server.port) in str(caught.value.__cause__), "not in the message, which users read"
    assert caplog.text.count("database.unavailable") == 1
    server.start()
    await _use_all(db)
    assert await db.read(_count) == 2


async def test_a_connection_that_breaks_within_a_transaction(db: Database, server: PostgresServer) -> None:
    runs = 0

    def add(connection: Connection) -> int:
        nonlocal runs
        runs += 1
        connection.execute(text("INSERT INTO note VALUES (3)"))
        if runs == 1:
            server.break_connections(db.url)
        return _count(connection)

    assert await db.write(add) == 3
    assert (runs, await db.read(_count)) == (2, 3)


async def test_a_commit_whose_word_is_lost_is_run_again(db: Database, server: PostgresServer) -> None:
    """The first run is committed, which only the second can find out."""
    engine = db._write_engine
    lost: list[bool] = []

    def lose_word(connection: Connection) -> None:
        if not lost:
            lost.append(True)
            connection.exec_driver_sql("COMMIT")
            server.break_connections(db.url)
            connection.exec_driver_sql("the answer never came")

    def add(connection: Connection) -> bool:
        new = connection.execute(text("INSERT INTO note VALUES (3) ON CONFLICT DO NOTHING"))
        return new.rowcount == 1

    event.listen(engine, "commit", lose_word)
    assert await db.write(add) is False
    assert await db.read(_count) == 3


async def test_a_deadlock_is_tried_again(db: Database) -> None:
    both = threading.Barrier(2, timeout=10)
    met = threading.Event()

    def raise_times(connection: Connection, first: int, second: int) -> None:
        change = text("UPDATE note SET times = times + 1 WHERE n = :n")
        connection.execute(change, {"n": first})
        if not met.is_set():
            both.wait()
            met.set()
        connection.execute(change, {"n": second})

    await asyncio.gather(db.write(raise_times, 1, 2), db.write(raise_times, 2, 1))
    assert await db.read(_times) == [3, 3]


def _times(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT times FROM note ORDER BY n")).scalars())


async def test_serialization_failures_are_tried_again(db: Database) -> None:
    both = threading.Barrier(2, timeout=10)
    met = threading.Event()

    def add_up(connection: Connection, number: int) -> None:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        total = sum(_times(connection))
        if not met.is_set():
            both.wait()
            met.set()
        change = text("UPDATE note SET times = :total WHERE n = :n")
        connection.execute(change, {"total": total, "n": number})

    await asyncio.gather(db.write(add_up, 1), db.write(add_up, 2))
    assert sorted(await db.read(_times)) == [2, 3], "as if one came after the other"


async def test_a_statement_that_takes_too_long_is_ended(db: Database) -> None:
    async with Database(db.url, statement_timeout_s=0.05) as hasty:
        for ask in (hasty.read, hasty.write):
            with pytest.raises(DatabaseUnavailable, match="statement timeout"):
                await ask(_run, "SELECT pg_sleep(30)")
        assert await hasty.read(_count) == 2


async def test_a_peer_that_says_nothing_is_given_up(db: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = db.url.replace(db.url.rpartition("/")[0].rpartition(":")[2], str(silent.getsockname()[1]))
        async with Database(f"{url}?connect_timeout=2", readers=1, patience_s=0.5) as unheard:
            asked = await asyncio.gather(*(unheard.read(_count) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, DatabaseUnavailable) for outcome in asked), asked
    assert sum("busy or silent" in str(outcome) for outcome in asked) == 19, "one wait, not twenty"


async def test_a_primary_that_became_a_standby_is_left(db: Database) -> None:
    await _use_all(db)
    name = db.url.rpartition("/")[2]
    await db.write(_run, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with Database(db.url) as follower:
        with pytest.raises(DatabaseUnavailable, match="read-only transaction"):
            await follower.write(_run, "INSERT INTO note VALUES (4)")
        await db.write(_run, f"ALTER DATABASE {name} RESET default_transaction_read_only")
        await follower.write(_run, "INSERT INTO note VALUES (4)")


def test_no_message_shows_the_password(server: PostgresServer) -> None:
    url = server.create()
    wrong = re.sub(r":[^:@]+@", ":hunter2@", url)
    absent = url.replace(str(server.port), "1")
    unknown = f"{url}?no_such_option=hunter2"
    for address in (wrong, absent, unknown):
        for act in (schema.read_version, schema.upgrade, schema.check):
            with pytest.raises(
                ConfigurationError, match="database postgresql://servicex:\\*\\*\\*@"
            ) as caught:
                act(address)
            assert "hunter2" not in caught.value.message
            assert PASSWORD not in caught.value.message
    server.drop(url)


async def test_a_long_outage_costs_no_threads(db: Database, server: PostgresServer) -> None:
    await _use_all(db)
    with ThreadPoolExecutor(1) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, server.stop)
        outcomes = await asyncio.gather(
            *(db.write(_count) for _ in range(100)),
            *(db.read(_count) for _ in range(100)),
            return_exceptions=True,
        )
        assert all(isinstance(outcome, DatabaseUnavailable) for outcome in outcomes)
        await asyncio.get_running_loop().run_in_executor(pool, server.start)
    await _use_all(db)
