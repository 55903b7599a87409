"""What was measured beside what it should be, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Row:
    """One number.

    Attributes:
        part: what was measured, such as `embedded`.
        name: the number.
        target: what it should be at least (or at most), None where nothing is said.
        better: which way is good.
        note: how it came about, in a few words.
    """

    part: str
    name: str
    value: float
    unit: str
    target: float | None = None
    better: Literal["more", "less"] = "more"
    note: str = ""

    @property
    def verdict(self) -> str:
        """How many times as good as the target; empty without one."""
        if self.target is None or not self.value:
            return ""
        ratio = self.value / self.target if self.better == "more" else self.target / self.value
        return f"{ratio:.2f}x{'' if ratio >= 1 else ' MISSED'}"


def to_markdown(rows: Iterable[Row], missing: Sequence[str]) -> str:
    """The table, and what is not in it."""
    lines = ["| | measured | target | of target | |", "|---|---:|---:|---:|---|"]
    part = ""
    for row in rows:
        if row.part != part:
            part = row.part
            lines.append(f"| **{part}** | | | | |")
        sign = "≥" if row.better == "more" else "≤"
        target = "" if row.target is None else f"{sign} {_show(row.target)} {row.unit}"
        lines.append(
            f"| {row.name} | {_show(row.value)} {row.unit} | {target} | {row.verdict} | {row.note} |"
        )
    text = "\n".join(lines) + "\n"
    if missing:
        text += "\nNot measured:\n" + "".join(f"- {reason}\n" for reason in missing)
    return text


def write_json(path: Path, rows: Iterable[Row], missing: Sequence[str], *, seconds: float) -> None:
    """Writes everything down."""
    document = {
        "machine": {
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load": os.getloadavg(),
        },
        "seconds": seconds,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "missing": list(missing),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2))


def _show(value: float) -> str:
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}"
