"""The largest resident set of each method for the widest query, in a fresh process for each file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.engine.inputs import TREE, Input, warm
from benchmarks.engine.methods.protocol import Task
from benchmarks.engine.methods.table import METHODS
from benchmarks.engine.process import MethodFailed, MethodProcess
from benchmarks.engine.queries import Query

MOST_OF_FREE = 0.7
"""A method that is about to take more of the free memory is not run."""


@dataclass(frozen=True, slots=True)
class Peak:
    """The peak of one method.

    Attributes:
        input_bytes: size of the file.
        peak_bytes: None if there is no number.
        problem: why there is none.
    """

    method: str
    n_events: int
    input_bytes: int
    peak_bytes: int | None
    problem: str | None = None


def measure_peaks(
    methods: Sequence[str], query: Query, files: Sequence[Input], outputs: Path, *, logs: Path
) -> list[Peak]:
    """The peaks for files in ascending size; the floor has none, since it holds its rows beforehand."""
    peaks: list[Peak] = []
    for method in methods:
        if method.startswith("floor"):
            continue
        before: Peak | None = None
        for source in files:
            problem = None if before is None else before.problem or _find_excess(before, source)
            before = (
                _measure(method, query, source, outputs, logs)
                if problem is None
                else _skip(method, source, problem)
            )
            peaks.append(before)
    return peaks


def _measure(method: str, query: Query, source: Input, outputs: Path, logs: Path) -> Peak:
    warm(source.path)
    task = Task(query, source.path, TREE)
    output = outputs / f"peak{METHODS[method].extension}"
    try:
        with MethodProcess(method, logs / f"{method}.log") as process:
            process.prepare(task)
            process.answer(task, output)
            return Peak(method, source.n_events, source.path.stat().st_size, process.peak_bytes())
    except MethodFailed as error:
        return _skip(method, source, str(error))
    finally:
        output.unlink(missing_ok=True)


def _skip(method: str, source: Input, problem: str) -> Peak:
    return Peak(method, source.n_events, source.path.stat().st_size, None, problem)


def _find_excess(before: Peak, source: Input) -> str | None:
    """Why a larger file should not be tried: the peak might grow as the file does."""
    likely = (before.peak_bytes or 0) * source.path.stat().st_size / before.input_bytes
    free = psutil.virtual_memory().available
    if likely <= MOST_OF_FREE * free:
        return None
    return f"might take {likely / 1e9:.0f} GB of the {free / 1e9:.0f} GB that are free"
