"""Trees of which only the wanted branches are deserialised, and what uproot makes of the same trees."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import uproot
from uproot.behaviors.TBranch import TBranch

from servicex_server.run.read import metadata as module
from servicex_server.run.read.metadata import TreeMetadata
from servicex_server.run.read.skim import NotAsExpected, Walk

TREES = (
    ("nano_dy.root", "Events"),
    ("nano_tt_v15.root", "Events"),
    ("scouting_nano.root", "Events"),
    ("PHYSLITE_example.root", "CollectionTree"),
    ("delphes.root", "Delphes"),
    ("edm4hep.root", "events"),
    ("pduneana.root", "pduneana/beamana"),
    ("pfnano.root", "ParameterSets"),
    ("test_FCC_Winter2023.root", "events"),
    ("treemaker.root", "PreSelection"),
)


def facts(branch: Any) -> tuple[Any, ...]:
    """What a reader learns from a branch."""
    counter = branch.count_branch
    return (
        branch.name,
        branch.title,
        branch.typename,
        None if counter is None else counter.name,
        branch.entry_offsets,
        branch.num_baskets,
        branch.index,
        branch.cache_key.partition(":")[2],
        [inner.name for inner in branch.branches],
    )


@pytest.mark.parametrize(("name", "tree"), TREES)
def test_branches_are_as_uproot_finds_them(samples: Path, name: str, tree: str) -> None:
    with uproot.open({samples / name: None}) as file, uproot.open({samples / name: None}) as oracle:
        found, expected = TreeMetadata(file, tree), oracle[tree]
        names = found.names()
        assert list(names) == expected.keys(recursive=True, full_paths=True)
        assert found.tree.num_entries == expected.num_entries
        some = random.Random(3).sample(names, min(40, len(names)))
        for path in (*some, *(path.rpartition("/")[2] for path in some)):
            assert facts(found.find(path)) == facts(expected[path]), path
        assert found.find("no such branch") is None
        # uproot was not asked for the whole.
        assert not found.tree.branches


def test_few_branches_are_deserialised(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    postprocess = TBranch.postprocess

    def spy(branch: Any, *arguments: Any) -> Any:
        read.append(branch.name)
        return postprocess(branch, *arguments)

    monkeypatch.setattr(TBranch, "postprocess", spy)
    with uproot.open({samples / "nano_dy.root": None}) as file:
        found = TreeMetadata(file, "Events")
        assert len(found.names()) > 1000
        assert not read
        found.find("Muon_pt")
    # The branch, its counter, and the first of each class of leaves that they have.
    assert {"Muon_pt", "nMuon"} <= set(read)
    assert len(read) < 10


@pytest.mark.parametrize("broken", ["walk", "branch"])
def test_what_is_not_expected_is_left_to_uproot(
    samples: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_arguments: Any) -> Any:
        message = "something new"
        raise NotAsExpected(message)

    if broken == "walk":
        monkeypatch.setattr(Walk, "branches", fail)
    else:
        monkeypatch.setattr(module, "read_object_any", fail)
    with uproot.open({samples / "treemaker.root": None}) as file:
        found = TreeMetadata(file, "PreSelection")
        assert found.names() == tuple(file["PreSelection"].keys(recursive=True, full_paths=True))
        assert found.find("Jets") is file["PreSelection"]["Jets"]
        assert found.find("no such branch") is None
