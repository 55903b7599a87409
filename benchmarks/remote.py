"""Measure reading from afar: `make bench-remote` prints a table and writes .cache/bench/remote.json.

Q1 of the engine's benchmark over root://, http:// and https://, through a proxy that adds a delay to each
round trip, beside uproot with its defaults and pyarrow. A run takes a few files one after the other and makes
its connections anew.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
from servicex_server.run.batch import require_all, transform_files
from servicex_server.run.execute import transform_file
from servicex_server.source.policy import CALLERS_OWN

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faulty_proxy import faulty_proxy  # noqa: E402  lies in tests
from grid_pki import TestAuthority  # noqa: E402  lies in tests
from xrootd_server import XrootdServer, running_xrootd  # noqa: E402  lies in tests

REPORT = ROOT / ".cache" / "bench" / "remote.json"
N_FILES = 4
QUERY = find_query("Q1")
UPROOT = "uproot"

Ask = Callable[[], tuple[int, int, int]]
Method = Callable[[Sequence[str], Path], None]


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


def by_worker(urls: Sequence[str], folder: Path, n_threads: int) -> None:
    """What a worker does, which gets one file after the other and opens none ahead."""
    for number, url in enumerate(urls):
        transform_file(
            url,
            codegen="uproot",
            selection=QUERY.func_adl(TREE),
            result_format=ResultFormat.PARQUET,
            output=folder / f"{number}.parquet",
            policy=CALLERS_OWN,
            n_threads=n_threads,
        )


def by_transform(urls: Sequence[str], folder: Path, n_threads: int) -> None:
    """What `servicex_server.transform` does with a list of files."""
    done = transform_files(
        urls,
        codegen="uproot",
        selection=QUERY.func_adl(TREE),
        result_format=ResultFormat.PARQUET,
        output=folder,
        n_threads=n_threads,
    )
    require_all(done)


def by_uproot(urls: Sequence[str], folder: Path) -> None:
    """What one writes by hand: uproot's defaults (fsspec), all rows at once, then pyarrow's."""
    for number, url in enumerate(urls):
        with uproot.open({url: TREE}) as tree:
            array = tree.arrays(list(QUERY.columns))
        table = ak.to_arrow_table(array)
        with pq.ParquetWriter(folder / f"{number}.parquet", table.schema) as writer:
            writer.write_table(table)


METHODS: dict[str, Method] = {
    "transform": partial(by_transform, n_threads=1),
    "transform, 2 threads": partial(by_transform, n_threads=2),
    "worker": partial(by_worker, n_threads=1),
    "worker, 2 threads": partial(by_worker, n_threads=2),
    UPROOT: by_uproot,
}


def measure(server: XrootdServer, protocol: str, delay_s: float, n_runs: int, folder: Path) -> list[Measured]:
    """All methods in turn, run by run."""
    counts: dict[str, list[tuple[float, int, int, int]]] = {name: [] for name in METHODS}
    for _ in range(n_runs):
        for name, method in METHODS.items():
            with proxy_process(server.port if protocol == "root" else server.http_port, delay_s) as (
                port,
                ask,
            ):
                url_of = server.url if protocol == "root" else partial(server.http_url, scheme=protocol)
                urls = [url_of(f"{number}.root", port=port) for number in range(N_FILES)]
                results = folder / name
                shutil.rmtree(results, ignore_errors=True)
                results.mkdir()
                started = time.perf_counter()
                method(urls, results)
                seconds = time.perf_counter() - started
                counts[name].append((seconds, *ask()))
    require_equal([path for name in METHODS for path in sorted((folder / name).iterdir())])
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
    """Raises ValueError unless each method gave all files, which are copies of one, with the same values."""
    if len(results) != N_FILES * len(METHODS):
        message = f"{len(results)} results instead of {N_FILES} of each method"
        raise ValueError(message)
    # Not with ak.from_parquet, which takes a name with colons for a URL.
    first, *others = (ak.from_arrow(pq.ParquetFile(path).read()) for path in results)
    for other in others:
        if not all(ak.array_equal(first[name], other[name]) for name in QUERY.columns):
            message = "the methods give different results"
            raise ValueError(message)


def show(measured: list[Measured]) -> None:
    """Prints a line for each, and how many times as long uproot takes: the median of the runs' ratios."""
    sys.stdout.write(
        f"{'':8}{'method':22}{'seconds':>9}{'trips':>8}{'connections':>13}{'MB':>8}{'uproot is':>12}\n"
    )
    base = {each.protocol: each.seconds for each in measured if each.method == UPROOT}
    for each in measured:
        ratio = statistics.median(
            theirs / ours for theirs, ours in zip(base[each.protocol], each.seconds, strict=True)
        )
        sys.stdout.write(
            f"{each.protocol:8}{each.method:22}{statistics.median(each.seconds):9.2f}{each.round_trips:8.0f}"
            f"{each.connections:13.0f}{each.bytes_down / 1e6:8.1f}{ratio:11.2f}x\n"
        )


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--delay-ms", type=float, default=30.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--protocols", nargs="+", default=["root", "http", "https"])
    options = parser.parse_args()
    folder = REPORT.parent / "inputs"
    # One that ROOT wrote, if there is one from the engine's benchmark, has smaller baskets.
    with_root = has_root() or any(folder.glob(f"zstd-{options.events}-root-*.root"))
    path = input_file(folder, "ZSTD", options.events, with_root=with_root).path
    with contextlib.ExitStack() as stack:
        outputs, keys = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2))
        authority = TestAuthority(Path(keys))
        certificate = authority.issue("localhost", hosts=("localhost",))
        # All that read here trust it, once they look at the environment.
        os.environ["SSL_CERT_FILE"] = str(authority.ca_file)
        files = {f"{number}.root": path for number in range(N_FILES)}
        server = stack.enter_context(running_xrootd(files, certificate))
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
