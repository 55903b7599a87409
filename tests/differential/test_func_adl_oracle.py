"""func_adl queries: the same values and types as func_adl_uproot gives."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import qastle
import uproot

from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.types import Type
from servicex_server.run.filter import evaluate, from_awkward

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import func_adl_uproot

FLAT = ("run", "event", "MET_pt", "MET_phi", "HLT_IsoMu24", "PV_npvs", "genWeight")
JAGGED = (
    "Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge", "Muon_tightId", "Electron_pt", "Electron_eta", "Jet_pt",
    "Jet_eta", "Jet_jetId",
)  # fmt: skip

MUONS = "Zip({'pt': e.Muon_pt, 'eta': e.Muon_eta, 'q': e.Muon_charge})"

QUERIES = [
    ".Select(lambda e: e.MET_pt)",
    ".Select(lambda e: e['MET_pt'])",
    ".Select(lambda e: e.Muon_pt)",
    ".Select(lambda e: {'met': e.MET_pt, 'muon': e.Muon_pt})",
    ".Select(lambda e: {'muon': e.Muon_pt})",
    ".Select(lambda e: {'met': e.MET_pt})",
    ".Select(lambda e: (e.MET_pt, e.Muon_pt))",
    ".Select(lambda e: [e.MET_pt, e.Muon_pt])",
    ".Select(lambda e: [e.Muon_pt])",
    ".Select(lambda e: {'a': {'x': e.MET_pt, 'y': e.MET_phi}, 'b': e.event})",
    ".Select(lambda e: {'a': {'x': e.Muon_pt}, 'b': e.event})",
    ".Select(lambda e: 1)",
    ".Select(lambda e: 2.5)",
    ".Select(lambda e: True)",
    ".Where(lambda e: e.MET_pt > 20)",
    ".Where(lambda e: e.MET_pt > 20).Select(lambda e: e.Muon_pt)",
    ".Where(lambda e: e.MET_pt > 1e9).Select(lambda e: {'met': e.MET_pt, 'muon': e.Muon_pt})",
    ".Where(lambda e: e.HLT_IsoMu24).Select(lambda e: e.event)",
    ".Where(lambda e: e.MET_pt > 20 and e.PV_npvs > 10 or not e.HLT_IsoMu24).Select(lambda e: e.event)",
    ".Where(lambda e: (e.MET_pt > 20) & (e.PV_npvs > 10) | ~e.HLT_IsoMu24).Select(lambda e: e.event)",
    ".Select(lambda e: e.Muon_pt.Where(lambda pt: pt > 10))",
    ".Select(lambda e: e.Muon_pt.Select(lambda pt: pt / 1000))",
    ".Select(lambda e: e.Muon_pt.Select(lambda pt: {'gev': pt, 'mev': pt * 1000}))",
    ".Select(lambda e: e.Muon_pt.Select(lambda pt: 1))",
    ".Select(lambda e: e.Muon_pt.Where(lambda pt: abs(pt) > 10).Count())",
    ".Where(lambda e: e.Muon_pt.Count() >= 2).Select(lambda e: e.Muon_pt.First())",
    ".Where(lambda e: e.Muon_pt.Count() >= 2).Select(lambda e: e.Muon_pt.Last())",
    ".Where(lambda e: e.Muon_pt.Count() >= 2).Select(lambda e: e.Muon_pt.ElementAt(1))",
    ".Where(lambda e: e.Muon_pt.Where(lambda pt: pt > 15).Count() == 2).Select(lambda e: e.Muon_pt.First())",
    ".Select(lambda e: e.Muon_pt.Sum())",
    ".Select(lambda e: e.Muon_charge.Sum())",
    ".Select(lambda e: e.Jet_pt.Max())",
    ".Select(lambda e: e.Muon_pt.Min())",
    ".Select(lambda e: e.Muon_pt.Any(lambda pt: pt > 20))",
    ".Select(lambda e: e.Muon_pt.All(lambda pt: pt > 20))",
    ".SelectMany(lambda e: e.Muon_pt)",
    ".SelectMany(lambda e: e.Muon_pt.Where(lambda pt: pt > 10)).Where(lambda pt: pt < 30)",
    f".SelectMany(lambda e: {MUONS})",
    f".Select(lambda e: {MUONS})",
    f".Select(lambda e: {MUONS}.Where(lambda m: (m.pt > 10) and (m.q > 0)))",
    f".Select(lambda e: {MUONS}.Where(lambda m: m.pt > 10).Select(lambda m: m.eta))",
    f".Select(lambda e: {MUONS}.Where(lambda m: m['pt'] > 10).Select(lambda m: {{'e': m.eta, 'q': m.q}}))",
    f".Select(lambda e: {MUONS}.OrderBy(lambda m: m.eta).Select(lambda m: m.pt))",
    f".Select(lambda e: {MUONS}).Where(lambda ms: ms.Count() > 0).Select(lambda ms: ms.First().pt)",
    ".Select(lambda e: e.Muon_pt.OrderByDescending(lambda pt: pt))",
    ".Select(lambda e: e.Muon_pt.OrderBy(lambda pt: -pt))",
    ".Select(lambda e: e.Muon_pt.Choose(2))",
    ".Select(lambda e: e.Muon_pt.Concat(e.Electron_pt))",
    ".Select(lambda e: e.MET_pt if e.HLT_IsoMu24 else e.MET_phi)",
    ".Select(lambda e: 1.0 if e.MET_pt > 20 else 0.0)",
    ".Select(lambda e: 1 if e.MET_pt > 20 else e.MET_pt)",
    ".Select(lambda e: e.Muon_pt.Select(lambda pt: pt if pt > 20 else 0))",
    ".Select(lambda e: {'a': e.MET_pt, 'b': e.Muon_pt}).Where(lambda r: r.a > 20).Select(lambda r: r.b)",
    ".Select(lambda e: {'a': e.MET_pt, 'b': e.Muon_pt}).Select(lambda r: r['b'].Count())",
    ".Select(lambda e: (e.MET_pt, e.Muon_pt)).Select(lambda r: r[1])",
    ".Select(lambda e: (e.MET_pt, e.Muon_pt)).Select(lambda r: r[-1].Count() + r[0])",
    ".Select(lambda e: e.MET_pt * 2 + e.MET_phi / 3 - 1)",
    ".Select(lambda e: -e.MET_pt ** 2)",
    ".Select(lambda e: e.PV_npvs // 2 + e.PV_npvs % 3)",
    ".Select(lambda e: (e.event << 1) ^ (e.event >> 2))",
    ".Select(lambda e: e.Muon_pt * e.MET_pt)",
    ".Select(lambda e: e.Muon_charge * 0.5)",
    ".Select(lambda e: e.Jet_jetId + 1)",
    ".Select(lambda e: e.Jet_jetId * e.Jet_pt)",
    ".Select(lambda e: np.sqrt(e.Muon_pt) + np.cos(e.Muon_phi))",
    ".Select(lambda e: np.arctan2(e.MET_pt, e.MET_phi))",
    ".Select(lambda e: e.Muon_pt == e.Muon_pt.Max())",
    ".Select(lambda e: e.Muon_pt.Select(lambda m: e.Electron_pt.Select(lambda l: m + l)))",
    ".Select(lambda e: e.Muon_pt.Select(lambda m: e.Electron_pt.Select(lambda l: m + l * e.MET_pt)))",
    ".Select(lambda e: e.Muon_pt.Select(lambda m: e.Electron_pt.Select(lambda l: {'m': m, 'l': l})))",
    ".Select(lambda e: Contains([1, 2, 3], e.PV_npvs))",
    ".Select(lambda e: e.Muon_charge.Contains(1))",
    ".Select(lambda e: e.MET_pt).Where(lambda met: met > 20)",
    ".Select(lambda e: e.Muon_pt).Select(lambda pts: pts.Where(lambda pt: pt > 10))",
    ".Count()",
    ".Where(lambda e: e.MET_pt > 20).Count()",
    ".Select(lambda e: e.MET_pt).Sum()",
    ".Select(lambda e: e.MET_pt).Max()",
    ".Select(lambda e: e.MET_pt).First()",
    ".Select(lambda e: e.Jet_pt).First()",
    ".Select(lambda e: {'a': e.MET_pt, 'b': e.Jet_pt}).First()",
    ".Select(lambda e: (lambda x: x * x)(e.MET_pt))",
    "",
]  # fmt: skip


@pytest.fixture(scope="module")
def flat_file(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small file with a few branches: the oracle looks at every branch of a file, for each query."""
    with uproot.open(samples / "nano_dy.root") as source:
        branches = set(source["Events"].keys())
        arrays = source["Events"].arrays([name for name in (*FLAT, *JAGGED) if name in branches])
    path = tmp_path_factory.mktemp("oracle") / "flat.root"
    with uproot.recreate(path) as target:
        tree = target.mktree("Events", {name: arrays[name].type for name in arrays.fields})
        tree.extend({name: arrays[name] for name in arrays.fields})
    return path


