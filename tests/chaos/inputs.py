"""Files whose content is known without reading them, made once; two of them are broken."""

from __future__ import annotations

import io
import json
import random
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import uproot

VERSION = 1
"""Grows with each change of what the files hold."""

N_FILES = 200
SIZES = (1, 20, 200, 2_000, 20_000)
TRUNCATED, GARBLED = 77, 133


_reading = threading.Lock()
"""awkward's extension types are not made for several threads."""


def select(number: int = 0) -> str:
    """The query; every number asks another question, which has the same answer."""
    cut = f"(x > 2) & (x < {1000 + number})"
    return json.dumps([{"treename": "Events", "expressions": ["event", "x", "pt"], "cut": cut}])


@dataclass(frozen=True, slots=True)
class Sums:
    """What tells the content of a result from that of any other file's; all numbers are exact in float64."""

    rows: int
    event: int
    x: float
    pt: float

    @classmethod
    def of_parquet(cls, content: bytes) -> Sums:
        """Of a delivered result."""
        with _reading:
            events = ak.from_arrow(pq.read_table(io.BytesIO(content)))
        return cls(
            len(events),
            int(ak.sum(events["event"])),
            float(ak.sum(events["x"])),
            float(ak.sum(ak.values_astype(events["pt"], np.float64))),
        )


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files.

    Attributes:
        good: what each good file has to give, by name.
        bad: names of those that nobody can read.
    """

    folder: Path
    good: dict[str, Sums]
    bad: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """All, in the order of their numbers."""
        return sorted((*self.good, *self.bad))


def make_inputs(cache: Path) -> Inputs:
    """The files in `cache`, made if they are not there."""
    folder = cache / f"inputs-{VERSION}"
    index = folder / "index.json"
    if not index.exists():
        folder.mkdir(parents=True, exist_ok=True)
        index.write_text(json.dumps({name: asdict(sums) for name, sums in _make(folder)}))
    good = {name: Sums(**sums) for name, sums in json.loads(index.read_text()).items()}
    return Inputs(folder, good, (_name(TRUNCATED), _name(GARBLED)))


def _make(folder: Path) -> Iterator[tuple[str, Sums]]:
    dice = random.Random(VERSION)
    for number in range(N_FILES):
        is_bad = number in {TRUNCATED, GARBLED}
        name = _name(number)
        n_events = 20_000 if is_bad else dice.choice(SIZES)
        sums = write_file(folder / name, number, n_events)
        if not is_bad:
            yield name, sums
    _truncate(folder / _name(TRUNCATED))
    _garble(folder / _name(GARBLED))


def write_file(path: Path, number: int, n_events: int) -> Sums:
    """Makes a good file, unlike that of any other number; returns what it has to give."""
    dice = np.random.default_rng(number)
    event = number * 1_000_000 + np.arange(n_events)
    x = dice.integers(0, 80, n_events) / 8.0
    counts = dice.integers(0, 4, n_events)
    pt = ak.unflatten((dice.integers(0, 400, int(counts.sum())) / 4.0).astype(np.float32), counts)
    with uproot.recreate(path) as file:
        tree = file.mktree("Events", {"event": "int64", "x": "float64", "pt": "var * float32"})
        tree.extend({"event": event, "x": x, "pt": pt})
    kept = x > 2
    return Sums(
        int(kept.sum()),
        int(event[kept].sum()),
        float(x[kept].sum()),
        float(ak.sum(ak.values_astype(pt[kept], np.float64))),
    )


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _garble(path: Path) -> None:
    """Overwrites the middle of a basket."""
    with uproot.open(path) as file:
        basket = int(file["Events"]["event"].member("fBasketSeek")[0])
    content = bytearray(path.read_bytes())
    content[basket + 200 : basket + 1200] = bytes(1000)
    path.write_bytes(bytes(content))


def _name(number: int) -> str:
    return f"f{number:03d}.root"
