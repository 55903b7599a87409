"""Real and broken ROOT files as schemas and columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import awkward as ak
import pytest
import uproot

from servicex_server.errors import SourceCorrupt, UnknownName
from servicex_server.plan.types import Bool, List, Number, Record, String, Unknown
from servicex_server.run.read.root import RootFile
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN


def open_root(path: Path) -> RootFile:
    return RootFile(open_source(str(path), CALLERS_OWN))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Three baskets of 1000 entries, and a histogram."""
    path = tmp_path / "toy.root"
    with uproot.recreate(path, compression=uproot.ZLIB(1)) as file:
        file.mktree("folder/Events", {"x": "f8", "jet": "var * float32"})
        for number in range(3):
            values = ak.Array([float(number * 1000 + entry) for entry in range(1000)])
            jets = ak.values_astype(ak.unflatten(values, [2, 0] * 500), "float32")
            file["folder/Events"].extend({"x": values, "jet": jets})
    return path


@pytest.mark.parametrize(
    ("name", "tree", "columns"),
    [
        ("nano_dy.root", "Events", ["run", "nMuon", "Muon_pt", "Muon_isPFcand", "HLT_IsoMu24"]),
        ("nano_tt_v15.root", "Events", ["event", "Jet_pt", "Muon_charge"]),
        ("pfnano.root", "Events", ["PFCands_pt", "Jet_nConstituents"]),
        (
            "PHYSLITE_example.root",
            "CollectionTree",
            ["AnalysisElectronsAuxDyn.pt", "EventInfoAuxDyn.runNumber"],
        ),
        ("nano_dy_rntuple.root", "Events", ["run", "Muon_pt", "HLT_IsoMu24"]),
        ("pfnano_rntuple.root", "Events", ["event", "Jet_pt"]),
        ("treemaker_rntuple.root", "PreSelection", ["Jets", "RunNum", "GenJetsAK8.fCoordinates.fPt"]),
        ("delphes.root", "Delphes", ["Jet/Jet.PT", "Event/Event.Weight", "Jet_size", "Muon/Muon.Particle"]),
    ],
)
def test_columns_are_what_uproot_reads(samples: Path, name: str, tree: str, columns: list[str]) -> None:
    with open_root(samples / name) as file, uproot.open({samples / name: None}) as oracle:
        found = file.tree(tree)
        assert set(columns) <= set(found.names())
        for column, array in found.read(columns, 1, found.n_entries).items():
            expected = oracle[tree][column].array(entry_start=1)
            assert array.type == expected.type
            assert ak.array_equal(array, expected, equal_nan=True)


@pytest.mark.parametrize(
    "name",
    ["nano_dy.root", "nano_dy_rntuple.root", "treemaker.root", "treemaker_rntuple.root", "delphes.root"],
)
def test_types_and_empty_columns_agree_with_the_data(samples: Path, name: str) -> None:
    with open_root(samples / name) as file:
        tree = file.tree(file.tree_names()[0])
        columns = [column for column in tree.names()[::37] if not isinstance(tree.type_of(column), Unknown)]
        empty = tree.read(columns, 0, 0)
        for column, array in tree.read(columns, 0, 2).items():
            assert empty[column].type.content == array.type.content
            plain = (
                str(ak.without_parameters(array).type.content) if "string" not in str(array.type) else None
            )
            assert plain is None or str(tree.type_of(column)).replace(" ", "") == plain.replace(" ", "")


def test_types_are_the_plans_types(samples: Path) -> None:
    with open_root(samples / "nano_dy.root") as file:
        tree = file.tree("Events")
        assert tree.type_of("Muon_pt") == List(Number("float32"))
        assert tree.type_of("run") == Number("uint32")
    with open_root(samples / "treemaker_rntuple.root") as file:
        jets = file.tree("PreSelection").type_of("Jets")
        assert isinstance(jets, List)
        assert isinstance(jets.content, Record)


def test_what_cannot_be_interpreted_is_of_unknown_type(samples: Path) -> None:
    with open_root(samples / "PHYSLITE_example.root") as file:
        tree = file.tree("CollectionTree")
        assert isinstance(tree.type_of("EventInfoAux."), Unknown)
        assert isinstance(tree.type_of("METAssoc_AnalysisMET"), Unknown)
    with open_root(samples / "edm4hep.root") as file:
        tree = file.tree(file.tree_names()[0])
        assert {type(tree.type_of(name)) for name in tree.names()} <= {
            List,
            Number,
            Record,
            String,
            Unknown,
            Bool,
        }


