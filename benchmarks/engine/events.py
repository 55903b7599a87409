"""Events in the shape of NanoAOD: 31 flat branches and six collections, 103 branches in all.

The values are noise with the widths, multiplicities and precision of the real thing, since that is what
decides how long reading takes. The same batch number gives the same events everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.NDArray[Any]
Floats: TypeAlias = npt.NDArray[np.float32]

BATCH_EVENTS = 50_000
_SEED = 20_261

_FLAT_FLOATS = {
    "MET_pt": (30.0, "falling"),
    "MET_phi": (3.14159, "even"),
    "MET_sumEt": (400.0, "falling"),
    "MET_significance": (5.0, "falling"),
    "PV_z": (4.0, "normal"),
    "fixedGridRhoFastjetAll": (20.0, "falling"),
    "Pileup_nTrueInt": (25.0, "falling"),
    "puWeight": (0.2, "normal"),
}
_FLAGS = (
    "goodVertices",
    "HBHENoiseFilter",
    "eeBadScFilter",
    "BadPFMuonFilter",
    "ecalBadCalibFilter",
    "METFilters",
)
_TRIGGERS = {
    "IsoMu24": 0.12,
    "IsoMu27": 0.1,
    "Mu50": 0.02,
    "Ele27_WPTight_Gsf": 0.09,
    "Ele32_WPTight_Gsf": 0.07,
    "Mu17_TrkIsoVVL_Mu8_TrkIsoVVL_DZ": 0.04,
    "PFMET120_PFMHT120_IDTight": 0.03,
    "PFHT1050": 0.02,
    "AK8PFJet500": 0.02,
    "Photon200": 0.01,
    "DoubleEle33_CaloIdL_MW": 0.01,
    "TripleMu_12_10_5": 0.001,
}


@dataclass(frozen=True, slots=True)
class Collection:
    """A kind of object, of which an event has any number.

    Attributes:
        mean: objects per event.
        threshold_gev: the least transverse momentum.
        slope_gev: mean of what is above the threshold.
        max_abs_eta: extent in pseudorapidity.
        floats: names of float fields after pt, eta, phi and mass.
        integers: names of integer fields, with the least value and the one after the largest.
        bools: names of bool fields, with the fraction that is true.
    """

    name: str
    mean: float
    threshold_gev: float
    slope_gev: float
    max_abs_eta: float
    floats: tuple[str, ...] = ()
    integers: tuple[tuple[str, int, int], ...] = ()
    bools: tuple[tuple[str, float], ...] = ()


COLLECTIONS = (
    Collection(
        "Muon", 0.45, 3.0, 16.0, 2.4,
        ("pfRelIso04_all", "pfRelIso03_all", "dxy", "dz", "sip3d"),
        (("charge", 0, 2), ("jetIdx", -1, 5), ("genPartIdx", -1, 5), ("pdgId", -13, 14)),
        (("looseId", 0.9), ("mediumId", 0.7), ("tightId", 0.5)),
    ),
    Collection(
        "Electron", 0.35, 5.0, 18.0, 2.5,
        ("pfRelIso03_all", "dxy", "dz", "sip3d"),
        (("charge", 0, 2), ("cutBased", 0, 5), ("jetIdx", -1, 5), ("genPartIdx", -1, 5)),
        (("mvaFall17V2Iso_WP90", 0.8),),
    ),
    Collection(
        "Jet", 6.0, 15.0, 32.0, 4.7,
        ("btagDeepFlavB", "chHEF", "neHEF", "area", "rawFactor"),
        (
            ("jetId", 0, 7), ("puId", 0, 8), ("nConstituents", 1, 50), ("partonFlavour", -5, 6),
            ("hadronFlavour", 0, 6), ("genJetIdx", -1, 6),
        ),
    ),
    Collection(
        "GenPart", 22.0, 0.5, 20.0, 6.0,
        integers=(
            ("pdgId", -25, 26), ("status", 1, 72), ("statusFlags", 0, 16384), ("genPartIdxMother", -1, 20),
        ),
    ),
    Collection("FatJet", 0.25, 170.0, 120.0, 2.5, ("msoftdrop", "tau1", "tau2", "tau3")),
    Collection("Tau", 0.5, 18.0, 20.0, 2.3, integers=(("charge", 0, 2), ("decayMode", 0, 12))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Branch:
    """The values of one branch in a batch of events.

    Attributes:
        values: one per event, or of all events one after the other. Shape (events,) or (objects,).
        counter: the branch with the number of objects in each event; None if there is one value per event.
    """

    name: str
    values: Values
    counter: str | None = None


def batches(n_events: int) -> Iterator[list[Branch]]:
    """All branches of so many events, in batches; counters come before what they count."""
    for first in range(0, n_events, BATCH_EVENTS):
        yield draw(first, min(BATCH_EVENTS, n_events - first))


def draw(first: int, n_events: int) -> list[Branch]:
    """The branches of the events from number `first` on."""
    rng = np.random.default_rng((_SEED, first))
    branches = _flat(rng, first, n_events)
    for collection in COLLECTIONS:
        branches += _objects(rng, collection, n_events)
    return branches


def _flat(rng: np.random.Generator, first: int, n_events: int) -> list[Branch]:
    number = np.arange(first, first + n_events, dtype=np.uint64)
    columns: dict[str, Values] = {
        "run": np.ones(n_events, np.uint32),
        "luminosityBlock": (1 + number // 1000).astype(np.uint32),
        "event": number * 17 + 3,
        "genWeight": np.where(rng.random(n_events) < 0.8, 1234.5, -1234.5).astype(np.float32),
    }
    for name, (width, shape) in _FLAT_FLOATS.items():
        columns[name] = rounded(_spread(rng, shape, width, n_events), 10)
    columns["PV_npvs"] = rng.poisson(25.0, n_events).astype(np.int32)
    for name in _FLAGS:
        columns[f"Flag_{name}"] = rng.random(n_events) < 0.995
    for name, fraction in _TRIGGERS.items():
        columns[f"HLT_{name}"] = rng.random(n_events) < fraction
    return [Branch(name, values) for name, values in columns.items()]


def _spread(rng: np.random.Generator, shape: str, width: float, size: int) -> Floats:
    if shape == "falling":
        return (width * rng.standard_exponential(size)).astype(np.float32)
    if shape == "even":
        return rng.uniform(-width, width, size).astype(np.float32)
    return (width * rng.standard_normal(size)).astype(np.float32)


def _objects(rng: np.random.Generator, collection: Collection, n_events: int) -> list[Branch]:
    counts = rng.poisson(collection.mean, n_events).astype(np.uint32)
    size = int(counts.sum())
    pt = _falling_pt(rng, collection, counts)
    columns: dict[str, Values] = {
        "pt": rounded(pt, 12),
        "eta": rounded(_spread(rng, "even", collection.max_abs_eta, size), 12),
        "phi": rounded(_spread(rng, "even", 3.14159, size), 12),
        "mass": _masses(rng, collection.name, pt),
    }
    for name in collection.floats:
        columns[name] = rounded(_spread(rng, "normal", 0.1, size), 10)
    for name, low, high in collection.integers:
        drawn = rng.integers(low, high, size, dtype=np.int32)
        columns[name] = 2 * drawn - 1 if name == "charge" else drawn
    for name, fraction in collection.bools:
        columns[name] = rng.random(size) < fraction
    counter = f"n{collection.name}"
    return [
        Branch(counter, counts),
        *(Branch(f"{collection.name}_{name}", values, counter) for name, values in columns.items()),
    ]


def _falling_pt(rng: np.random.Generator, collection: Collection, counts: npt.NDArray[np.uint32]) -> Floats:
    """Transverse momenta that fall within each event, as NanoAOD sorts its objects."""
    size = int(counts.sum())
    event = np.repeat(np.arange(len(counts)), counts)
    pt = collection.threshold_gev + collection.slope_gev * rng.standard_exponential(size)
    # The event is the first key, so only the order within events changes.
    return pt[np.lexsort((-pt, event))].astype(np.float32)


def _masses(rng: np.random.Generator, name: str, pt: Floats) -> Floats:
    if name == "Muon":
        return np.full(len(pt), 0.10571289, np.float32)
    if name == "Electron":
        return rounded(_spread(rng, "normal", 0.01, len(pt)), 10)
    if name == "GenPart":
        heavy = rounded(_spread(rng, "falling", 5.0, len(pt)), 8)
        return np.where(rng.random(len(pt)) < 0.8, np.float32(0), heavy)
    return rounded(pt * rng.uniform(0.1, 0.15, len(pt)).astype(np.float32), 10)


def rounded(values: Floats, bits: int) -> Floats:
    """The values with so many bits of mantissa, as NanoAOD stores them so that they compress.

    A carry out of the mantissa rightly raises the exponent of a float of IEEE 754.
    """
    dropped = 23 - bits
    raw = values.view(np.uint32) + np.uint32(1 << (dropped - 1))
    return (raw & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)
