"""What a Parquet result says of itself, and who encodes it."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest

from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.encode import ParquetOptions
from servicex_server.run.write.open import new_result
from servicex_server.run.write.parquet import ParquetWriter

VERSION = importlib.metadata.version("servicex-server")
PLAIN = ak.Array({"x": [[1.0, 2.0], [], [3.0]], "y": [1, 2, 3]})
# awkward makes columns of the fields of rows that may be missing, which our encoder leaves to pyarrow.
ODD = ak.Array([{"x": 1, "y": 2.0}, None, {"x": 3, "y": 4.0}])


def output_of(array: ak.Array) -> BoundOutput:
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    return BoundOutput("in", "out", (), (), nothing, schema_of(array))


def write(path: Path, array: ak.Array, **options: Any) -> pq.ParquetFile:
    writer = ParquetWriter(path, **options)
    writer.begin(output_of(array), array[:0])
    writer.write(writer.encode(array))
    writer.finish()
    return pq.ParquetFile(path)


@pytest.mark.parametrize("array", [PLAIN, ODD])
def test_files_say_where_they_come_from(array: ak.Array, tmp_path: Path) -> None:
    provenance = {"plan": "0123abcd", "engine": VERSION}
    found = write(tmp_path / "out", array, provenance=provenance)
    assert json.loads(found.metadata.metadata[b"servicex.provenance"]) == provenance
    assert ak.from_parquet(tmp_path / "out").tolist() == array.tolist()
    assert b"servicex.provenance" not in write(tmp_path / "out", array).metadata.metadata


def test_results_carry_the_provenance_they_are_given(tmp_path: Path) -> None:
    with new_result(tmp_path / "out", ResultFormat.PARQUET, provenance={"plan": "0123"}) as writer:
        writer.begin(output_of(PLAIN), PLAIN[:0])
        writer.write(writer.encode(PLAIN))
    metadata = pq.ParquetFile(tmp_path / "out").metadata
    assert json.loads(metadata.metadata[b"servicex.provenance"]) == {"plan": "0123"}
    assert metadata.created_by == f"servicex-server version {VERSION}"


@pytest.mark.parametrize(("array", "encoder"), [(PLAIN, "servicex-server"), (ODD, "parquet-cpp-arrow")])
def test_types_that_the_encoder_does_not_know_go_through_pyarrow(
    array: ak.Array, encoder: str, tmp_path: Path
) -> None:
    for options in (
        ParquetOptions(),
        ParquetOptions(compression="lz4_raw"),
        ParquetOptions(compression="none"),
    ):
        found = write(tmp_path / "out", array, options=options)
        assert found.metadata.created_by.startswith(encoder)
        assert ak.from_parquet(tmp_path / "out").tolist() == array.tolist()
        codec = {"zstd": "ZSTD", "lz4_raw": "LZ4", "none": "UNCOMPRESSED"}[options.compression]
        assert found.metadata.row_group(0).column(0).compression == codec


def test_rows_need_a_table_to_go_to(tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path / "out")
    with pytest.raises(RuntimeError, match="before the first table"):
        writer.encode(PLAIN)


def test_every_row_names_its_tree_at_little_cost(tmp_path: Path) -> None:
    array = ak.Array({"x": np.arange(10_000)})
    writer = ParquetWriter(tmp_path / "out")
    for tree in ("one", "two"):
        bound = output_of(array)
        named = BoundOutput(
            bound.tree, tree, (), (), bound.expression, bound.schema, treename_column="treename"
        )
        writer.begin(named, array[:0])
        writer.write(writer.encode(array))
    writer.finish()
    found = pq.ParquetFile(tmp_path / "out")
    assert found.metadata.row_group(0).column(1).total_compressed_size < 1000
    names = ak.from_parquet(tmp_path / "out").treename
    assert str(names.type) == "20000 * string"
    assert ak.all(names[:10_000] == "one")
    assert ak.all(names[10_000:] == "two")
