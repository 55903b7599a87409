"""Measure reading from afar: `make bench-remote` prints a table and writes .cache/bench/remote.json.

Q1 of the engine's benchmark over root:// and http://, through a proxy that adds a delay to each round trip,
beside uproot with its defaults and pyarrow. A run takes a few files one after the other, as a worker does,
and makes its connections anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import awkward as ak
import pyarrow.parquet as pq
import uproot

from benchmarks.engine.inputs import TREE, has_root, input_file
from benchmarks.engine.queries import find_query
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.execute import transform_file
from servicex_server.source.policy import CALLERS_OWN

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faulty_proxy import faulty_proxy  # noqa: E402  lies in tests
from xrootd_server import XrootdServer, running_xrootd  # noqa: E402  lies in tests

REPORT = ROOT / ".cache" / "bench" / "remote.json"
N_FILES = 4
QUERY = find_query("Q1")

Ask = Callable[[], tuple[int, int, int]]
Method = Callable[[str, Path], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """One method over one protocol.

    Attributes:
        seconds: of each run, all files.
        round_trips: how often it asked something after it had been answered, over all its connections.
        connections: that it made.
        bytes_down: that came.
    """

    protocol: str
    method: str
    seconds: list[float]
    round_trips: float
    connections: float
    bytes_down: float


def ours(url: str, output: Path, n_threads: int = 1) -> None:
    """What a worker does with the file."""
    transform_file(
        url,
        codegen="uproot",
        selection=QUERY.func_adl(TREE),
        result_format=ResultFormat.PARQUET,
        output=output,
        policy=CALLERS_OWN,
        n_threads=n_threads,
    )


def by_uproot(url: str, output: Path) -> None:
    """What one writes by hand: uproot's defaults (fsspec), all rows at once, then pyarrow's."""
    with uproot.open({url: TREE}) as tree:
        array = tree.arrays(list(QUERY.columns))
    table = ak.to_arrow_table(array)
    with pq.ParquetWriter(output, table.schema) as writer:
        writer.write_table(table)


METHODS: dict[str, Method] = {"ours": ours, "ours, 2": partial(ours, n_threads=2), "uproot": by_uproot}


def measure(server: XrootdServer, protocol: str, delay_s: float, n_runs: int, folder: Path) -> list[Measured]:
    """All methods in turn, run by run."""
    counts: dict[str, list[tuple[float, int, int, int]]] = {name: [] for name in METHODS}
    for _ in range(n_runs):
        for name, method in METHODS.items():
            with proxy_process(server.port if protocol == "root" else server.http_port, delay_s) as (
                port,
                ask,
            ):
                urls = server.url if protocol == "root" else server.http_url
                started = time.perf_counter()
                for number in range(N_FILES):
                    method(urls(f"{number}.root", port=port), folder / name)
                seconds = time.perf_counter() - started
                counts[name].append((seconds, *ask()))
    require_equal([folder / name for name in METHODS])
    return [
        Measured(protocol, name, [run[0] for run in runs], *(median(runs, column) for column in (1, 2, 3)))
        for name, runs in counts.items()
    ]


@contextlib.contextmanager
def proxy_process(
    target_port: int, delay_s: float
) -> Iterator[tuple[int, Callable[[], tuple[int, int, int]]]]:
    """The port of a proxy in a process of its own, and what asks it for its counts."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_proxy, args=(there, target_port, delay_s), daemon=True)
    process.start()
    try:
        port = here.recv()

        def ask() -> tuple[int, int, int]:
            here.send("counts")
            counts: tuple[int, int, int] = here.recv()
            return counts

        yield port, ask
    finally:
        process.kill()
        process.join()


def run_proxy(pipe: Connection, target_port: int, delay_s: float) -> None:
    """Tells its port, and its counts whenever it is asked."""
    with faulty_proxy(target_port) as proxy:
        proxy.delay_s = delay_s
        pipe.send(proxy.port)
        while pipe.recv():
            pipe.send((proxy.n_turns, proxy.n_connections, proxy.bytes_down))


def median(runs: list[tuple[float, int, int, int]], column: int) -> float:
    """Of one number of each run."""
    return statistics.median(run[column] for run in runs)


def require_equal(results: list[Path]) -> None:
    """Raises ValueError unless all methods gave the same values."""
    first, *others = (ak.from_parquet(path) for path in results)
    for other in others:
        if not all(ak.array_equal(first[name], other[name]) for name in QUERY.columns):
            message = "the methods give different results"
            raise ValueError(message)


def show(measured: list[Measured]) -> None:
    """Prints a line for each, and how many times as long uproot takes."""
    sys.stdout.write(
        f"{'':8}{'method':8}{'seconds':>9}{'trips':>8}{'connections':>13}{'MB':>8}{'ratio':>8}\n"
    )
    base = {each.protocol: statistics.median(each.seconds) for each in measured if each.method == "ours"}
    for each in measured:
        seconds = statistics.median(each.seconds)
        sys.stdout.write(
            f"{each.protocol:8}{each.method:8}{seconds:9.2f}{each.round_trips:8.0f}{each.connections:13.0f}"
            f"{each.bytes_down / 1e6:8.1f}{seconds / base[each.protocol]:8.2f}\n"
        )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--protocols", nargs="+", default=["root", "http"])
    options = parser.parse_args()
    folder = REPORT.parent / "inputs"
    # One that ROOT wrote, if there is one from the engine's benchmark, has smaller baskets.
    with_root = has_root() or any(folder.glob(f"zstd-{options.events}-root-*.root"))
    path = input_file(folder, "ZSTD", options.events, with_root=with_root).path
    with (
        running_xrootd({f"{number}.root": path for number in range(N_FILES)}) as server,
        tempfile.TemporaryDirectory() as outputs,
    ):
        measured = [
            each
            for protocol in options.protocols
            for each in measure(server, protocol, options.delay_ms / 1000, options.runs, Path(outputs))
        ]
    show(measured)
    REPORT.write_text(
        json.dumps({"options": vars(options), "measured": list(map(asdict, measured))}, indent=1)
    )


if __name__ == "__main__":
    main()
