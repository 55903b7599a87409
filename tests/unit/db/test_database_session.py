"""Transactions: whole or not at all, many at once, and never 'database is locked'."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from servicex_server.db.engine import build_engine, parse_url, show_url
from servicex_server.db.session import Database
from servicex_server.errors import ConfigurationError, DatabaseUnavailable, NotFound


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    async with Database(url, busy_timeout_s=0.2) as db:
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


async def test_the_version_tells_of_each_commit_before_anybody_can_see_it(db: Database) -> None:
    versions = [db.version]
    await db.write(_add, 1)
    versions.append(db.version)
    await asyncio.gather(*(db.write(_add, number) for number in range(2, 10)))
    versions.append(db.version)
    assert None not in versions
    assert len(set(versions)) == 3
    with pytest.raises(NotFound):
        await db.write(_add_then_fail, 10)
    seen: list[int | None] = []

    def count(connection: Connection) -> None:
        _add(connection, 11)
        event.listen(connection, "commit", lambda _: seen.append(db.version))

    before = db.version
    await db.write(count)
    assert seen == [None]
    assert db.version not in {before, None}


async def test_errors_do_not_show_what_was_to_be_stored(db: Database) -> None:
    number = int("1174"[::-1])  # so that the traceback's lines of this file do not show it
    await db.write(_add, number)
    with pytest.raises(IntegrityError, match=r"(?i)unique constraint") as caught:
        await db.write(_add, number)
    assert "INSERT INTO note" in str(caught.value)
    assert "4711" not in "".join(traceback.format_exception(caught.value))


async def test_a_read_sees_one_state(db: Database) -> None:
    begun, changed = threading.Event(), threading.Event()

    def count_twice(connection: Connection) -> tuple[list[int], list[int]]:
        before = _numbers(connection)
        begun.set()
        changed.wait(30)
        return before, _numbers(connection)

    reading = asyncio.create_task(db.read(count_twice))
    await asyncio.to_thread(begun.wait, 30)
    await db.write(_add, 1)
    changed.set()
    assert await reading == ([], [])


async def test_nobody_waits_in_line_for_ever(url: str) -> None:
    async with Database(url, patience_s=0.0) as db:
        for ask in (db.read, db.write):
            with pytest.raises(DatabaseUnavailable, match="busy or silent"):
                await ask(_numbers)


async def test_many_changes_and_reads_at_once(db: Database) -> None:
    written, read = await asyncio.gather(
        asyncio.gather(*(db.write(_add, number) for number in range(200))),
        asyncio.gather(*(db.read(_numbers) for _ in range(50))),
    )
    assert written == list(range(200))
    assert all(seen == sorted(set(seen)) for seen in read)
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
    with pytest.raises(DatabaseUnavailable, match=r"read-?only"):
        await db.read(_add, 1)
    assert await db.read(_numbers) == []


async def test_another_process_that_writes_is_waited_for(db: Database) -> None:
    other = build_engine(db.url, size=1, busy_timeout_s=1, read_only=False)
    with other.begin() as connection:
        _add(connection, 1)
        with pytest.raises(DatabaseUnavailable, match=r"locked|lock timeout"):
            await db.write(_add, 1)
        assert await db.read(_numbers) == [], "readers do not wait for writers"
        connection.rollback()
    other.dispose()
    assert await db.write(_add, 1) == 1


async def test_close_finishes_what_was_asked(url: str) -> None:
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
    n_writers = len([thread for thread in threading.enumerate() if thread.name.startswith("db-write")])
    entered, leave = threading.Barrier(n_writers + 1), threading.Event()

    def hold(connection: Connection) -> None:
        entered.wait()
        leave.wait(30)

    holding = [asyncio.create_task(db.write(hold)) for _ in range(n_writers)]
    await asyncio.to_thread(entered.wait, 30)
    unwanted = asyncio.create_task(db.write(_add, 1))
    await asyncio.sleep(0)
    unwanted.cancel()
    await asyncio.gather(unwanted, return_exceptions=True)
    leave.set()
    await asyncio.gather(*holding)
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
        parse_url(url)


def test_urls_get_our_drivers() -> None:
    for url in ("postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d"):
        assert parse_url(url).render_as_string(hide_password=False) == "postgresql+psycopg://u:p@h/d"
    assert str(parse_url("sqlite+aiosqlite:////tmp/x.db")) == "sqlite:////tmp/x.db"


@pytest.mark.parametrize(
    "url",
    ["postgresql://marie:hun:ter@hunter@host:hunter/db", "postgresql://marie@host:hunter2/db", "hunter2", ""],
)
def test_a_password_is_in_no_message(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    assert "hunter" not in "".join(traceback.format_exception(caught.value)).replace(url, "")
    assert "hunter" not in show_url("postgresql://marie:hunter2@h/d?sslpassword=hunter2")
