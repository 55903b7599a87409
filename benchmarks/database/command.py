"""Measures the hot queries on SQLite and PostgreSQL at several sizes; prints one table of milliseconds."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.database.fill import fill
from benchmarks.database.hot import changes, queries
from benchmarks.database.submits import N_CALLERS, Rate, measure_submits
from postgres_server import running_postgres
from servicex_server.db import schema
from servicex_server.db.engine import build_engine

_SECONDS = 0.3
_ROUNDS = 5


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.database", description=__doc__)
    parser.add_argument("--results", type=int, nargs="+", default=[1_000, 1_000_000], metavar="N")
    parser.add_argument("--dialects", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    columns = {
        f"{dialect} {n_results:,}": measure(dialect, n_results)
        for dialect in options.dialects
        for n_results in options.results
    }
    rates = {dialect: _measure_submits(dialect) for dialect in options.dialects}
    load = os.getloadavg()[0]
    print(f"{platform.node() or 'here'}: {os.cpu_count()} cores, load {load:.1f}; best of several, ms")
    print(f"{'':34}" + "".join(f"{name:>22}" for name in columns))
    for name in next(iter(columns.values())):
        print(f"{name:34}" + "".join(f"{1e3 * column[name]:22.2f}" for column in columns.values()))
    for dialect, rate in rates.items():
        print(
            f"{N_CALLERS} callers submit to {dialect}: {rate.per_s:.0f} per s, p50 {rate.p50_ms:.1f} ms, "
            f"p99 {rate.p99_ms:.1f} ms, {rate.cpu_ms:.2f} ms CPU of the server each"
        )


def _measure_submits(dialect: str) -> Rate:
    with _database(dialect) as url:
        schema.upgrade(url)
        return measure_submits(url)


def measure(dialect: str, n_results: int) -> dict[str, float]:
    """Seconds per query and change."""
    with _database(dialect) as url:
        schema.upgrade(url)
        writing = build_engine(url, size=1, busy_timeout_s=10, read_only=False)
        reading = build_engine(url, size=1, busy_timeout_s=10, read_only=True)
        fill(writing, n_results)
        found: dict[str, float] = {}
        for name, query in queries(n_results).items():

            def read(query: Callable[..., object] = query) -> None:
                with reading.connect() as connection:
                    query(connection)

            found[name] = _best(read)
        for name, change in changes(n_results).items():

            def write(change: Callable[..., object] = change) -> None:
                with writing.begin() as connection:
                    change(connection)

            found[name] = min(_time(write) for _ in range(_ROUNDS))
        for engine in (reading, writing):
            engine.dispose()
    return found


@contextmanager
def _database(dialect: str) -> Iterator[str]:
    """An empty database whose commits wait for the disk."""
    if dialect == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'servicex.db'}"
    else:
        with running_postgres(durable=True, settings=("shared_buffers=256MB", "max_wal_size=4GB")) as server:
            yield server.create()


def _best(act: Callable[[], None]) -> float:
    end = time.perf_counter() + _SECONDS
    best = min(_time(act) for _ in range(3))
    while time.perf_counter() < end:
        best = min(best, _time(act))
    return best


def _time(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
