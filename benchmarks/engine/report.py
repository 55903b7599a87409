"""The table for people and the JSON for programs."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import psutil

from benchmarks.engine.memory import Peak
from benchmarks.engine.methods.table import METHODS
from benchmarks.engine.timing import Measurement, of
from benchmarks.engine.wide import FixedCost

_PACKAGES = (
    "uproot",
    "awkward",
    "pyarrow",
    "func-adl-uproot",
    "coffea",
    "root",
    "numpy",
    "cramjam",
    "zstandard",
)
_NONE = "—"


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a peer compares with us.

    Attributes:
        title: head of its column.
        above, below: methods whose seconds are divided.
        quantity: of which seconds.
    """

    title: str
    above: str
    below: str
    quantity: str = "wall_s"

    def of(self, cells: dict[str, Measurement]) -> float | None:
        """The quotient; None if either is missing."""
        above, below = (getattr(cells.get(name), self.quantity, None) for name in (self.above, self.below))
        return above / below if above is not None and below else None


RATIOS = (
    Ratio("func_adl_uproot ÷ ours, 2 threads (wall)", "func_adl", "ours2"),
    Ratio("func_adl_uproot ÷ ours, 1 thread (CPU)", "func_adl", "ours1", "cpu_s"),
    Ratio("uproot-raw ÷ ours, 2 threads (wall)", "uproot_raw", "ours2"),
    Ratio("coffea ÷ ours, 2 threads (wall)", "coffea", "ours2"),
    Ratio("RDataFrame ÷ ours, 1 thread each (wall)", "rdf1", "ours1"),
    Ratio("RDataFrame ÷ ours, 2 threads each (wall)", "rdf2", "ours2"),
    Ratio("ours, 1 thread ÷ floor (CPU)", "ours1", "floor", "cpu_s"),
    Ratio("ours, 1 thread ÷ floor, contents only (CPU)", "ours1", "floor_content", "cpu_s"),
)


