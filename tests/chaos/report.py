"""What the runs found, as a table and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_HEAD = ("run", "s", "healed s", "faults", "restarts", "left", "complaints")
_TRACE = re.compile(r"^Traceback \(most recent call last\)|Task exception was never retrieved", re.MULTILINE)


@dataclass
class Outcome:
    """One run.

    Attributes:
        name: the seed, or what else it was.
        faults: what was broken, with the moment in seconds.
        seconds: from submit to the end of the request.
        healed_s: the part of it after everything was whole again.
        restarts: processes that were started again.
        left: objects in the store that no result counts.
        complaints: what does not hold.
    """

    name: str
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    healed_s: float = 0.0
    restarts: int = 0
    left: int = 0
    complaints: list[str] = field(default_factory=list)


def find_defects(folder: Path) -> list[str]:
    """Tracebacks in logs: nothing that was broken here excuses one."""
    found = []
    for log in sorted(folder.glob("*.log")):
        text = log.read_text(errors="replace")
        if matches := list(_TRACE.finditer(text)):
            end = text[matches[0].start() :].splitlines()
            last = next((line for line in end[1:] if line and not line.startswith((" ", "|", "+"))), "")
            found.append(f"{log.name}: {len(matches)} tracebacks, the first: {last[:200]}")
    return found


def table(outcomes: Iterable[Outcome]) -> str:
    """One line per run; what was broken and what does not hold below it."""
    rows: list[Sequence[str]] = [_HEAD, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def describe(outcome: Outcome) -> str:
    """A run in a few lines, for while others still go on."""
    lines = [f"{outcome.name}: {outcome.seconds:.1f} s, {', '.join(outcome.faults) or 'nothing broken'}"]
    return "\n".join(lines + [f"    VIOLATION {complaint}" for complaint in outcome.complaints])


def store(outcomes: Sequence[Outcome], path: Path) -> None:
    """Writes everything as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")


def _row(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.name,
        f"{outcome.seconds:.1f}",
        f"{outcome.healed_s:.1f}",
        str(len(outcome.faults)),
        str(outcome.restarts),
        str(outcome.left),
        str(len(outcome.complaints) or "-"),
    )
