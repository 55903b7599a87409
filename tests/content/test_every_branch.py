"""Every branch of every sample: what is read, with uproot or without, is what uproot reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

from servicex_server.run.read.root import RootFile
from servicex_server.run.read.ttree import TTreeColumns
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN

NANO = (
    "missing_luminosityBlock.root",
    "nano_dimuon.root",
    "nano_dy.root",
    "nano_dy_SpecialTree.root",
    "nano_tree.root",
    "nano_tt_v12.root",
    "nano_tt_v15.root",
    "pfnano.root",
    "scouting_nano.root",
)
OTHERS = (
    "PHYSLITE_example.root",
    "delphes.root",
    "edm4hep.root",
    "edm4hep_ILD_mumuH_v01-00_podio_v01-07_10ev.root",
    "edm4hep_example_v00-99-02_podio_v01-03.root",
    "edm4hep_example_v00-99-03_podio_v01-06.root",
    "edm4hep_example_v00-99-04_podio_v01-06.root",
    "edm4hep_example_v01-01_podio_v01-07.root",
    "nano_dy_empty.root",
    "p8_ee_WW_ecm240_edm4hep.root",
    "pduneana.root",
    "test_FCC_Spring2021.root",
    "test_FCC_Winter2023.root",
    "treemaker.root",
)
STRIDE = 61
SOME = (
    "nano_dy.root",
    "nano_tt_v12.root",
    "nano_tt_v15.root",
    "scouting_nano.root",
    "PHYSLITE_example.root",
    "delphes.root",
    "edm4hep.root",
    "pduneana.root",
    "test_FCC_Winter2023.root",
    "treemaker.root",
)
"""One of each kind; the long tests take all."""


def is_plain(branch: Any) -> bool:
    """Whether uproot takes it for numbers, flat or in lists."""
    content = branch.interpretation
    if isinstance(content, AsJagged):
        content = content.content
    return type(content) is AsDtype and content.from_dtype.names is None


def compare(path: Path, stride: int) -> dict[str, int]:
    """Reads every `stride`-th branch of each TTree, whole and in part; how many took which way."""
    ways = {"fast": 0, "slow": 0, "unreadable": 0}
    with RootFile(open_source(str(path), CALLERS_OWN)) as file, uproot.open({path: None}) as oracle:
        for tree_name in file.tree_names():
            tree = file.tree(tree_name)
            assert isinstance(tree, TTreeColumns)
            keep = np.arange(tree.n_entries) % 3 == 1
            for name in tree.names()[::stride]:
                branch = oracle[tree_name][name]
                try:
                    expected = branch.array()
                except Exception:  # noqa: BLE001 (uproot's kinds of 'I cannot' have no common class)
                    ways["unreadable"] += 1
                    continue
                is_fast = tree.is_fast(name)
                ways["fast" if is_fast else "slow"] += 1
                if path.name in NANO:
                    assert is_fast == is_plain(branch), name
                got = tree.read([name], 0, tree.n_entries)[name]
                assert got.type == expected.type, name
                assert ak.array_equal(got, expected, equal_nan=True), name
                some = tree.read([name], 0, tree.n_entries, keep)[name]
                assert ak.array_equal(some, expected[keep], equal_nan=True), name
    return ways


@pytest.mark.parametrize("name", SOME)
def test_some_branches_are_as_uproot_reads_them(samples: Path, name: str) -> None:
    ways = compare(samples / name, STRIDE)
    assert ways["fast"] > 0
    assert name not in NANO or not ways["slow"]


@pytest.mark.long
@pytest.mark.parametrize("name", [*NANO, *OTHERS])
def test_every_branch_is_as_uproot_reads_it(samples: Path, name: str) -> None:
    ways = compare(samples / name, 1)
    assert ways["fast"] > 0
    assert name not in NANO or not ways["slow"]
