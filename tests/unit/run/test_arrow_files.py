"""Arrow results: what awkward, pyarrow and polars read in them."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings

from nested_arrays import COLUMNS, JAGGED, bound_output, same, tables, write
from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import BoundPlan
from servicex_server.run.write import arrow
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.fit import check_format
from servicex_server.run.write.open import new_result

ARROW = ResultFormat.ARROW


def open_file(path: Path) -> pa.ipc.RecordBatchFileReader:
    return pa.ipc.open_file(pa.memory_map(str(path)))


def read(path: Path) -> ak.Array:
    return ak.from_arrow(open_file(path).read_all())


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_come_back(column: str, tmp_path: Path) -> None:
    array = ak.Array({"before": [1, 2, 3], "x": COLUMNS[column]})
    path = tmp_path / "out"
    if column in ("union", "complex"):
        with pytest.raises(FormatError, match="arrow cannot hold x"):
            check_format(BoundPlan((bound_output(schema_of(array)),)), ARROW)
        with pytest.raises(FormatError, match="arrow cannot hold x"):
            write(path, ARROW, [array])
        assert list(tmp_path.iterdir()) == []
        return
    check_format(BoundPlan((bound_output(schema_of(array)),)), ARROW)
    write(path, ARROW, [array, array[1:], array[:0]])
    expected = ak.concatenate([array, array[1:]])
    found = read(path)
    if column == "tuple":
        assert ak.to_list(found.x) == [{"0": 1, "1": 2.0}] * 5, "Arrow has no tuples"
        return
    assert ak.to_list(found) == ak.to_list(expected)
    if column != "nothing":
        assert found.type == expected.type
    frame = pl.read_ipc(path)
    if column not in ("matrices", "maybe_fixed"):
        assert frame["x"].to_list() == ak.to_list(expected.x)
    assert "ext[" not in str(frame["x"].dtype)


@settings(max_examples=25, deadline=None)
@given(tables())
def test_any_table_comes_back(tmp_path_factory: pytest.TempPathFactory, array: ak.Array) -> None:
    path = tmp_path_factory.mktemp("arrow") / "out"
    write(path, ARROW, [array[:2], array[2:]])
    assert same(read(path), array)


def test_polars_computes_on_lists(tmp_path: Path) -> None:
    write(tmp_path / "out", ARROW, [ak.Array({"pt": JAGGED, "n": [1, 2, 3]})])
    frame = pl.scan_ipc(tmp_path / "out").filter(pl.col("n") > 1).select(pl.col("pt").list.sum()).collect()
    assert frame["pt"].to_list() == [0.0, 3.0]


def test_the_schema_is_that_of_plain_arrow(tmp_path: Path) -> None:
    array = ak.Array({"pt": JAGGED, "maybe": ak.firsts(JAGGED), "text": ["a", "b", "c"]})
    write(tmp_path / "out", ARROW, [array])
    element = pa.field("item", pa.float32(), nullable=False)
    assert open_file(tmp_path / "out").schema.equals(
        pa.schema(
            [
                pa.field("pt", pa.large_list(element), nullable=False),
                pa.field("maybe", pa.float32()),
                pa.field("text", pa.large_string(), nullable=False),
            ]
        )
    )


def test_small_chunks_share_a_record_batch_and_large_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrow, "BATCH_BYTES", 1000)
    array = ak.Array({"x": np.arange(50.0)})
    write(tmp_path / "out", ARROW, [array[:0], *[array] * 10, array[:0]])
    file = open_file(tmp_path / "out")
    assert [file.get_batch(n).num_rows for n in range(file.num_record_batches)] == [150, 150, 150, 50]
    assert ak.to_list(read(tmp_path / "out").x) == ak.to_list(array.x) * 10


def test_no_rows_keep_the_schema(tmp_path: Path) -> None:
    array = ak.Array({name: COLUMNS[name] for name in ("number", "jagged", "records", "text", "maybe_list")})
    with new_result(tmp_path / "out", ARROW) as writer:
        writer.begin(bound_output(schema_of(array)), array[:0])
    assert same(read(tmp_path / "out"), array[:0])
    assert pl.read_ipc(tmp_path / "out").shape == (0, 5)


def test_all_trees_are_one_table_with_their_names(tmp_path: Path) -> None:
    array = ak.Array({"x": JAGGED})
    with new_result(tmp_path / "out", ARROW) as writer:
        for name in ("one", "two"):
            writer.begin(bound_output(schema_of(array), name, "treename"), array[:0])
            writer.write(writer.encode(array))
    found = read(tmp_path / "out")
    assert ak.to_list(found.treename) == ["one"] * 3 + ["two"] * 3
    assert ak.to_list(found.x) == ak.to_list(JAGGED) * 2


def test_trees_of_different_structure_are_refused(tmp_path: Path) -> None:
    one, other = ak.Array({"x": JAGGED}), ak.Array({"x": [1, 2]})
    outputs = (bound_output(schema_of(one), "a"), bound_output(schema_of(other), "b"))
    with pytest.raises(FormatError, match=r"arrow keeps all trees in one table.*x \(var"):
        check_format(BoundPlan(outputs), ARROW)
    with new_result(tmp_path / "out", ARROW) as writer:
        writer.begin(outputs[0], one[:0])
        with pytest.raises(FormatError, match="tree 'b' differs"):
            writer.begin(outputs[1], other[:0])


def test_an_unnamed_result_comes_back_bare(tmp_path: Path) -> None:
    write(tmp_path / "out", ARROW, [JAGGED, JAGGED])
    assert same(read(tmp_path / "out"), ak.concatenate([JAGGED, JAGGED]))


def test_a_file_without_tables_is_complete(tmp_path: Path) -> None:
    with new_result(tmp_path / "out", ARROW):
        pass
    assert open_file(tmp_path / "out").read_all().num_columns == 0


def test_copied_objects_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="arrow cannot hold copied objects \\(hist1\\)"):
        check_format(BoundPlan((), copied_objects=("hist1",)), ARROW)
    with new_result(tmp_path / "out", ARROW) as writer, pytest.raises(FormatError, match="hist1"):
        writer.copy(None, ("hist1",))
