"""Whole submits, without HTTP: checked, parsed, stored and committed, from sixteen callers at once."""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from servicex_server.db.session import Database
from servicex_server.model.request import Principal, Submission
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.context import Services
from servicex_server.service.limits import Limits
from servicex_server.service.submit import submit
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.memory import MemoryStore

N_CALLERS = 16
N_SUBMITS = 2000
_SELECTION = '[{"treename": "Events", "filter_name": ["Muon_pt", "Muon_eta"], "cut": "nMuon > 1"}]'


@dataclass(frozen=True, slots=True)
class Rate:
    """How it went."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of this process, for one submit."""


def measure_submits(url: str) -> Rate:
    """Submits to an existing database with the current schema."""
    return asyncio.run(_measure(url))


async def _measure(url: str) -> Rate:
    took: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Database(url) as db, MemoryQueue() as queue:
            services = Services(
                db=db,
                queue=queue,
                store=MemoryStore(folder),
                policy=SourcePolicy(local_roots=(folder,)),
                limits=Limits(preflight_files=0),
            )
            numbers = iter(range(N_SUBMITS))

            async def call() -> None:
                for number in numbers:
                    files = (str(folder / f"{number % 50}.root"),)
                    started = time.perf_counter()
                    await submit(
                        services, Principal("marie"), Submission(_SELECTION, "uproot-raw", files=files)
                    )
                    took.append(time.perf_counter() - started)

            before, started = _cpu_s(), time.perf_counter()
            await asyncio.gather(*(call() for _ in range(N_CALLERS)))
            wall_s, cpu_s = time.perf_counter() - started, _cpu_s() - before
    took.sort()
    return Rate(
        N_SUBMITS / wall_s,
        1e3 * took[len(took) // 2],
        1e3 * took[int(0.99 * len(took))],
        1e3 * cpu_s / N_SUBMITS,
    )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
