"""Four-vectors of a real file, as they arrive: numbers asked of them, and themselves as plain records."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import pytest
import qastle
import uproot
from vector.backends.awkward import behavior

import servicex_server
from servicex_server.model.kinds import ResultFormat

FIELDS = ("pt", "eta", "phi", "mass")
MUONS = "Zip({" + ", ".join(f"'{name}': e.Muon_{name}" for name in FIELDS) + "}).ToFourMomenta()"


@pytest.fixture(scope="module")
def muons(samples: Path) -> ak.Array:
    with uproot.open(samples / "nano_tt_v12.root") as file:
        arrays = file["Events"].arrays([f"Muon_{name}" for name in FIELDS])
    fields = {name: arrays[f"Muon_{name}"] for name in FIELDS}
    return ak.zip(fields, with_name="Momentum4D", behavior=behavior)


def deliver(sample: Path, query: str, output: Path, result_format: ResultFormat) -> None:
    servicex_server.transform(
        sample,
        codegen="uproot",
        selection=qastle.python_source_to_text_ast(f"EventDataset('f', 'Events'){query}"),
        output=output,
        result_format=result_format,
    )


@pytest.mark.parametrize("result_format", [ResultFormat.PARQUET, ResultFormat.ROOT_FILE])
def test_the_dimuon_mass(samples: Path, tmp_path: Path, muons: ak.Array, result_format: ResultFormat) -> None:
    pairs = f"{MUONS}.Choose(2).Select(lambda p: (p.First() + p.Last()).mass)"
    query = f".Select(lambda e: {{'mass': {pairs}, 'sum': {MUONS}.Sum().pt}})"
    deliver(samples / "nano_tt_v12.root", query, tmp_path / "out", result_format)
    if result_format is ResultFormat.PARQUET:
        delivered = ak.from_parquet(tmp_path / "out")
    else:
        with uproot.open(tmp_path / "out") as file:
            delivered = file["servicex"].arrays(["mass", "sum"])
    one, two = ak.unzip(ak.combinations(muons, 2))
    assert ak.array_equal(delivered["mass"], (one + two).mass, equal_nan=True, dtype_exact=True)
    assert ak.array_equal(delivered["sum"], ak.sum(muons, axis=1).pt, dtype_exact=True)


def test_vectors_become_plain_records(samples: Path, tmp_path: Path, muons: ak.Array) -> None:
    query = f".Select(lambda e: {{'muons': {MUONS}, 'n': {MUONS}.Count()}})"
    deliver(samples / "nano_tt_v12.root", query, tmp_path / "out", ResultFormat.PARQUET)
    delivered = ak.from_parquet(tmp_path / "out")
    fields = ", ".join(f"{name}: float32" for name in FIELDS)
    assert str(delivered.type) == f"{len(muons)} * {{muons: var * {{{fields}}}, n: int64}}"
    assert delivered["muons"].to_list() == muons.to_list()
