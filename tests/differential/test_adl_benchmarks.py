"""The eight ADL benchmark tasks (https://github.com/iris-hep/adl-benchmarks-index) on a NanoAOD sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from vector.backends.awkward import behavior

from func_adl_oracle import assert_same, ours, plain, theirs, to_text

BRANCHES = (
    "MET_pt", "MET_phi", "Jet_btagDeepFlavB", "Muon_charge", "Electron_charge",
    *(f"{kind}_{name}" for kind in ("Jet", "Muon", "Electron") for name in ("pt", "eta", "phi", "mass")),
)  # fmt: skip


def zipped(collection: str, **more: str) -> str:
    """The text of a collection of four-momenta with some more fields."""
    fields = {name: f"e.{collection}_{name}" for name in ("pt", "eta", "phi", "mass")} | more
    return "Zip({" + ", ".join(f"'{name}': {text}" for name, text in fields.items()) + "})"


JETS = zipped("Jet", btag="e.Jet_btagDeepFlavB") + ".ToFourMomenta()"
MUONS = zipped("Muon", charge="e.Muon_charge") + ".ToFourMomenta()"
LEPTONS = (
    zipped("Muon", charge="e.Muon_charge", flavour="e.Muon_charge * 0 + 13")
    + ".Concat("
    + zipped("Electron", charge="e.Electron_charge", flavour="e.Electron_charge * 0 + 11")
    + ").ToFourMomenta()"
)

TASKS = {
    1: "events.Select(lambda e: e.MET_pt)",
    2: "events.SelectMany(lambda e: e.Jet_pt)",
    3: "events.SelectMany(lambda e: Zip({'pt': e.Jet_pt, 'eta': e.Jet_eta}).Where(lambda j: abs(j.eta) < 1)"
    ".Select(lambda j: j.pt))",
    4: "events.Where(lambda e: e.Jet_pt.Where(lambda pt: pt > 40).Count() > 1).Select(lambda e: e.MET_pt)",
    5: f"events.Where(lambda e: {MUONS}.Choose(2).Any(lambda p: (p.First().charge * p.Last().charge < 0)"
    " and ((p.First() + p.Last()).mass > 60) and ((p.First() + p.Last()).mass < 120)))"
    ".Select(lambda e: e.MET_pt)",
    6: f"events.Select(lambda e: {JETS}).Where(lambda jets: jets.Count() > 2)"
    ".Select(lambda jets: jets.Choose(3).OrderBy(lambda t: abs(t.Sum().mass - 172.5)).First())"
    ".Select(lambda t: {'pt': t.Sum().pt, 'btag': t.Select(lambda j: j.btag).Max()})",
    7: f"events.Select(lambda e: {{'jets': {JETS}, 'leptons': {LEPTONS}}})"
    ".Select(lambda e: e.jets.Where(lambda j: (j.pt > 30) and not"
    " e.leptons.Any(lambda l: (l.pt > 10) and (l.deltaR(j) < 0.4))).Select(lambda j: j.pt).Sum())",
    8: f"events.Select(lambda e: {{'met': e.MET_pt, 'phi': e.MET_phi, 'leptons': {LEPTONS}}})"
    ".Where(lambda e: e.leptons.Count() > 2)"
    ".Select(lambda e: {'met': e.met, 'phi': e.phi, 'leptons': e.leptons, 'pairs': e.leptons.Choose(2)"
    ".Where(lambda p: (p.First().flavour == p.Last().flavour) and (p.First().charge != p.Last().charge))})"
    ".Where(lambda e: e.pairs.Count() > 0)"
    ".Select(lambda e: {'met': e.met, 'phi': e.phi, 'leptons': e.leptons,"
    " 'pair': e.pairs.OrderBy(lambda p: abs((p.First() + p.Last()).mass - 91.2)).First()})"
    ".Select(lambda e: {'met': e.met, 'phi': e.phi, 'lepton': e.leptons.Where(lambda l:"
    " not e.pair.Any(lambda p: (p.pt == l.pt) and (p.eta == l.eta)))"
    ".OrderByDescending(lambda l: l.pt).First()})"
    ".Select(lambda e: np.sqrt(2 * e.met * e.lepton.pt * (1 - np.cos(e.phi - e.lepton.phi))))",
}
BEYOND_THE_PACKAGE = (7, 8)
"""They loop over one collection inside a loop over another with Any, which func_adl_uproot does not do."""


@pytest.fixture(scope="module")
def events(samples: Path) -> ak.Array:
    with uproot.open(samples / "nano_tt_v12.root") as file:
        return file["Events"].arrays(list(BRANCHES))


def momenta(events: ak.Array, collection: str, **more: Any) -> ak.Array:
    fields = {name: events[f"{collection}_{name}"] for name in ("pt", "eta", "phi", "mass")} | more
    return ak.zip(fields, with_name="Momentum4D", behavior=behavior)


def leptons(events: ak.Array) -> ak.Array:
    kinds = (("Muon", 13), ("Electron", 11))
    return ak.concatenate(
        [
            momenta(
                events,
                kind,
                charge=events[f"{kind}_charge"],
                flavour=ak.zeros_like(events[f"{kind}_charge"]) + code,
            )
            for kind, code in kinds
        ],
        axis=1,
    )


def task_5(events: ak.Array) -> ak.Array:
    one, two = ak.unzip(ak.combinations(momenta(events, "Muon", charge=events.Muon_charge), 2))
    mass = (one + two).mass
    return events.MET_pt[ak.any((one.charge * two.charge < 0) & (mass > 60) & (mass < 120), axis=1)]


def task_6(events: ak.Array) -> ak.Array:
    jets = momenta(events, "Jet", btag=events.Jet_btagDeepFlavB)
    one, two, three = ak.unzip(ak.combinations(jets[ak.num(jets) > 2], 3))
    triplet = one + two + three
    best = ak.argmin(abs(triplet.mass - 172.5), axis=1, keepdims=True)
    btag = np.maximum(np.maximum(one.btag, two.btag), three.btag)
    return ak.zip({"pt": ak.firsts(triplet.pt[best]), "btag": ak.firsts(btag[best])})


def task_7(events: ak.Array) -> ak.Array:
    jets, near = momenta(events, "Jet"), leptons(events)
    near = near[near.pt > 10]
    pairs = ak.cartesian({"jet": jets, "lepton": near}, nested=True)
    is_near = ak.any(pairs.jet.deltaR(pairs.lepton) < 0.4, axis=2)
    return ak.sum(jets.pt[(jets.pt > 30) & ~is_near], axis=1)


def task_8(events: ak.Array) -> ak.Array:
    found = leptons(events)
    found = ak.with_field(found, ak.local_index(found), "index")
    is_kept = ak.num(found) > 2
    found, events = found[is_kept], events[is_kept]
    one, two = ak.unzip(ak.combinations(found, 2))
    is_pair = (one.flavour == two.flavour) & (one.charge != two.charge)
    is_kept = ak.any(is_pair, axis=1)
    one, two, found, events = (item[is_kept] for item in (one[is_pair], two[is_pair], found, events))
    best = ak.argmin(abs((one + two).mass - 91.2), axis=1, keepdims=True)
    first, second = ak.firsts(one.index[best]), ak.firsts(two.index[best])
    others = found[(found.index != first) & (found.index != second)]
    lead = ak.firsts(others[ak.argmax(others.pt, axis=1, keepdims=True)])
    return np.sqrt(2 * events.MET_pt * lead.pt * (1 - np.cos(events.MET_phi - lead.phi)))


PLAIN: dict[int, Callable[[ak.Array], ak.Array]] = {
    1: lambda events: events.MET_pt,
    2: lambda events: ak.flatten(events.Jet_pt),
    3: lambda events: ak.flatten(events.Jet_pt[abs(events.Jet_eta) < 1]),
    4: lambda events: events.MET_pt[ak.sum(events.Jet_pt > 40, axis=1) > 1],
    5: task_5,
    6: task_6,
    7: task_7,
    8: task_8,
}


@pytest.mark.parametrize("task", TASKS)
def test_gives_what_plain_awkward_gives(task: int, events: ak.Array) -> None:
    result, _ = ours(to_text(TASKS[task]), events)
    expected = PLAIN[task](events)
    assert len(expected) >= 5
    names = expected.fields or [""]
    for name in names:
        one, two = (array[name] if name else array for array in (result, plain(expected)))
        assert ak.to_list(ak.is_none(two)) == ak.to_list(ak.is_none(one))
        np.testing.assert_allclose(ak.to_numpy(one), ak.to_numpy(two), rtol=1e-5)


@pytest.mark.parametrize("task", [task for task in TASKS if task not in BEYOND_THE_PACKAGE])
def test_gives_what_func_adl_uproot_gives(task: int, events: ak.Array) -> None:
    text = to_text(TASKS[task])
    result, _ = ours(text, events, n_chunks=4)
    assert_same(result, theirs(text, events))
