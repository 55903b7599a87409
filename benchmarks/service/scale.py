"""How much is measured: enough for figures that repeat, or just enough to see that everything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Scale:
    """Numbers of one run, and where it keeps its files.

    Attributes:
        submits: by 16 clients.
        polls: of a status, by 16 clients.
        lists: of requests.
        results: rows in the database of the server that is polled besides.
        look_up: files of one list that is recorded.
        reports: files of the request whose reports are counted.
        latencies: small requests, one after the other.
        read_mb, read_rounds: read back for each number of readers, and how often.
        events: in one of the ten large files; 130,000 make 75 MB.
        rounds: over the ten files.
        many: files of the request over which memory is watched.
        crowd: files of the other user's request.
        folder: for what goes with the run.
        inputs: for input files that are kept.
        samples: the real files.
    """

    folder: Path
    inputs: Path
    samples: Path
    submits: int = 3000
    polls: int = 20_000
    lists: int = 100
    results: int = 1_000_000
    look_up: int = 20_000
    reports: int = 80_000
    latencies: int = 20
    read_mb: int = 1536
    read_rounds: int = 3
    events: int = 130_000
    rounds: int = 3
    many: int = 100_000
    crowd: int = 10_000


def quick(folder: Path, inputs: Path, samples: Path) -> Scale:
    """Everything once, in little."""
    return Scale(
        folder,
        inputs,
        samples,
        submits=100,
        polls=200,
        lists=5,
        results=2000,
        look_up=500,
        reports=10_000,
        latencies=2,
        read_mb=64,
        read_rounds=1,
        events=2000,
        rounds=1,
        many=500,
        crowd=100,
    )
