"""One holder at a time, by the database's clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection, update

from servicex_server.db import lease, schema
from servicex_server.db.orm import LeaseRow
from servicex_server.db.session import Database


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    schema.upgrade(url)
    async with Database(url) as db:
        yield db


async def test_one_of_many_gets_it(db: Database) -> None:
    won = await asyncio.gather(*(db.write(lease.acquire, "background", f"app-{n}", 60.0) for n in range(20)))
    assert won.count(True) == 1
    assert await db.read(lease.find_holder, "background") == f"app-{won.index(True)}"
    assert await db.write(lease.acquire, "other", "app-99", 60.0), "leases are apart"


async def test_the_holder_renews_and_gives_back(db: Database) -> None:
    assert await db.write(lease.acquire, "background", "one", 60.0)
    assert await db.write(lease.acquire, "background", "one", 60.0)
    await db.write(lease.release, "background", "two")
    assert not await db.write(lease.acquire, "background", "two", 60.0)
    await db.write(lease.release, "background", "one")
    assert await db.read(lease.find_holder, "background") is None
    assert await db.write(lease.acquire, "background", "two", 60.0)


async def test_it_runs_out(db: Database) -> None:
    assert await db.write(lease.acquire, "background", "one", 60.0)
    await db.write(_age, 61.0)
    assert await db.read(lease.find_holder, "background") is None
    assert await db.write(lease.acquire, "background", "two", 60.0)
    assert not await db.write(lease.acquire, "background", "one", 60.0)


async def test_a_clock_that_was_set_back_locks_nobody_out(db: Database) -> None:
    assert await db.write(lease.acquire, "background", "one", 6.0)
    await db.write(_age, -86400.0)
    assert await db.write(lease.acquire, "background", "two", 6.0)
    await db.write(_age, 7.0)
    assert await db.write(lease.acquire, "background", "three", 6.0), "its end was set anew"


async def test_who_waited_for_a_lock_holds_it_from_then_on(db: Database) -> None:
    """An end that was reckoned before the wait would be too early, never too late."""
    await db.write(lease.acquire, "background", "one", 60.0)
    await db.write(_age, 61.0)
    locked, leave = threading.Event(), threading.Event()

    def take_slowly(connection: Connection) -> bool:
        taken = lease.acquire(connection, "background", "two", 60.0)
        locked.set()
        leave.wait(30)
        return taken

    slow = asyncio.create_task(db.write(take_slowly))
    await asyncio.to_thread(locked.wait, 30)
    rival = asyncio.create_task(db.write(lease.acquire, "background", "three", 60.0))
    await asyncio.sleep(0)
    leave.set()
    assert (await slow, await rival) == (True, False)


def _age(connection: Connection, seconds: float) -> None:
    """As if the lease had been given that much earlier."""
    connection.execute(update(LeaseRow).values(expires_at=LeaseRow.expires_at - seconds))
