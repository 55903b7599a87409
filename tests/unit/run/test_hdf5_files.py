"""HDF5 results: what docs/hdf5.md says of them, read by the code that it shows."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import servicex_server
from nested_arrays import COLUMNS, JAGGED, bound_output, same, tables, write
from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import BoundPlan
from servicex_server.run.write import hdf5
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.fit import check_format
from servicex_server.run.write.open import new_result

HDF5 = ResultFormat.HDF5
DOCS = Path(__file__).parents[3] / "docs" / "hdf5.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def documented_read() -> Callable[[h5py.Group | h5py.Dataset], ak.Array]:
    """The function that the documentation shows."""
    names: dict[str, Callable[[h5py.Group | h5py.Dataset], ak.Array]] = {}
    exec(EXAMPLES[1], names)
    return names["read"]


read = documented_read()


def read_file(path: Path, tree: str = "servicex") -> ak.Array:
    with h5py.File(path) as file:
        return read(file[tree])


def test_the_short_example_of_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: Path
) -> None:
    selection = [{"treename": {"Events": "servicex"}, "expressions": ["MET_pt", "Muon_pt"]}]
    servicex_server.transform(
        samples / "nano_dy.root",
        codegen="uproot-raw",
        selection=json.dumps(selection),
        output=tmp_path / "muons.h5",
        result_format="hdf5",
    )
    monkeypatch.chdir(tmp_path)
    names: dict[str, np.ndarray] = {}
    exec(EXAMPLES[0], names)
    everything = read_file(tmp_path / "muons.h5")
    assert len(names["met"]) == 40
    assert np.array_equal(names["met"], everything.MET_pt)
    assert ak.to_list(everything.Muon_pt[2]) == names["of_event_2"].tolist()
    assert ak.sum(everything.Muon_pt) == pytest.approx(names["muon_pt"].sum())
    assert len(EXAMPLES[0].splitlines()) <= 10


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_come_back(column: str, tmp_path: Path) -> None:
    array = ak.Array({"before": [1, 2, 3], "x": COLUMNS[column], "after": [1.5, 2.5, 3.5]})
    path = tmp_path / "out"
    if column in ("union", "complex", "nothing"):
        with pytest.raises(FormatError, match="hdf5 cannot hold x"):
            check_format(BoundPlan((bound_output(schema_of(array)),)), HDF5)
        with pytest.raises(FormatError, match="hdf5 cannot hold x"):
            write(path, HDF5, [array])
        assert list(tmp_path.iterdir()) == []
        return
    check_format(BoundPlan((bound_output(schema_of(array)),)), HDF5)
    write(path, HDF5, [array, array[1:], array[:0]])
    found = read_file(path)
    assert found.fields == ["before", "x", "after"]
    if column == "tuple":
        # The function in the documentation makes records of them.
        assert ak.to_list(found.x) == [{"0": 1, "1": 2.0}] * 5
        return
    assert ak.to_list(found) == ak.to_list(array) + ak.to_list(array[1:])
    if column != "fixed_texts":
        assert found.type.content == array.type.content


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 6), st.sampled_from([8, 64, 64 * 1024]))
def test_any_table_in_any_chunks_comes_back(
    tmp_path_factory: pytest.TempPathFactory, array: ak.Array, cut: int, chunk_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hdf5, "CHUNK_BYTES", chunk_bytes)
        path = tmp_path_factory.mktemp("h5") / "out"
        write(path, HDF5, [array[:cut], array[cut:], array[:cut]])
    assert ak.to_list(read_file(path)) == ak.to_list(array) + ak.to_list(array[:cut])


def test_columns_longer_than_a_chunk_are_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(2.5, 20_000)
    array = ak.Array(
        {
            "i": np.arange(20_000),
            "flag": rng.random(20_000) < 0.5,
            "x": ak.unflatten(rng.normal(size=counts.sum()).astype("f4"), counts),
            "cube": rng.normal(size=(20_000, 2, 3)).astype("f4"),
            "text": np.char.add("event ", np.arange(20_000).astype("U5")).tolist(),
        }
    )
    edges = [0, 1, 2, 9_000, 9_000, 19_999, 20_000]
    write(tmp_path / "out", HDF5, [array[a:b] for a, b in itertools.pairwise(edges)])
    assert same(read_file(tmp_path / "out"), array)
    with h5py.File(tmp_path / "out") as file:
        table = file["servicex"]
        assert table["i"].chunks[0] * 8 == hdf5.CHUNK_BYTES
        assert (table["i"].compression, table["i"].shuffle) == ("gzip", True)
        assert table["i"].id.get_storage_size() < 8 * 20_000 / 2
        assert table.attrs["rows"] == 20_000


def test_the_layout_is_that_of_the_documentation(tmp_path: Path) -> None:
    array = ak.Array(
        {"Jet": ak.zip({"pt": JAGGED, "eta": JAGGED}), "maybe": ak.firsts(JAGGED), "a/b": [1, 2, 3]}
    )
    write(tmp_path / "out", HDF5, [array])
    with h5py.File(tmp_path / "out") as file:
        assert (file.attrs["layout"], file.attrs["layout_version"]) == ("servicex", 1)
        table = file["servicex"]
        assert (table.attrs["layout"], table.attrs["rows"]) == ("table", 3)
        assert list(table) == ["Jet", "maybe", "a:b"]
        assert table["Jet"].attrs["layout"] == "list"
        assert table["Jet/offsets"].dtype == np.int64
        assert table["Jet/offsets"][:].tolist() == [0, 2, 2, 3]
        assert table["Jet/content"].attrs["layout"] == "record"
        assert table["Jet/content/pt"][:].tolist() == [1.0, 2.0, 3.0]
        assert table["maybe"].attrs["layout"] == "option"
        assert table["maybe/valid"][:].tolist() == [True, False, True]
        assert table["maybe/content"][:].tolist() == [1.0, 0.0, 3.0]
        assert table["a:b"].attrs["name"] == "a/b"
        assert "name" not in table["Jet"].attrs


def test_no_rows_keep_their_datasets(tmp_path: Path) -> None:
    array = ak.Array({name: COLUMNS[name] for name in ("number", "flag", "fixed", "text", "nested", "maybe")})
    with new_result(tmp_path / "out", HDF5) as writer:
        writer.begin(bound_output(schema_of(array)), array[:0])
    with h5py.File(tmp_path / "out") as file:
        table = file["servicex"]
        assert table.attrs["rows"] == 0
        assert table["number"].shape == (0,)
        assert table["number"].dtype == "u2"
        assert table["fixed"].shape == (0, 2)
        assert table["nested/offsets"][:].tolist() == [0]
        assert table["nested/content/content"].dtype == np.int64
        assert read(table).fields == array.fields


def test_each_tree_is_a_group_and_grows(tmp_path: Path) -> None:
    one, two = ak.Array({"x": JAGGED}), ak.Array({"y": [1, 2]})
    with new_result(tmp_path / "out", HDF5) as writer:
        for name, array in (("one", one), ("folder/two", two), ("one", one[1:])):
            writer.begin(bound_output(schema_of(array), name, "treename"), array[:0])
            writer.write(writer.encode(array))
    assert ak.to_list(read_file(tmp_path / "out", "one").x) == ak.to_list(JAGGED) + ak.to_list(JAGGED[1:])
    assert ak.to_list(read_file(tmp_path / "out", "folder/two")) == ak.to_list(two)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("a", "a/b"), "the tree 'a/b' would lie inside the tree 'a'"),
        (("a/b/c", "x", "a"), "the tree 'a/b/c' would lie inside the tree 'a'"),
        (("a", "/a"), "the trees 'a' and '/a' would share a group"),
    ],
)
def test_trees_that_would_mix_are_refused(names: Sequence[str], text: str, tmp_path: Path) -> None:
    array = ak.Array({"x": JAGGED})
    outputs = tuple(bound_output(schema_of(array), name) for name in names)
    with pytest.raises(FormatError, match=text):
        check_format(BoundPlan(outputs), HDF5)

    def begin_all() -> None:
        with new_result(tmp_path / "out", HDF5) as writer:
            for output in outputs:
                writer.begin(output, array[:0])

    with pytest.raises(FormatError, match=text):
        begin_all()


def test_columns_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for array in (ak.Array({"a/b": [1], "a:b": [2]}), ak.Array({"x": [[{"a/b": 1, "a:b": 2}]]})):
        with pytest.raises(FormatError, match="a/b and a:b would both have the name a:b"):
            write(tmp_path / "out", HDF5, [array])


@pytest.mark.parametrize("name", [".", "..", "a/../b", "x\0y", "é", "\udcff", " "])
def test_odd_names_are_kept_apart_from_paths(name: str, tmp_path: Path) -> None:
    write(tmp_path / "out", HDF5, [ak.Array({name: JAGGED})])
    with h5py.File(tmp_path / "out") as file:
        (column,) = file["servicex"].values()
        assert ak.to_list(read(column)) == ak.to_list(JAGGED)


def test_an_unnamed_result_is_the_column_branch(tmp_path: Path) -> None:
    write(tmp_path / "out", HDF5, [JAGGED, JAGGED])
    assert ak.to_list(read_file(tmp_path / "out").branch) == ak.to_list(JAGGED) * 2


def test_text_with_nul_is_refused_with_its_place(tmp_path: Path) -> None:
    array = ak.Array({"x": [[{"name": "a\0b"}]]})
    with pytest.raises(FormatError, match=r"the text in x\.content\.name: it has a NUL"):
        write(tmp_path / "out", HDF5, [array])
    assert list(tmp_path.iterdir()) == []


def test_copied_objects_are_refused_before_anything_is_read() -> None:
    with pytest.raises(FormatError, match="hdf5 cannot hold copied objects \\(hist1\\)"):
        check_format(BoundPlan((), copied_objects=("hist1",)), HDF5)


def test_a_file_without_tables_is_complete(tmp_path: Path) -> None:
    with new_result(tmp_path / "out", HDF5):
        pass
    with h5py.File(tmp_path / "out") as file:
        assert list(file) == []
        assert file.attrs["layout_version"] == 1


def test_chunks_of_another_type_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="a chunk has float64"):
        write(tmp_path / "out", HDF5, [ak.Array({"x": [1, 2]}), ak.Array({"x": [1.5]})])
    assert list(tmp_path.iterdir()) == []