@pytest.fixture(scope="module")
def columns(flat_file: Path) -> dict[str, ak.Array]:
    with uproot.open(flat_file) as file:
        arrays = file["Events"].arrays()
    return {name: arrays[name] for name in arrays.fields}


def to_qastle(python: str) -> str:
    text: str = qastle.python_source_to_text_ast(python)
    return text


def ours(query: str, columns: dict[str, ak.Array]) -> tuple[ak.Array, dict[str, Type], bool]:
    types = {name: from_awkward(column.type.content) for name, column in columns.items()}
    schema = MemoryFile((MemoryTree("Events", types),))
    (output,) = bind(parse("uproot", query), schema).outputs
    result = evaluate(output, {name: columns[name] for name in output.columns})
    return result, dict(output.schema), output.is_unnamed


def theirs(query: str, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return func_adl_uproot.generate_function(query)(str(path), "Events")


def as_array(value: Any) -> ak.Array:
    if isinstance(value, ak.Array):
        return value
    if isinstance(value, ak.Record):
        return ak.Array(value.layout.array[value.layout.at : value.layout.at + 1])
    return ak.Array(np.array([value]))


@pytest.mark.parametrize("query", QUERIES)
def test_gives_what_func_adl_uproot_gives(query: str, flat_file: Path, columns: dict[str, ak.Array]) -> None:
    text = to_qastle(f"EventDataset('f.root', 'Events'){query}")
    expected = as_array(theirs(text, flat_file))
    result, schema, is_unnamed = ours(text, columns)
    if query.endswith(").Max()"):
        # The oracle gives a bare number; ours is a row that an empty file leaves missing.
        result = ak.drop_none(result)
    else:
        names = [""] if is_unnamed else result.fields
        got = {name: from_awkward((result[name] if name else result).type.content) for name in names}
        assert schema == got
    assert str(result.type) == str(expected.type)
    assert ak.array_equal(result, expected, equal_nan=True, dtype_exact=True, check_parameters=False)


ONLY_OURS = [
    (
        ".Select(lambda e: {'met': e.MET_pt, 'one': 1, 'half': 0.5, 'yes': True})",
        "float32, one: int64, half: float64",
    ),
    (".OrderBy(lambda e: e.MET_pt).Select(lambda e: e.event)", "uint64"),
    (".Select(lambda e: e.Muon_pt.Select(lambda m: e.MET_pt))", "var * float32"),
    (".Select(lambda e: e.Muon_pt.Select(lambda m: e.Electron_pt.Count()))", "var * int64"),
]


@pytest.mark.parametrize(("query", "shown"), ONLY_OURS)
def test_accepts_what_func_adl_uproot_does_not(query: str, shown: str, columns: dict[str, ak.Array]) -> None:
    result, _, _ = ours(to_qastle(f"EventDataset('f.root', 'Events'){query}"), columns)
    assert shown in str(result.type)
