"""The fixed cost of a file: a few columns of a few events out of many branches."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uproot

from benchmarks.engine.inputs import TREE
from benchmarks.engine.methods.official import FuncAdl
from benchmarks.engine.methods.ours import Ours
from benchmarks.engine.methods.protocol import Task
from benchmarks.engine.queries import Query

SAMPLES = ("nano_tt_v12.root", "nano_tt_v15.root")
"""Files of CMS with 200 events each."""

_COLUMNS = ("run", "event", "MET_pt", "MET_phi", "nMuon", "Muon_pt", "Muon_eta", "Jet_pt")


@dataclass(frozen=True, slots=True)
class FixedCost:
    """Medians for one file, all in this process, which is warm.

    Attributes:
        ours_s: our whole transform, one thread: wall and CPU.
        official_query_s: the function that func_adl_uproot generates, without writing.
        official_s: the same with writing.
    """

    file: str
    n_branches: int
    n_events: int
    ours_s: tuple[float, float]
    official_query_s: tuple[float, float]
    official_s: tuple[float, float]


def measure_fixed_costs(samples: Path, folder: Path) -> list[FixedCost]:
    """The costs for those of the sample files that are there."""
    present = [samples / name for name in SAMPLES if (samples / name).exists()]
    return [measure_fixed_cost(path, folder) for path in present]


def measure_fixed_cost(path: Path, folder: Path, *, n_rounds: int = 7) -> FixedCost:
    """The costs for one file, after one round that does not count."""
    with uproot.open(path) as file:
        tree = file[TREE]
        names = set(tree.keys())
        n_events = int(tree.num_entries)
    columns = tuple(name for name in _COLUMNS if name in names)
    record = ", ".join(f"{name!r}: e.{name}" for name in columns)
    task = Task(Query("wide", columns, f".Select(lambda e: {{{record}}})", columns), path, TREE)
    ours, official = Ours(n_threads=1), FuncAdl()
    ours.prepare(task)
    official.prepare(task)
    output = folder / "wide.parquet"
    timed: tuple[Callable[[], object], ...] = (
        lambda: ours.answer(task, output),
        lambda: official.rows(task),
        lambda: official.answer(task, output),
    )
    rounds = [[_time(work) for work in timed] for _ in range(n_rounds + 1)][1:]
    medians = [
        (median(spent[0] for spent in column), median(spent[1] for spent in column))
        for column in zip(*rounds, strict=True)
    ]
    output.unlink(missing_ok=True)
    return FixedCost(path.name, len(names), n_events, medians[0], medians[1], medians[2])


def _time(work: Callable[[], object]) -> tuple[float, float]:
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu
