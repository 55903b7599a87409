"""Real files through the whole engine: what is delivered equals the same selection made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

import servicex_server
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.execute import transform_file
from servicex_server.source.policy import CALLERS_OWN

Arrays = Callable[[str], ak.Array]
ONE_TABLE = (ResultFormat.PARQUET, ResultFormat.ARROW)


@dataclass(frozen=True)
class Case:
    """A query on a sample, and the same by hand on arrays that uproot reads."""

    sample: str
    tree: str
    codegen: str
    selection: str
    by_hand: Callable[[Arrays], dict[str, ak.Array]]


def func_adl(tree: str, columns: dict[str, str], where: str | None = None) -> str:
    source = f"(call EventDataset 'bogus.root' '{tree}')"
    if where is not None:
        source = f"(call Where {source} (lambda (list e) {where}))"
    names = " ".join(f"'{name}'" for name in columns)
    return (
        f"(call Select {source} (lambda (list e) (dict (list {names}) (list {' '.join(columns.values())}))))"
    )


def raw(tree: str, expressions: list[str], cut: str | None = None) -> str:
    return json.dumps([{"treename": tree, "expressions": expressions, "cut": cut}])


def nano_adl(sample: str) -> Case:
    columns = {
        "run": "(attr e 'run')",
        "pt": "(attr e 'Muon_pt')",
        "pt2": "(* (attr e 'Muon_pt') (attr e 'Muon_pt'))",
        "n": "(call Count (attr e 'Jet_pt'))",
        "tight": "(call Where (attr e 'Jet_pt') (lambda (list p) (> p 30)))",
        "met": "(attr e 'MET_pt')" if "v15" not in sample else "(attr e 'PuppiMET_pt')",
    }

    def by_hand(read: Arrays) -> dict[str, ak.Array]:
        keep = read("nMuon") >= 1 if "rntuple" not in sample else ak.num(read("Muon_pt")) >= 1
        pt, jets = read("Muon_pt")[keep], read("Jet_pt")[keep]
        met = read("MET_pt" if "v15" not in sample else "PuppiMET_pt")[keep]
        return {
            "run": read("run")[keep],
            "pt": pt,
            "pt2": pt * pt,
            "n": ak.num(jets),
            "tight": jets[jets > 30],
            "met": met,
        }

    where = "(>= (call Count (attr e 'Muon_pt')) 1)"
    return Case(sample, "Events", "uproot", func_adl("Events", columns, where), by_hand)


def nano_raw(sample: str) -> Case:
    def by_hand(read: Arrays) -> dict[str, ak.Array]:
        keep = ak.any(read("Jet_pt") > 40, axis=1)
        return {
            "Jet_pt": read("Jet_pt")[keep],
            "Jet_eta*2": read("Jet_eta")[keep] * 2,
            "event": read("event")[keep],
        }

    selection = raw("Events", ["Jet_pt", "Jet_eta*2", "event"], "any(Jet_pt > 40)")
    return Case(sample, "Events", "uproot-raw", selection, by_hand)


def physlite_adl() -> Case:
    prefix = "AnalysisElectronsAuxDyn"
    columns = {
        "pt": f"(/ (subscript e '{prefix}.pt') 1000)",
        "eta": f"(subscript e '{prefix}.eta')",
        "run": "(subscript e 'EventInfoAuxDyn.runNumber')",
    }

    def by_hand(read: Arrays) -> dict[str, ak.Array]:
        return {
            "pt": read(f"{prefix}.pt") / 1000,
            "eta": read(f"{prefix}.eta"),
            "run": read("EventInfoAuxDyn.runNumber"),
        }

    return Case(
        "PHYSLITE_example.root", "CollectionTree", "uproot", func_adl("CollectionTree", columns), by_hand
    )


def physlite_raw() -> Case:
    name = "AnalysisJetsAuxDyn.pt"

    def by_hand(read: Arrays) -> dict[str, ak.Array]:
        return {name: read(name)}

    return Case(
        "PHYSLITE_example.root", "CollectionTree", "uproot-raw", raw("CollectionTree", [name]), by_hand
    )


def pfnano_adl(sample: str) -> Case:
    columns = {"pt": "(attr e 'PFCands_pt')", "n": "(call Count (attr e 'PFCands_pt'))"}

    def by_hand(read: Arrays) -> dict[str, ak.Array]:
        return {"pt": read("PFCands_pt"), "n": ak.num(read("PFCands_pt"))}

    return Case(sample, "Events", "uproot", func_adl("Events", columns), by_hand)


CASES = [
    *(
        nano_adl(sample)
        for sample in ("nano_dy.root", "nano_tt_v12.root", "nano_tt_v15.root", "nano_dy_rntuple.root")
    ),
    *(nano_raw(sample) for sample in ("nano_dy.root", "nano_dy_rntuple.root")),
    pfnano_adl("pfnano.root"),
    pfnano_adl("pfnano_rntuple.root"),
    physlite_adl(),
    physlite_raw(),
]


def delivered(path: Path, result_format: ResultFormat) -> dict[str, ak.Array]:
    if result_format in ONE_TABLE:
        array = read_arrow(path) if result_format is ResultFormat.ARROW else ak.from_parquet(path)
        return {name: array[name] for name in array.fields if name != "treename"}
    if result_format is ResultFormat.HDF5:
        with h5py.File(path) as file:
            (tree,) = file.values()
            return {str(node.attrs.get("name", name)): read_hdf5(node) for name, node in tree.items()}
    with uproot.open({path: None}) as file:
        tree = file["servicex" if "servicex" in file else "Events" if "Events" in file else "CollectionTree"]
        # Not name by name: a dot in a field's name would be taken for a path.
        arrays = tree.arrays()
        return {name: arrays[name] for name in arrays.fields}


def read_arrow(path: Path) -> ak.Array:
    with pa.memory_map(str(path)) as source:
        return ak.from_arrow(pa.ipc.open_file(source).read_all())


def read_hdf5(node: h5py.Dataset | h5py.Group) -> ak.Array:
    if isinstance(node, h5py.Dataset):
        return ak.Array(node[:])
    return ak.unflatten(read_hdf5(node["content"]), np.diff(node["offsets"][:]))


def n_tables(path: Path, result_format: ResultFormat) -> int:
    """Columns of the only table, or the number of trees."""
    match result_format:
        case ResultFormat.PARQUET:
            return len(pq.read_table(path).column_names)
        case ResultFormat.ARROW:
            with pa.memory_map(str(path)) as source:
                return len(pa.ipc.open_file(source).schema)
        case ResultFormat.HDF5:
            with h5py.File(path) as hdf5:
                return len(hdf5)
        case _:
            with uproot.open({path: None}) as root:
                return len(root.keys())


def assert_equal(found: ak.Array, expected: ak.Array) -> None:
    assert found.type == expected.type
    assert ak.array_equal(found, expected, equal_nan=True, same_content_types=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.sample}-{case.codegen}")
def test_what_is_delivered_equals_the_selection_by_hand(case: Case, samples: Path, tmp_path: Path) -> None:
    with uproot.open({samples / case.sample: None}) as file:
        tree = file[case.tree]
        expected = case.by_hand(lambda name: tree[name].array())
        n_entries = tree.num_entries
    n_rows = len(next(iter(expected.values())))
    for result_format in ResultFormat:
        path = tmp_path / f"out.{result_format.value}"
        (summary,) = servicex_server.transform(
            samples / case.sample,
            codegen=case.codegen,
            selection=case.selection,
            output=path,
            result_format=result_format,
        )
        assert (summary.n_events_in, summary.n_events_out) == (n_entries, n_rows)
        assert summary.size_bytes == path.stat().st_size
        assert 0 < summary.bytes_read <= (samples / case.sample).stat().st_size * 1.5
        found = delivered(path, result_format)
        assert set(expected) <= set(found)
        for name, array in expected.items():
            assert_equal(found[name], ak.Array(array))


def test_parquet_is_physically_what_the_official_transformers_write(samples: Path, tmp_path: Path) -> None:
    case = nano_adl("nano_dy.root")
    servicex_server.transform(
        samples / case.sample, codegen=case.codegen, selection=case.selection, output=tmp_path / "ours"
    )
    with uproot.open({samples / case.sample: None}) as file:
        tree = file[case.tree]
        columns = case.by_hand(lambda name: tree[name].array())
    table = ak.to_arrow_table(ak.zip(columns, depth_limit=1))
    with pq.ParquetWriter(tmp_path / "official", table.schema) as writer:
        writer.write_table(table)
    ours, official = pq.ParquetFile(tmp_path / "ours"), pq.ParquetFile(tmp_path / "official")
    assert str(ours.schema).partition("\n")[2] == str(official.schema).partition("\n")[2]
    assert ours.schema_arrow.equals(official.schema_arrow)


@pytest.mark.parametrize("result_format", ResultFormat)
def test_nothing_passing_is_a_success_with_the_right_schema(
    result_format: ResultFormat, samples: Path, tmp_path: Path
) -> None:
    columns = {"pt": "(attr e 'Muon_pt')", "run": "(attr e 'run')"}
    for sample, where in (("nano_dy.root", "(> (attr e 'nMuon') 99)"), ("nano_dy_empty.root", None)):
        (summary,) = servicex_server.transform(
            samples / sample,
            codegen="uproot",
            selection=func_adl("Events", columns, where),
            output=tmp_path / "out",
            result_format=result_format,
        )
        assert summary.n_events_out == 0
        found = delivered(tmp_path / "out", result_format)
        assert {name: str(found[name].type) for name in columns} == {
            "pt": "0 * var * float32",
            "run": "0 * uint32",
        }


@pytest.mark.parametrize("result_format", ResultFormat)
def test_a_file_without_the_trees_asked_for_gives_an_empty_result(
    result_format: ResultFormat, samples: Path, tmp_path: Path
) -> None:
    summary = transform_file(
        str(samples / "nano_dy.root"),
        codegen="uproot-raw",
        selection=raw("NoSuchTree", ["x"]),
        output=tmp_path / "out",
        result_format=result_format,
        policy=CALLERS_OWN,
    )
    assert (summary.n_events_in, summary.n_events_out) == (0, 0)
    assert n_tables(tmp_path / "out", result_format) == 0


@pytest.mark.parametrize("result_format", ResultFormat)
def test_a_bare_column_has_the_official_name(
    result_format: ResultFormat, samples: Path, tmp_path: Path
) -> None:
    selection = "(call Select (call EventDataset 'bogus.root' 'Events') (lambda (list e) (attr e 'Muon_pt')))"
    servicex_server.transform(
        samples / "nano_dy.root",
        codegen="uproot",
        selection=selection,
        output=tmp_path / "out",
        result_format=result_format,
    )
    with uproot.open({samples / "nano_dy.root": None}) as file:
        expected = file["Events"]["Muon_pt"].array()
    if result_format is ResultFormat.PARQUET:
        assert pq.read_schema(tmp_path / "out").names == [""]
        assert_equal(ak.from_parquet(tmp_path / "out"), expected)
    elif result_format is ResultFormat.ARROW:
        assert_equal(read_arrow(tmp_path / "out"), expected)
    else:
        assert_equal(delivered(tmp_path / "out", result_format)["branch"], expected)


def test_several_trees_go_one_after_another_into_parquet_and_side_by_side_into_root(
    samples: Path, tmp_path: Path
) -> None:
    selection = json.dumps([{"treename": {"Events": "first", "NotEvents": "second"}, "expressions": ["run"]}])
    sample = samples / "nano_dy_SpecialTree.root"
    with uproot.open({sample: None}) as file:
        sizes = {name: file[name].num_entries for name in ("Events", "NotEvents")}
    for result_format in (ResultFormat.PARQUET, ResultFormat.ROOT_FILE):
        (summary,) = servicex_server.transform(
            sample,
            codegen="uproot-raw",
            selection=selection,
            output=tmp_path / "out",
            result_format=result_format,
        )
        assert summary.n_events_in == summary.n_events_out == sum(sizes.values())
        if result_format is ResultFormat.PARQUET:
            names = ak.from_parquet(tmp_path / "out").treename
            assert ak.to_list(names) == ["first"] * sizes["Events"] + ["second"] * sizes["NotEvents"]
        else:
            with uproot.open({tmp_path / "out": None}) as file:
                assert {name: file[name].num_entries for name in ("first", "second")} == {
                    "first": sizes["Events"],
                    "second": sizes["NotEvents"],
                }


def test_chunks_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "in.root"
    generator = np.random.default_rng(1)
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "f8", "jet": "var * float32"})
        for _ in range(5):
            counts = generator.poisson(3, 1000)
            jets = ak.values_astype(ak.unflatten(generator.exponential(30, counts.sum()), counts), "float32")
            file["Events"].extend({"x": generator.normal(size=1000), "jet": jets})
    selection = func_adl(
        "Events",
        {"x": "(attr e 'x')", "jet": "(call Where (attr e 'jet') (lambda (list p) (> p 20)))"},
        "(> (attr e 'x') 0)",
    )

    results = []
    for number, chunk_bytes in enumerate((1 << 30, 10_000, 300)):
        output = tmp_path / f"out{number}"
        transform_file(
            str(path),
            codegen="uproot",
            selection=selection,
            result_format=ResultFormat.PARQUET,
            output=output,
            policy=CALLERS_OWN,
            chunk_bytes=chunk_bytes,
        )
        results.append(ak.from_parquet(output))
    assert ak.array_equal(results[0], results[1])
    assert ak.array_equal(results[0], results[2])
    with uproot.open({path: None}) as file:
        x, jet = file["Events"]["x"].array(), file["Events"]["jet"].array()
    assert ak.array_equal(results[0].jet, jet[x > 0][jet[x > 0] > 20], same_content_types=False)
