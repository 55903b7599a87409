"""A toy Drell-Yan sample in the shape of NanoAOD: a Z peak over a falling background.

    python examples/toy_sample.py FOLDER

The physics is that of a first lecture: a mass from a Breit-Wigner (or a falling exponential), a pair with
some transverse momentum and rapidity that decays evenly in its rest frame, a resolution of 1.5 %, an
acceptance. Each file has its own seed, so its content is the same everywhere.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import numpy.typing as npt
import uproot

Floats = npt.NDArray[np.float64]

N_FILES = 8
N_EVENTS = 500_000

Z_MASS_GEV = 91.1876
Z_WIDTH_GEV = 2.4952
MUON_MASS_GEV = 0.1056584
RESOLUTION = 0.015
MAX_ABS_ETA = 2.4
MIN_PT_GEV = 3.0
FRACTION_Z = 0.12
FRACTION_BACKGROUND_PAIR = 0.4


@dataclass(frozen=True, slots=True)
class Muons:
    """Candidates of all events, shape (events, slots); `found` says which slots hold a muon."""

    pt: Floats
    eta: Floats
    phi: Floats
    charge: npt.NDArray[np.int32]
    found: npt.NDArray[np.bool_]


def draw_masses(rng: np.random.Generator, n_z: int, n_background: int) -> Floats:
    """Return pair masses in GeV: a Breit-Wigner between 40 and 140, then a falling exponential."""
    low, high = (np.arctan((edge - Z_MASS_GEV) / (Z_WIDTH_GEV / 2)) for edge in (40.0, 140.0))
    z_masses = Z_MASS_GEV + Z_WIDTH_GEV / 2 * np.tan(rng.uniform(low, high, n_z))
    return np.concatenate([z_masses, 12.0 + rng.exponential(40.0, n_background)])


def decay_pairs(rng: np.random.Generator, masses: Floats) -> tuple[Floats, Floats, Floats]:
    """Return pt, eta, phi of both muons, each of shape (pairs, 2), before the detector."""
    n = len(masses)
    pair_pt = rng.gamma(1.6, 7.0, n)
    rapidity = rng.normal(0.0, 1.3, n)
    pair_phi = rng.uniform(-np.pi, np.pi, n)

    # Even decay in the rest frame; muons are light enough to take as massless.
    cos_theta = rng.uniform(-1.0, 1.0, n)
    sin_theta = np.sqrt(1.0 - cos_theta**2)
    phi = rng.uniform(-np.pi, np.pi, n)
    half = masses / 2
    direction = np.stack([sin_theta * np.cos(phi), sin_theta * np.sin(phi), cos_theta])
    rest = half * np.stack([direction, -direction], axis=-1).transpose(0, 2, 1)  # xyz, muon, pair

    # Boost along x by the pair's transverse momentum and along z by its rapidity; turn x to its direction.
    gamma = np.sqrt(masses**2 + pair_pt**2) / masses
    x = gamma * rest[0] + pair_pt / masses * half
    energy = gamma * half + pair_pt / masses * rest[0]
    z = np.cosh(rapidity) * rest[2] + np.sinh(rapidity) * energy
    y = rest[1]
    pt = np.hypot(x, y)
    turned = np.arctan2(y, x) + pair_phi
    return pt.T, np.arcsinh(z / pt).T, (np.mod(turned + np.pi, 2 * np.pi) - np.pi).T


def measure_muons(rng: np.random.Generator, n_events: int) -> Muons:
    """Return what the detector sees: pairs, single muons, now and then a soft one more."""
    n_z = int(n_events * FRACTION_Z)
    n_background = int(n_events * FRACTION_BACKGROUND_PAIR)
    n_pairs = n_z + n_background
    shape = (n_events, 3)
    pt = MIN_PT_GEV + rng.exponential(9.0, shape)
    eta = rng.normal(0.0, 1.6, shape)
    phi = rng.uniform(-np.pi, np.pi, shape)
    charge = rng.choice(np.array([-1, 1], dtype=np.int32), shape)
    pt[:n_pairs, :2], eta[:n_pairs, :2], phi[:n_pairs, :2] = decay_pairs(
        rng, draw_masses(rng, n_z, n_background)
    )
    charge[:n_z, 1] = -charge[:n_z, 0]

    pt *= rng.normal(1.0, RESOLUTION, shape)
    found = np.zeros(shape, dtype=np.bool_)
    found[:n_pairs, :2] = True
    found[n_pairs:, 0] = rng.random(n_events - n_pairs) < 0.6
    found[:, 2] = rng.random(n_events) < 0.03
    found &= (np.abs(eta) < MAX_ABS_ETA) & (pt > MIN_PT_GEV)

    # NanoAOD orders muons by falling pt; events of all kinds come in random order.
    events = rng.permutation(n_events)[:, None]
    slots = np.argsort(np.where(found, -pt, np.inf), axis=1)[events[:, 0]]
    return Muons(
        pt[events, slots], eta[events, slots], phi[events, slots], charge[events, slots], found[events, slots]
    )


def make_events(seed: int, n_events: int, first_event: int) -> dict[str, ak.Array]:
    """Return the branches of one file."""
    rng = np.random.default_rng(seed)
    muons = measure_muons(rng, n_events)
    counts = muons.found.sum(axis=1)

    def jagged(values: npt.NDArray[np.generic], dtype: str) -> ak.Array:
        return ak.unflatten(values[muons.found].astype(dtype), counts)

    n_flat = int(counts.sum())
    muon = ak.zip(
        {
            "pt": jagged(muons.pt, "f4"),
            "eta": jagged(muons.eta, "f4"),
            "phi": jagged(muons.phi, "f4"),
            "mass": ak.unflatten(np.full(n_flat, MUON_MASS_GEV, "f4"), counts),
            "charge": jagged(muons.charge, "i4"),
            "pfRelIso04_all": ak.unflatten(rng.exponential(0.05, n_flat).astype("f4"), counts),
            "tightId": ak.unflatten(rng.random(n_flat) < 0.95, counts),
        }
    )
    return {
        "run": np.full(n_events, 1, "u4"),
        "luminosityBlock": ((first_event + np.arange(n_events)) // 1000 + 1).astype("u4"),
        "event": (first_event + np.arange(n_events) + 1).astype("u8"),
        "Muon": muon,
        "MET_pt": rng.gamma(2.0, 9.0, n_events).astype("f4"),
        "MET_phi": rng.uniform(-np.pi, np.pi, n_events).astype("f4"),
        "PV_npvs": rng.poisson(32, n_events).astype("i4"),
        "HLT_IsoMu24": np.asarray(ak.any(muon.pt > 24, axis=1)),
        "genWeight": np.where(rng.random(n_events) < 0.1, -1.0, 1.0).astype("f4"),
    }


def write_file(path: Path, seed: int, n_events: int, first_event: int) -> None:
    """Write one file with the tree `Events`; it appears complete or not at all."""
    events = make_events(seed, n_events, first_event)
    scratch = path.with_suffix(".part")
    with uproot.recreate(scratch, compression=uproot.ZSTD(1)) as file:
        file.mktree("Events", {name: ak.type(column).content for name, column in events.items()})
        file["Events"].extend(events)
    scratch.rename(path)


def generate(folder: Path, n_files: int = N_FILES, n_events: int = N_EVENTS) -> list[Path]:
    """Return the paths of the sample in `folder`; files that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, n_events, n_files + 1).astype(int)
    paths = []
    for index, (start, stop) in enumerate(itertools.pairwise(edges)):
        path = folder / f"toy_dy_{index}_{stop - start}.root"
        if not path.exists():
            write_file(path, seed=2000 + index, n_events=int(stop - start), first_event=int(start))
        paths.append(path)
    return paths


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/toy_sample.py FOLDER")
    for written in generate(Path(sys.argv[1])):
        print(written)