@dataclass(slots=True)
class Report:
    """Everything that one run has found.

    Attributes:
        missing: methods that are not installed.
    """

    n_events: int
    writer: str
    measurements: list[Measurement] = field(default_factory=list)
    peaks: list[Peak] = field(default_factory=list)
    fixed_costs: list[FixedCost] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All rounds of all measurements, and where they were taken."""
        return {
            "machine": _machine(),
            "packages": dict(_versions()),
            "events": self.n_events,
            "inputs written by": self.writer,
            "not installed": self.missing,
            "measurements": [
                dataclasses.asdict(item) | {"wall_s": item.wall_s, "cpu_s": item.cpu_s}
                for item in self.measurements
            ],
            "ratios": self._ratios_as_json(),
            "peak memory": [dataclasses.asdict(item) for item in self.peaks],
            "fixed cost": [dataclasses.asdict(item) for item in self.fixed_costs],
        }

    def _ratios_as_json(self) -> list[dict[str, Any]]:
        rows = []
        for codec, queries in self._files().items():
            for ratio in RATIOS:
                found = {query: ratio.of(dict(of(self.measurements, codec, query))) for query in queries}
                mean = geometric_mean(found.values())
                rows.append({"codec": codec, "ratio": ratio.title, "queries": found, "geometric mean": mean})
        return rows

    def to_markdown(self) -> str:
        """Tables of seconds, ratios, memory and fixed cost, with a note for each missing number."""
        parts = [self._heading(), *self._seconds(), *self._ratios(), *self._memory(), *self._fixed()]
        return "\n".join([*parts, *self._notes()]) + "\n"

    def _files(self) -> dict[str, list[str]]:
        files: dict[str, list[str]] = {}
        for item in self.measurements:
            queries = files.setdefault(item.codec, [])
            if item.query not in queries:
                queries.append(item.query)
        return files

    def _methods(self) -> list[str]:
        present = {item.method for item in self.measurements}
        return [name for name in METHODS if name in present]

    def _heading(self) -> str:
        return f"{self.n_events} events, files written by {self.writer}; {_machine()}"

    def _seconds(self) -> Iterator[str]:
        if not self.measurements:
            return
        methods = self._methods()
        yield "\nSeconds, wall / CPU (medians)\n"
        yield from _table_head(["codec", "query", *(METHODS[name].title for name in methods)])
        for codec, queries in self._files().items():
            for query in queries:
                cells = of(self.measurements, codec, query)
                yield _row([codec, query, *(_show_seconds(cells.get(name)) for name in methods)])

    def _ratios(self) -> Iterator[str]:
        present = set(self._methods())
        ratios = [ratio for ratio in RATIOS if {ratio.above, ratio.below} <= present]
        if not ratios:
            return
        yield "\nRatios of medians; the mean of a codec is the geometric one\n"
        yield from _table_head(["codec", "query", *(ratio.title for ratio in ratios)])
        for codec, queries in self._files().items():
            cells = [dict(of(self.measurements, codec, query)) for query in queries]
            columns = [[ratio.of(cell) for cell in cells] for ratio in ratios]
            for number, query in enumerate(queries):
                yield _row([codec, query, *(_show_ratio(column[number]) for column in columns)])
            means = [_show_ratio(geometric_mean(column)) for column in columns]
            yield _row([f"**{codec}**", "**mean**", *(f"**{mean}**" for mean in means)])

    def _memory(self) -> Iterator[str]:
        if not self.peaks:
            return
        sizes = sorted({peak.input_bytes for peak in self.peaks})
        yield "\nPeak memory for Q5, MB\n"
        yield from _table_head(["method", *(f"file of {size / 1e6:.0f} MB" for size in sizes)])
        for name in dict.fromkeys(peak.method for peak in self.peaks):
            found = {peak.input_bytes: peak.peak_bytes for peak in self.peaks if peak.method == name}
            yield _row([METHODS[name].title, *(_show_megabytes(found.get(size)) for size in sizes)])

    def _fixed(self) -> Iterator[str]:
        if not self.fixed_costs:
            return
        yield "\nFixed cost of a file with many branches, ms wall / CPU (medians, warm process)\n"
        heads = [
            "file",
            "branches",
            "events",
            "ours",
            "official query",
            "official, written",
            "query ÷ ours (wall)",
        ]
        yield from _table_head(heads)
        for cost in self.fixed_costs:
            seconds = (cost.ours_s, cost.official_query_s, cost.official_s)
            shown = [f"{1e3 * wall:.0f} / {1e3 * cpu:.0f}" for wall, cpu in seconds]
            ratio = _show_ratio(cost.official_query_s[0] / cost.ours_s[0])
            yield _row([cost.file, str(cost.n_branches), str(cost.n_events), *shown, ratio])

    def _notes(self) -> Iterator[str]:
        notes = [f"- {METHODS[name].title}: not installed" for name in self.missing]
        problems: dict[tuple[str, str], list[str]] = {}
        for item in self.measurements:
            if item.problem:
                problems.setdefault((item.method, item.problem), []).append(f"{item.codec} {item.query}")
        for peak in self.peaks:
            if peak.problem:
                where = f"memory, {peak.n_events} events"
                problems.setdefault((peak.method, peak.problem), []).append(where)
        for (method, problem), places in problems.items():
            notes.append(f"- {METHODS[method].title}, {', '.join(places)}: {problem}")
        if notes:
            yield "\nWithout a number\n"
            yield from notes


def geometric_mean(values: Any) -> float | None:
    """The mean; None if a value is missing, since means over different queries mislead."""
    found = list(values)
    if not found or any(value is None for value in found):
        return None
    return math.exp(sum(map(math.log, found)) / len(found))


def _table_head(heads: Sequence[str]) -> Iterator[str]:
    yield _row(heads)
    yield _row(["---"] * len(heads))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show_seconds(item: Measurement | None) -> str:
    if item is None or item.wall_s is None or item.cpu_s is None:
        return _NONE
    return f"{item.wall_s:.3f} / {item.cpu_s:.3f}"


def _show_ratio(value: float | None) -> str:
    return _NONE if value is None else f"{value:.2f}"


def _show_megabytes(value: int | None) -> str:
    return _NONE if value is None else f"{value / 1e6:.0f}"


def _machine() -> str:
    cores = psutil.cpu_count()
    memory = psutil.virtual_memory().total / 1e9
    return f"{cores} cores, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