def test_a_schema_inspects_only_the_columns_asked_for(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inspected = []
    real = uproot.behaviors.TBranch.TBranch.interpretation.fget

    def spy(branch: object) -> object:
        inspected.append(getattr(branch, "name", ""))
        return real(branch)

    monkeypatch.setattr(uproot.behaviors.TBranch.TBranch, "interpretation", property(spy))
    with open_root(samples / "nano_tt_v15.root") as file:
        tree = file.tree("Events")
        assert len(tree.names()) > 2000
        tree.type_of("Muon_pt")
        tree.read(["Muon_pt", "run"], 0, 10)
    # The counts of this file's jagged branches have names like nMuon_pt.
    assert set(inspected) == {"Muon_pt", "nMuon_pt", "run"}


def test_trees_and_objects_are_listed_with_folders(toy: Path) -> None:
    with open_root(toy) as file:
        assert list(file.tree_names()) == ["folder/Events"]
        assert file.objects()["folder/Events"] == "TTree"
        with pytest.raises(UnknownName, match="trees there: folder/Events"):
            file.tree("Events")


def test_chunk_boundaries_are_those_of_baskets(toy: Path) -> None:
    with open_root(toy) as file:
        tree = file.tree("folder/Events")
        assert list(tree.boundaries(["x"])) == [0, 1000, 2000, 3000]
        assert tree.n_bytes(["x"]) >= 24_000


def test_a_file_that_is_not_root_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.root"
    for content, text in (
        (b"", "it is empty"),
        (b"hello world", "does not begin as one"),
        (b"ro", "does not begin as one"),
    ):
        path.write_bytes(content)
        with pytest.raises(SourceCorrupt, match=f"{path} is not a ROOT file: .*{text}"):
            open_root(path)


@pytest.mark.parametrize("keep", [4, 50, 400, 0.5, 0.98])
def test_a_truncated_file_is_corrupt(toy: Path, keep: float) -> None:
    data = toy.read_bytes()
    toy.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(SourceCorrupt, match=r"toy\.root"):
        open_root(toy)


def damage(path: Path, place: Callable[[object], int]) -> None:
    with uproot.open({path: None}) as file:
        position = place(file["folder/Events"]["x"])
    data = bytearray(path.read_bytes())
    data[position : position + 40] = b"\xff" * 40
    path.write_bytes(data)


def test_a_corrupt_basket_is_named_by_its_branch_and_spares_the_others(toy: Path) -> None:
    damage(toy, lambda branch: int(branch.member("fBasketSeek")[1]) + 90)  # type: ignore[attr-defined]  # uproot
    with open_root(toy) as file:
        tree = file.tree("folder/Events")
        assert len(tree.read(["x"], 0, 1000)["x"]) == 1000
        assert len(tree.read(["jet"], 0, 3000)["jet"]) == 3000
        with pytest.raises(SourceCorrupt, match=r"toy\.root: cannot read branch 'x' of tree 'folder/Events'"):
            tree.read(["jet", "x"], 0, 3000)


def test_a_corrupt_basket_header_is_corrupt(toy: Path) -> None:
    damage(toy, lambda branch: int(branch.member("fBasketSeek")[1]))  # type: ignore[attr-defined]  # uproot
    with open_root(toy) as file, pytest.raises(SourceCorrupt, match="branch 'x'"):
        file.tree("folder/Events").read(["x"], 0, 3000)


@pytest.mark.parametrize("name", ["nano_tree.root", "nano_tree_rntuple.root"])
def test_files_with_flipped_bytes_never_do_worse_than_fail(samples: Path, tmp_path: Path, name: str) -> None:
    original = (samples / name).read_bytes()
    path = tmp_path / name
    for number in range(8):
        data = bytearray(original)
        position = (number * 7919 * 97) % len(data)
        data[position : position + 8] = b"\xff" * 8
        path.write_bytes(data)
        try:
            with open_root(path) as file:
                for tree_name in file.tree_names():
                    tree = file.tree(tree_name)
                    tree.read(
                        [column for column in ("Muon_pt", "run", "Jet_eta") if column in tree.names()],
                        0,
                        tree.n_entries,
                    )
        except (SourceCorrupt, UnknownName):
            pass
