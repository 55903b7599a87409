"""Transactions: whole or not at all, many at once, and never 'database is locked'."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, OperationalError

from servicex_server.db.session import Database, normalise_url
from servicex_server.errors import ConfigurationError, DatabaseUnavailable, NotFound


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path / 'x.db'}", busy_timeout_s=0.2) as db:
        await db.write(_run, "CREATE TABLE note (n INTEGER PRIMARY KEY)")
        yield db


def _run(connection: Connection, statement: str) -> None:
    connection.execute(text(statement))


def _add(connection: Connection, number: int) -> int:
    connection.execute(text("INSERT INTO note VALUES (:n)"), {"n": number})
    return number


def _add_then_fail(connection: Connection, number: int) -> int:
    _add(connection, number)
    message = f"no {number}"
    raise NotFound(message)


def _numbers(connection: Connection) -> list[int]:
    return list(connection.execute(text("SELECT n FROM note ORDER BY n")).scalars())


async def test_errors_do_not_show_what_was_to_be_stored(db: Database) -> None:
    await db.write(_add, 4711)
    with pytest.raises(IntegrityError) as caught:
        await db.write(_add, 4711)
    assert "INSERT INTO note" in str(caught.value)
    assert "4711" not in str(caught.value)


async def test_many_changes_and_reads_at_once(db: Database) -> None:
    written, read = await asyncio.gather(
        asyncio.gather(*(db.write(_add, number) for number in range(200))),
        asyncio.gather(*(db.read(_numbers) for _ in range(50))),
    )
    assert written == list(range(200))
    assert all(seen == list(range(len(seen))) for seen in read)
    assert await db.read(_numbers) == list(range(200))


async def test_a_failing_change_takes_no_other_with_it(db: Database) -> None:
    changes = [_add_then_fail if number % 3 == 0 else _add for number in range(60)]
    outcomes = await asyncio.gather(
        *(db.write(change, number) for number, change in enumerate(changes)), return_exceptions=True
    )
    assert [number for number, outcome in enumerate(outcomes) if isinstance(outcome, NotFound)] == [
        number for number in range(60) if number % 3 == 0
    ]
    assert await db.read(_numbers) == [number for number in range(60) if number % 3]


async def test_a_read_cannot_write(db: Database) -> None:
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        await db.read(_add, 1)
    assert await db.read(_numbers) == []


async def test_another_process_that_writes_is_waited_for(db: Database) -> None:
    path = db.url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="locked"):
        await db.write(_add, 1)
    assert await db.read(_numbers) == [], "readers do not wait for writers"
    other.execute("COMMIT")
    other.close()
    assert await db.write(_add, 1) == 1


async def test_close_finishes_what_was_asked(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    db = Database(url)
    await db.write(_run, "CREATE TABLE note (n INTEGER PRIMARY KEY)")
    pending = [asyncio.create_task(db.write(_add, number)) for number in range(100)]
    await asyncio.sleep(0)
    await db.close()
    await db.close()
    assert await asyncio.gather(*pending) == list(range(100))
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await db.write(_add, 1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("db-")]


async def test_an_unwanted_change_is_not_made(db: Database) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(connection: Connection) -> None:
        entered.set()
        leave.wait(30)

    holding = asyncio.create_task(db.write(hold))
    await asyncio.to_thread(entered.wait, 30)
    unwanted = asyncio.create_task(db.write(_add, 1))
    await asyncio.sleep(0)
    unwanted.cancel()
    await asyncio.gather(unwanted, return_exceptions=True)
    leave.set()
    await holding
    await db.write(_add, 2)
    assert await db.read(_numbers) == [2]


async def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    async with Database(f"sqlite:///{tmp_path / 'absent' / 'x.db'}") as db:
        with pytest.raises(DatabaseUnavailable, match="unable to open"):
            await db.read(_numbers)
        with pytest.raises(DatabaseUnavailable) as caught:
            await db.write(_add, 1)
    assert not isinstance(caught.value.__cause__, OperationalError), "no statement, no parameters"


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_unsupported_urls_are_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the database URL"):
        normalise_url(url)


def test_urls_get_our_drivers() -> None:
    assert normalise_url("postgres://u:p@h/d".replace("postgres:", "postgresql:")) == (
        "postgresql+psycopg://u:p@h/d"
    )
    assert normalise_url("sqlite+aiosqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
