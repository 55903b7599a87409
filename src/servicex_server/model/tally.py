"""What was counted and timed while a file was transformed, for its user and for whoever minds speed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import TypedDict

MAX_STEPS = 100
"""Cuts, and weights, that are kept of one file."""
MAX_CHARACTERS = 500
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StageSeconds:
    """Where the time went. Threads are added up, so that the stages may take longer than the whole.

    Attributes:
        read: waiting for bytes of the input.
        decompress: from the input's bytes to columns.
        filter: the query itself.
        encode: from rows to compressed bytes of the result.
        write: waiting for the disk.
    """

    read: float = 0.0
    decompress: float = 0.0
    filter: float = 0.0
    encode: float = 0.0
    write: float = 0.0


_STAGES = tuple(stage.name for stage in fields(StageSeconds))


@dataclass(frozen=True, slots=True)
class CutStep:
    """One line of a cut flow: the rows that pass this cut and all before it.

    Attributes:
        text: the cut.
        n_rows: rows that pass.
        table: whose rows: the tree, numbered where several tables are made of one (`Events #2`).
    """

    text: str
    n_rows: int
    table: str = ""


@dataclass(frozen=True, slots=True)
class WeightSum:
    """Sums of a branch of weights over all rows read, and over those that pass the selection of a table."""

    branch: str
    before: float
    after: float
    table: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """The numbers of one file, or of several added up.

    Attributes:
        bytes_decompressed: size of the columns that were read, uncompressed.
        seconds: per stage.
        cut_flow: the cuts in the order in which they were applied.
        sums_of_weights: one entry per table and branch of weights.
    """

    bytes_decompressed: int = 0
    seconds: StageSeconds = StageSeconds()
    cut_flow: tuple[CutStep, ...] = ()
    sums_of_weights: tuple[WeightSum, ...] = ()


NO_TALLY = Tally()


class SumsDocument(TypedDict):
    """Sums of one branch; None for what is no finite number, which JSON does not know."""

    table: str
    branch: str
    before: float | None
    after: float | None


class StepDocument(TypedDict):
    """One line of a cut flow."""

    table: str
    cut: str
    rows: int


class TallyDocument(TypedDict):
    """A tally as JSON."""

    bytes_decompressed: int
    seconds: dict[str, float]
    cut_flow: list[StepDocument]
    sums_of_weights: list[SumsDocument]


def to_document(tally: Tally) -> TallyDocument:
    """The tally as JSON that every database takes: bounded, no NUL, no NaN, whatever a worker sent.

    >>> to_document(Tally(10, cut_flow=(CutStep("MET_pt > 20", 3),)))["cut_flow"]
    [{'table': '', 'cut': 'MET_pt > 20', 'rows': 3}]
    """
    return {
        "bytes_decompressed": _count(tally.bytes_decompressed),
        "seconds": {name: _seconds(getattr(tally.seconds, name)) for name in _STAGES},
        "cut_flow": [
            {"table": _text(step.table), "cut": _text(step.text), "rows": _count(step.n_rows)}
            for step in tally.cut_flow[:MAX_STEPS]
        ],
        "sums_of_weights": [
            {
                "table": _text(entry.table),
                "branch": _text(entry.branch),
                "before": _sum(entry.before),
                "after": _sum(entry.after),
            }
            for entry in tally.sums_of_weights[:MAX_STEPS]
        ],
    }


def from_document(document: TallyDocument) -> Tally:
    """The tally that `to_document` wrote down; a sum that was no finite number is NaN."""
    return Tally(
        bytes_decompressed=document["bytes_decompressed"],
        seconds=StageSeconds(**document["seconds"]),
        cut_flow=tuple(CutStep(step["cut"], step["rows"], step["table"]) for step in document["cut_flow"]),
        sums_of_weights=tuple(
            WeightSum(sums["branch"], _number(sums["before"]), _number(sums["after"]), sums["table"])
            for sums in document["sums_of_weights"]
        ),
    )


def add_up(tallies: Sequence[Tally]) -> Tally:
    """The tallies of several files as one. Cuts and weights of one name, of one table, belong together.

    >>> one = Tally(cut_flow=(CutStep("all", 10), CutStep("x > 1", 4)))
    >>> [step.n_rows for step in add_up([one, one]).cut_flow]
    [20, 8]
    """
    rows: dict[tuple[str, str, int], int] = {}
    sums: dict[tuple[str, str], tuple[float, float]] = {}
    for tally in tallies:
        for key, n_rows in _numbered(tally.cut_flow):
            rows[key] = rows.get(key, 0) + n_rows
        for entry in tally.sums_of_weights:
            before, after = sums.get((entry.branch, entry.table), (0.0, 0.0))
            sums[entry.branch, entry.table] = (before + entry.before, after + entry.after)
    return Tally(
        bytes_decompressed=sum(tally.bytes_decompressed for tally in tallies),
        seconds=_add_seconds(tally.seconds for tally in tallies),
        cut_flow=tuple(CutStep(text, n_rows, table) for (text, table, _), n_rows in rows.items()),
        sums_of_weights=tuple(WeightSum(branch, *pair, table) for (branch, table), pair in sums.items()),
    )


def _numbered(steps: Iterable[CutStep]) -> Iterable[tuple[tuple[str, str, int], int]]:
    """Rows by text, table and, since a text may come twice in it, its number among the same ones."""
    seen: Counter[tuple[str, str]] = Counter()
    for step in steps:
        key = step.text, step.table
        seen[key] += 1
        yield (*key, seen[key]), step.n_rows


def _add_seconds(parts: Iterable[StageSeconds]) -> StageSeconds:
    totals = dict.fromkeys(_STAGES, 0.0)
    for part in parts:
        for name in totals:
            totals[name] += getattr(part, name)
    return StageSeconds(**totals)


def _text(text: str) -> str:
    short = text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
    return short.replace("\0", "�").encode(errors="replace").decode()


def _count(number: int) -> int:
    return min(max(0, number), _LARGEST)


def _seconds(number: float) -> float:
    return number if math.isfinite(number) and number >= 0 else 0.0


def _sum(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else value
