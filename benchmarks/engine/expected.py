"""The right answers, from the drawn events themselves: no reader is asked."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.engine.digest import Digest, digest_column
from benchmarks.engine.events import Branch, batches
from benchmarks.engine.queries import QUERIES, Query

Mask = npt.NDArray[np.bool_]


def expected_answers(n_events: int) -> dict[str, Digest]:
    """The digest of each query's result over so many events, by the name of the query."""
    parts = [{query.name: _answer(query, batch) for query in QUERIES} for batch in batches(n_events)]
    return {query.name: reduce(Digest.__add__, (part[query.name] for part in parts)) for query in QUERIES}


def _answer(query: Query, batch: list[Branch]) -> Digest:
    branches = {branch.name: branch for branch in batch}
    n_events = len(branches["run"].values)
    match query.name:
        case "Q2":
            return _take(query, branches, _first_muon_pt(branches) > 25)
        case "Q3":
            pt, eta = branches["Jet_pt"].values, branches["Jet_eta"].values
            central = (pt > 30) & (np.abs(eta) < 2.4)
            columns = {name: digest_column(branches[name].values[central]) for name in query.columns}
            return Digest(n_events, columns)
        case "Q4":
            masses = _masses(branches)
            return Digest(len(masses), {"mass": digest_column(masses)})
        case _:
            return _take(query, branches, np.ones(n_events, np.bool_))


def _take(query: Query, branches: dict[str, Branch], passes: Mask) -> Digest:
    columns = {}
    for name in query.columns:
        branch = branches[name]
        kept = passes if branch.counter is None else np.repeat(passes, branches[branch.counter].values)
        columns[name] = digest_column(branch.values[kept])
    return Digest(int(passes.sum()), columns)


def _first_muon_pt(branches: dict[str, Branch]) -> npt.NDArray[Any]:
    """Of each event with two muons or more; 0 for others."""
    counts = branches["nMuon"].values.astype(np.int64)
    starts = np.cumsum(counts) - counts
    first = np.zeros(len(counts), np.float32)
    has_two = counts >= 2
    first[has_two] = branches["Muon_pt"].values[starts[has_two]]
    return first


def _masses(branches: dict[str, Branch]) -> npt.NDArray[np.float64]:
    """Of events with two muons, of opposite charge: sqrt(2 pt pt (cosh Δη - cos Δφ)), as if without mass."""
    counts = branches["nMuon"].values.astype(np.int64)
    starts = (np.cumsum(counts) - counts)[counts == 2]
    pt, eta, phi, charge = (
        np.stack([branches[f"Muon_{name}"].values[starts + which].astype(np.float64) for which in (0, 1)])
        for name in ("pt", "eta", "phi", "charge")
    )
    angles = np.cosh(eta[0] - eta[1]) - np.cos(phi[0] - phi[1])
    is_opposite = charge[0] != charge[1]
    masses: npt.NDArray[np.float64] = np.sqrt(2 * pt[0] * pt[1] * angles)[is_opposite]
    return masses
