"""The command: what is measured, and where the numbers go."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine.digest import Digest
from benchmarks.engine.expected import expected_answers
from benchmarks.engine.inputs import CODECS, Codec, Input, has_root, input_file, make_room
from benchmarks.engine.memory import measure_peaks
from benchmarks.engine.methods.table import METHODS
from benchmarks.engine.queries import QUERIES, find_query
from benchmarks.engine.report import Report
from benchmarks.engine.timing import Stable, measure
from benchmarks.engine.wide import measure_fixed_costs

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "bench"
SAMPLES = ROOT / ".cache" / "samples"
PARTS = ("times", "memory", "fixed")
MOST_INPUT_BYTES = 12_000_000_000
_MEMORY_DISK = Path("/dev/shm")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The switches."""
    names = [query.name for query in QUERIES]
    parser = argparse.ArgumentParser(prog="benchmarks.engine", description="the engine beside its peers")
    parser.add_argument("--events", type=int, default=1_000_000, help="per file; LZMA has two fifths")
    parser.add_argument("--only", nargs="+", choices=[*METHODS], default=[*METHODS], help="methods")
    parser.add_argument("--codecs", nargs="+", choices=CODECS, default=[*CODECS])
    parser.add_argument("--queries", nargs="+", choices=names, default=names)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=[*PARTS])
    parser.add_argument("--rounds", nargs=2, type=int, default=[5, 3], help="of quick and of slow queries")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="for inputs and engine.json")
    parser.add_argument("--outputs", type=Path, help="for results; a disk in memory if there is one")
    parser.add_argument("--without-root", action="store_true", help="let uproot write the inputs")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the tables and writes engine.json; returns 1 if one of our own answers was wrong."""
    chosen = parse_arguments(arguments)
    with_root = has_root() and not chosen.without_root
    chosen.folder.mkdir(parents=True, exist_ok=True)
    installed = [name for name in chosen.only if METHODS[name].is_installed()]
    missing = [name for name in chosen.only if name not in installed]
    report = Report(chosen.events, "ROOT" if with_root else "uproot", missing=missing)
    outputs = Path(tempfile.mkdtemp(prefix="bench-", dir=chosen.outputs or _default_outputs(chosen.folder)))
    try:
        _measure(report, chosen, installed, outputs, with_root=with_root)
    finally:
        # What was found until then is worth the wait.
        shutil.rmtree(outputs, ignore_errors=True)
        (chosen.folder / "engine.json").write_text(json.dumps(report.to_json(), indent=1) + "\n")
        print(report.to_markdown())
    ours = [item for item in report.measurements if item.method.startswith("ours")]
    return int(any(item.problem for item in ours))


def _measure(
    report: Report, chosen: argparse.Namespace, installed: list[str], outputs: Path, *, with_root: bool
) -> None:
    if "times" in chosen.parts:
        _measure_times(report, chosen, installed, outputs, with_root=with_root)
    if "memory" in chosen.parts:
        files = [_input(chosen, "ZSTD", factor * chosen.events, with_root=with_root) for factor in (1, 4)]
        report.peaks = measure_peaks(installed, find_query("Q5"), files, outputs, logs=_logs(chosen))
    if "fixed" in chosen.parts:
        report.fixed_costs = measure_fixed_costs(SAMPLES, outputs)


def _measure_times(
    report: Report, chosen: argparse.Namespace, installed: list[str], outputs: Path, *, with_root: bool
) -> None:
    answers: dict[int, dict[str, Digest]] = {}
    stable = Stable(installed, outputs, logs=_logs(chosen))
    try:
        for codec in chosen.codecs:
            source = _input(chosen, codec, chosen.events, with_root=with_root)
            if source.n_events not in answers:
                answers[source.n_events] = expected_answers(source.n_events)
            for name in chosen.queries:
                print(f"{codec} {name}", file=sys.stderr, flush=True)
                report.measurements += measure(
                    stable,
                    find_query(name),
                    source,
                    answers[source.n_events][name],
                    n_rounds=tuple(chosen.rounds),
                )
    finally:
        stable.close()


def _input(chosen: argparse.Namespace, codec: Codec, n_events: int, *, with_root: bool) -> Input:
    """The input file; others make room for it where there are too many."""
    folder = chosen.folder / "inputs"
    source = input_file(folder, codec, n_events, with_root=with_root)
    make_room(folder, {source.path}, MOST_INPUT_BYTES)
    return source


def _logs(chosen: argparse.Namespace) -> Path:
    """What the methods print, by method."""
    folder: Path = chosen.folder / "logs"
    folder.mkdir(exist_ok=True)
    return folder


def _default_outputs(folder: Path) -> Path:
    """A disk in memory with room for results and for the methods, else the folder."""
    if not _MEMORY_DISK.is_dir() or shutil.disk_usage(_MEMORY_DISK).free < MOST_INPUT_BYTES:
        return folder
    return _MEMORY_DISK
