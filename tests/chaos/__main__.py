"""`python -m chaos --seeds 20`, or `--soak 10`; exit code 1 if anything does not hold."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from functools import partial
from pathlib import Path

from chaos.inputs import make_inputs
from chaos.pace import PacedFiles
from chaos.report import Outcome, describe, store, table
from chaos.runs import PACE_S, Ground, run_full_disk, run_seed, run_singles
from chaos.services import running_services
from chaos.soak import run_soak

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "chaos"


def main() -> int:
    """Runs what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=0, help="how many runs with random faults")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--singles", action="store_true", help="each fault by itself")
    parser.add_argument("--full-disk", action="store_true", help="a local store on a disk that gets full")
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES", help="users for that long")
    wanted = parser.parse_args()
    # What it has started would outlive it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    inputs = make_inputs(CACHE.resolve())
    outcomes: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        outcomes.append(outcome)
        print(describe(outcome), flush=True)

    with running_services() as services, PacedFiles(inputs.folder, most_s=PACE_S) as files:
        ground = Ground(services, inputs, files, CACHE)
        for seed in range(wanted.first, wanted.first + wanted.seeds):
            told(run_seed(ground, seed))
        if wanted.singles:
            run_singles(ground, told)
        if wanted.full_disk:
            told(run_full_disk(ground))
        if wanted.soak:
            told(run_soak(ground, wanted.first, wanted.soak, partial(print, flush=True)))
    print(table(outcomes))
    store(outcomes, CACHE / f"chaos-{time.strftime('%Y%m%d-%H%M%S')}.json")
    return 1 if any(outcome.complaints for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
