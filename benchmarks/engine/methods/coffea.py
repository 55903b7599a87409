"""coffea's NanoEvents with virtual arrays: columns are read when they are used."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np

from benchmarks.engine.methods.protocol import Task

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from coffea.nanoevents import BaseSchema, NanoEventsFactory


class Coffea:
    """Columns under their own names (`BaseSchema`), which costs less than building NanoAOD's objects."""

    def prepare(self, task: Task) -> None:
        """Nothing: a file is opened anew."""

    def answer(self, task: Task, output: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            events = NanoEventsFactory.from_root(
                {str(task.path): task.tree}, schemaclass=BaseSchema, mode="virtual"
            ).events()
            rows = ak.zip(_columns(task, events), depth_limit=1)
            ak.to_parquet(rows, output)


def _columns(task: Task, events: Any) -> dict[str, ak.Array]:
    names = task.query.columns
    match task.query.name:
        case "Q2":
            two = events.nMuon >= 2
            kept = two & (ak.firsts(events.Muon_pt) > 25)
            return {name: events[name][ak.fill_none(kept, value=False)] for name in names}
        case "Q3":
            central = (events.Jet_pt > 30) & (abs(events.Jet_eta) < 2.4)
            return {name: events[name][central] for name in names}
        case "Q4":
            return {"mass": _mass(events)}
        case _:
            return {name: events[name] for name in names}


def _mass(events: Any) -> ak.Array:
    two = events.nMuon == 2
    charge = events.Muon_charge[two]
    opposite = charge[:, 0] != charge[:, 1]
    pt, eta, phi = (events[f"Muon_{name}"][two][opposite] for name in ("pt", "eta", "phi"))
    angles = np.cosh(eta[:, 0] - eta[:, 1]) - np.cos(phi[:, 0] - phi[:, 1])
    return np.sqrt(2 * pt[:, 0] * pt[:, 1] * angles)
