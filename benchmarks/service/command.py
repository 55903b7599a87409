"""Runs everything in order, prints the table as it grows, writes the JSON."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.service.deployed import measure_deployed
from benchmarks.service.embedded import (
    measure_files,
    measure_polls_beside_results,
    measure_read_back,
    measure_submits,
)
from benchmarks.service.large import measure_crowd, measure_large, measure_many
from benchmarks.service.report import Row, to_markdown, write_json
from benchmarks.service.scale import Scale, quick
from benchmarks.service.start import measure_small, measure_start
from local_server import stop_on_sigterm

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"

PARTS: dict[str, Callable[[Scale], Iterator[Row]]] = {
    "start": measure_start,
    "submits": measure_submits,
    "polls": measure_polls_beside_results,
    "files": measure_files,
    "read-back": measure_read_back,
    "small": measure_small,
    "large": measure_large,
    "many": measure_many,
    "crowd": measure_crowd,
    "deployed": measure_deployed,
}


def main(arguments: Sequence[str]) -> int:
    """Measures; the exit code says whether everything could be measured, not whether it was fast."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", default=os.environ.get("BENCH_QUICK") == "1")
    parser.add_argument("--outputs", type=Path, default=CACHE / "bench", help="folder for service.json")
    options = parser.parse_args(arguments)
    stop_on_sigterm()
    started_s = time.perf_counter()
    # Not below the cache: sockets have short names, and other users' processes read here.
    folder = Path(tempfile.mkdtemp(prefix="bench-service-"))
    places = (folder, CACHE / "bench" / "inputs", CACHE / "samples")
    scale = quick(*places) if options.quick else Scale(*places)
    rows: list[Row] = []
    missing: list[str] = []
    try:
        for name in options.parts:
            _measure(name, scale, rows, missing)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seconds = time.perf_counter() - started_s
    write_json(options.outputs / "service.json", rows, missing, seconds=seconds)
    sys.stdout.write(f"\n{to_markdown(rows, missing)}\n{seconds:.0f} s\n")
    return 1 if missing else 0


def _measure(name: str, scale: Scale, rows: list[Row], missing: list[str]) -> None:
    """Adds what is found; a part that cannot be measured says why, and the others go on."""
    try:
        for row in PARTS[name](scale):
            rows.append(row)
            sys.stdout.write(f"{row.part}: {row.name}: {row.value:.4g} {row.unit} {row.verdict} {row.note}\n")
            sys.stdout.flush()
    except pytest.skip.Exception as reason:
        missing.append(f"{name}: {reason}")
    except Exception as error:  # noqa: BLE001  the other parts are worth having
        missing.append(f"{name}: {type(error).__name__}: {str(error)[-1000:]}")
        sys.stdout.write(f"{missing[-1]}\n")
