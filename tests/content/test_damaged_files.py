"""Damaged ROOT files: never a crash, a hang or much memory, but an error with a name, or rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot

from root_fuzz import Reader, Sample, load_sample, outcomes

COMPRESSIONS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
    "lzma": uproot.LZMA(1),
}
SMALL = ("edm4hep.root", "scouting_nano.root")
MORE = (
    *SMALL,
    "nano_tree.root",
    "nano_dimuon.root",
    "treemaker.root",
    "delphes.root",
    "PHYSLITE_example.root",
    "pduneana.root",
    "p8_ee_WW_ecm240_edm4hep.root",
)
"""One of each kind: embedded baskets, split and unsplit collections, vectors, strings, groups."""


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as found:
        yield found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Small trees in each compression; without any, damage hits the numbers themselves."""
    folder = tmp_path_factory.mktemp("written")
    rng = np.random.default_rng(11)
    samples = []
    for name, compression in COMPRESSIONS.items():
        path = folder / f"{name}.root"
        with uproot.recreate(path, compression=compression) as file:
            file.mktree(
                "Events",
                {"x": "f8", "n": "i4", "flag": "?", "cov": np.dtype(("f4", (3,))), "jet": "var * float32"},
            )
            for size in (300, 200):
                jets = ak.values_astype(ak.unflatten(np.arange(2 * size), [1, 3] * (size // 2)), "f4")
                file["Events"].extend(
                    {
                        "x": rng.integers(0, 9, size).astype("f8"),
                        "n": np.arange(size, dtype="i4"),
                        "flag": rng.random(size) < 0.5,
                        "cov": np.ones((size, 3), "f4"),
                        "jet": jets,
                    }
                )
        samples.append(load_sample(path))
    return samples


def check(found: Iterator[tuple[str, int, str]]) -> None:
    kinds: Counter[str] = Counter()
    for path, seed, outcome in found:
        kind, _, message = outcome.partition(": ")
        kinds[kind] += 1
        assert not outcome.startswith("UNEXPECTED"), f"seed {seed} of {path}: {outcome}"
        assert kind == "right" or path in message, f"seed {seed} of {path}: {outcome}"
    assert kinds["SourceCorrupt"] > 0


def test_damage_to_small_files(reader: Reader, written: list[Sample], samples: Path) -> None:
    check(outcomes(reader, [*written, *(load_sample(samples / name) for name in SMALL)], range(200)))


@pytest.mark.long
def test_much_damage_to_many_files(reader: Reader, written: list[Sample], samples: Path) -> None:
    check(outcomes(reader, [*written, *(load_sample(samples / name) for name in MORE)], range(1000, 3100)))
