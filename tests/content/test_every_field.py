"""Every field of every RNTuple sample: what is read, with uproot or without, is what uproot reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import uproot

from servicex_server.run.read.rntuple import RNTupleColumns
from servicex_server.run.read.root import RootFile
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN

KINDS = Path(__file__).parent / "rntuple_kinds.root"
"""Written by ROOT: a field of every kind, in clusters of many small pages (`rntuple_kinds.C`)."""

LEFT_TO_UPROOT = {
    "kinds": {"maybe", "either", "truncated", "quantized", "represented_twice", "late"},
    # Where two members have the same path, uproot has names of its own for all records.
    "twins": {"both", "points", "late"},
}


def compare(path: Path, stride: int = 1) -> dict[str, set[str]]:
    """Compares every `stride`-th field of all RNTuples in a file; which of all uproot had to read."""
    left: dict[str, set[str]] = {}
    with RootFile(open_source(str(path), CALLERS_OWN)) as file, uproot.open({path: None}) as oracle:
        for tree_name in file.tree_names():
            tree = file.tree(tree_name)
            assert isinstance(tree, RNTupleColumns)
            fields: dict[str, Any] = {field.path: field for field in oracle[tree_name].all_fields}
            assert set(tree.names()) == {*fields} - {None}
            assert tree.n_entries == oracle[tree_name].num_entries
            names = tree.names()[::stride]
            whole = tree.read(names, 0, tree.n_entries)
            for name in names:
                expected = fields[name].array(array_cache=None)
                assert whole[name].type == expected.type, name
                assert ak.array_equal(whole[name], expected, equal_nan=True), name
            left[tree_name] = {name for name in tree.names() if not tree.is_fast(name)}
    return left


def test_fields_of_every_kind_are_equal_to_what_uproot_reads() -> None:
    assert compare(KINDS) == LEFT_TO_UPROOT


@pytest.mark.parametrize(
    ("name", "stride"),
    [("treemaker_rntuple.root", 7), ("nano_dy_rntuple.root", 83), ("nano_tree_rntuple.root", 83)],
)
def test_fields_of_some_samples_are_read_fast_and_as_by_uproot(samples: Path, name: str, stride: int) -> None:
    assert [*compare(samples / name, stride).values()] == [set()]


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "nano_dimuon_rntuple.root",
        "nano_dy_SpecialTree_rntuple.root",
        "nano_dy_empty_rntuple.root",
        "nano_dy_rntuple.root",
        "nano_tree_rntuple.root",
        "pfnano_rntuple.root",
        "treemaker_rntuple.root",
    ],
)
def test_every_field_of_every_sample_is_read_fast_and_as_by_uproot(samples: Path, name: str) -> None:
    assert [*compare(samples / name).values()] == [set()]


def test_an_enumeration_is_a_number_and_a_variant_of_unknown_type() -> None:
    with RootFile(open_source(str(KINDS), CALLERS_OWN)) as file:
        tree = file.tree("kinds")
        assert str(tree.type_of("colour")) == "uint32"
        assert str(tree.type_of("either")).startswith("unknown")
        assert str(tree.type_of("maybe")) == "?float32"
        assert str(tree.type_of("points")) == "var * {x: float32, ys: var * float64, n: int32}"
        assert str(tree.type_of("tuple")) == "(int32, float32, bool)"
        assert tree.typename_of("array") == "std::array<float,3>"
