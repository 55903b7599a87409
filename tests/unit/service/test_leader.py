"""One server leads, another takes over, and nothing that happens to clocks or the database makes it two."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service_bench import QUICK, Bench, new_bench
from servicex_server.db import lease
from servicex_server.db.session import Database, Transaction
from servicex_server.errors import DatabaseUnavailable
from servicex_server.model.ids import RequestId
from servicex_server.service.backlog import Backlog
from servicex_server.service.context import Leadership, Services
from servicex_server.service.leader import LEASE, run_while_leader

SHORT = replace(QUICK, lease_ttl_s=0.6, lease_renew_s=0.1)
LONG = replace(QUICK, lease_ttl_s=600.0, lease_renew_s=0.05)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path, SHORT) as bench:
        yield bench


class Candidate:
    """A server that may lead, and notes when it does."""

    def __init__(self, services: Services, name: str, term: list[str]) -> None:
        self.services = replace(services, leadership=Leadership(), backlog=Backlog())
        self.name = name
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self._term = term

    async def work(self) -> None:
        """Holds the term, which must be free, until canceled."""
        assert self._term == [], "one at a time"
        assert self.services.leadership.is_held
        self._term.append(self.name)
        self.ended.clear()
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self._term.remove(self.name)
            self.began.clear()
            self.ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(run_while_leader(self.services, self.name, self.work))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def candidates(services: Services, *names: str) -> list[Candidate]:
    term: list[str] = []
    return [Candidate(services, name, term) for name in names]


async def holder(services: Services) -> str | None:
    return await services.db.read(lease.find_holder, LEASE)


def _shift(by: timedelta) -> datetime:
    return datetime.now(UTC) + by


async def any_of(*events: Coroutine[Any, Any, object]) -> None:
    tasks = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()


def usurp(transaction: Transaction, holder: str, usurper: str, ttl_s: float) -> None:
    """Gives the holder's lease to somebody else."""
    lease.release(transaction, LEASE, holder)
    assert lease.acquire(transaction, LEASE, usurper, ttl_s)


async def test_one_leads_and_the_other_takes_over_at_once(bench: Bench) -> None:
    one, two = candidates(replace(bench.services, limits=LONG), "one", "two")
    async with two.running():
        await two.began.wait()
        async with one.running():
            await asyncio.sleep(0)
            assert (one.services.leadership.is_held, two.services.leadership.is_held) == (False, True)
    async with one.running():
        # The lease would last for ten minutes, but it was given back.
        await one.began.wait()
        assert await holder(bench.services) == "one"
    assert not one.services.leadership.is_held
    assert await holder(bench.services) is None


async def test_the_lease_of_a_killed_leader_runs_out(bench: Bench) -> None:
    assert await bench.services.db.write(lease.acquire, LEASE, "killed", 0.3)
    (one,) = candidates(bench.services, "one")
    async with one.running():
        await one.began.wait()
        assert await holder(bench.services) == "one"


async def test_wrong_clocks_of_processes_do_not_matter(bench: Bench) -> None:
    names = ("early", "right", "late")
    rivals = candidates(bench.services, *names)
    for rival, days in zip(rivals, (-1, 0, 1), strict=True):
        rival.services = replace(rival.services, clock=partial(_shift, timedelta(days=days)))
    async with rivals[0].running(), rivals[1].running(), rivals[2].running():
        for _ in range(3):
            await any_of(*(rival.began.wait() for rival in rivals))
            (leader,) = [rival for rival in rivals if rival.services.leadership.is_held]
            # `work` itself asserts that there is no other.
            await bench.services.db.write(usurp, leader.name, "an intruder", 0.5)
            await leader.ended.wait()


async def test_who_lost_the_lease_stops(bench: Bench) -> None:
    (one,) = candidates(bench.services, "one")
    async with one.running() as running:
        await one.began.wait()
        await bench.services.db.write(usurp, "one", "two", 5.0)
        await one.ended.wait()
        assert not running.done(), "it goes on asking"
    assert await holder(bench.services) == "two", "nobody gives back what is not his"


async def test_an_outage_longer_than_the_lease_ends_the_term(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = threading.Event()
    real = lease.acquire

    def ask(transaction: Transaction, name: str, holder: str, ttl_s: float) -> bool:
        if is_away.is_set():
            raise DatabaseUnavailable
        return real(transaction, name, holder, ttl_s)

    monkeypatch.setattr(lease, "acquire", ask)
    (one,) = candidates(bench.services, "one")
    async with one.running():
        await one.began.wait()
        is_away.set()
        await one.ended.wait()
        assert not one.services.leadership.is_held
        is_away.clear()
        await one.began.wait()


async def test_a_silent_database_ends_the_term(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    is_silent, answers = threading.Event(), threading.Event()
    real = lease.acquire

    def ask(transaction: Transaction, name: str, holder: str, ttl_s: float) -> bool:
        if is_silent.is_set():
            answers.wait(30)
        return real(transaction, name, holder, ttl_s)

    monkeypatch.setattr(lease, "acquire", ask)
    async with Database(bench.services.db.url, writers=1) as own:
        (one,) = candidates(replace(bench.services, db=own), "one")
        async with one.running():
            await one.began.wait()
            is_silent.set()
            await one.ended.wait()
            is_silent.clear()
            answers.set()
            await one.began.wait()


async def test_a_term_begins_with_an_empty_backlog(bench: Bench) -> None:
    (one,) = candidates(bench.services, "one")
    one.services.backlog.add_files(RequestId("of an earlier term"))
    async with one.running():
        await one.began.wait()
        assert one.services.backlog.is_empty
        one.services.backlog.add_files(RequestId("of this term"))
    assert one.services.backlog.is_empty


async def test_work_that_fails_gives_the_lease_back(bench: Bench) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def end() -> None:
        pass

    with pytest.raises(ZeroDivisionError):
        await run_while_leader(bench.services, "one", fail)
    assert await holder(bench.services) is None
    await run_while_leader(bench.services, "one", end)
    assert await holder(bench.services) is None


async def test_a_failing_end_is_no_reason_to_stop(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    terms = 0
    began = asyncio.Event()

    async def work() -> None:
        nonlocal terms
        terms += 1
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            if terms == 1:
                raise ZeroDivisionError

    running = asyncio.create_task(run_while_leader(bench.services, "one", work))
    await began.wait()
    began.clear()
    await bench.services.db.write(usurp, "one", "two", 0.5)
    await began.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert "did not end cleanly" in caplog.text
