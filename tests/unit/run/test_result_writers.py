"""Result files in the official formats: their content, their schema, and what they cannot hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot

from servicex_server.errors import FormatError
from servicex_server.model.kinds import CLIENT_FORMATS, ResultFormat
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput, BoundPlan
from servicex_server.plan.types import List, Number, Type
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.fit import check_format
from servicex_server.run.write.open import new_result

PARQUET, TTREE, RNTUPLE = ResultFormat.PARQUET, ResultFormat.ROOT_FILE, ResultFormat.ROOT_RNTUPLE

JAGGED = ak.values_astype(ak.Array([[1.0, 2.0], [], [3.0]]), "float32")
RECORDS = ak.zip({"pt": JAGGED, "eta": JAGGED * 2})
COLUMNS = {
    "number": ak.Array(np.array([1, 2, 3], dtype="u2")),
    "flag": ak.Array([True, False, True]),
    "jagged": JAGGED,
    "flags": JAGGED > 1,
    "fixed": ak.Array(np.arange(6, dtype="f4").reshape(3, 2)),
    "text": ak.Array(["a", "", "ccc"]),
    "record": ak.Array([{"a": 1, "b": 2.0}] * 3),
    "records": RECORDS,
    "nested": ak.Array([[[1, 2]], [], [[], [3]]]),
    "texts": ak.Array([["a"], [], ["b", "c"]]),
    "maybe": ak.firsts(JAGGED),
    "maybes": ak.Array([[1, None], [], [2]]),
    "lists_record": ak.zip({"pt": JAGGED, "eta": JAGGED}, depth_limit=1),
    "tuple": ak.Array([(1, 2.0)] * 3),
    "maybe_record": ak.Array([{"a": 1}, None, {"a": 2}]),
    "union": ak.Array([1, "a", [2]]),
    "complex": ak.Array(np.array([1j, 2, 3])),
    "half": ak.Array(np.array([1, 2, 3], dtype="f2")),
}
EVERYWHERE = {"number", "flag", "jagged", "flags", "fixed", "text", "record", "records"}
HOLDS = {
    TTREE: EVERYWHERE | {"tuple"},
    RNTUPLE: EVERYWHERE | {"nested", "texts", "maybe", "maybes", "lists_record", "tuple"},
    PARQUET: EVERYWHERE
    | {"nested", "texts", "maybe", "maybes", "lists_record", "tuple", "maybe_record", "half"},
}


def bound_output(
    schema: Mapping[str, Type], output_tree: str = "servicex", treename_column: str | None = None
) -> BoundOutput:
    # Writers look at names and types only.
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    return BoundOutput("in", output_tree, (), (), nothing, schema, treename_column=treename_column)


def write(
    path: Path, result_format: ResultFormat, chunks: Sequence[ak.Array], output: BoundOutput | None = None
) -> None:
    with new_result(path, result_format) as writer:
        writer.begin(output or bound_output(schema_of(chunks[0])), chunks[0][:0])
        for chunk in chunks:
            writer.write(writer.encode(chunk))


def read_tree(path: Path, tree: str = "servicex") -> ak.Array:
    with uproot.open({path: None}) as file:
        return file[tree].arrays()


def same(one: ak.Array, other: ak.Array) -> bool:
    return str(one.type) == str(other.type) and ak.to_list(one) == ak.to_list(other)


def official_table(array: ak.Array, path: Path) -> pq.ParquetFile:
    """As the official transformers write it."""
    table = ak.to_arrow_table(array)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)
    return pq.ParquetFile(path)


@pytest.mark.parametrize("result_format", CLIENT_FORMATS)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_format_holds_what_it_says(column: str, result_format: ResultFormat, tmp_path: Path) -> None:
    array = ak.Array({"x": COLUMNS[column]})
    bound = BoundPlan((bound_output(schema_of(array)),))
    path = tmp_path / "out"
    if column not in HOLDS[result_format]:
        with pytest.raises(FormatError, match=f"{result_format.value} cannot hold x"):
            check_format(bound, result_format)
        with pytest.raises(FormatError):
            write(path, result_format, [array])
        assert list(tmp_path.iterdir()) == []
        return
    check_format(bound, result_format)
    write(path, result_format, [array, array[1:], array[:0]])
    expected = ak.concatenate([array, array[1:]])
    if result_format is PARQUET:
        assert same(ak.from_parquet(path), expected)
    elif result_format is RNTUPLE:
        assert ak.to_list(read_tree(path)) == ak.to_list(expected)
    elif column in ("record", "records", "tuple"):
        fields = COLUMNS[column].fields
        found = read_tree(path)
        for field in fields:
            assert ak.array_equal(found[f"x_{field}"], expected.x[field])
    else:
        assert ak.array_equal(read_tree(path).x, expected.x)


@pytest.mark.parametrize("column", sorted(HOLDS[PARQUET]))
@pytest.mark.parametrize("named", [True, False])
def test_parquet_has_the_schema_of_the_official_transformers(
    column: str, named: bool, tmp_path: Path
) -> None:
    array = ak.Array({"x": COLUMNS[column]}) if named else COLUMNS[column]
    write(tmp_path / "ours", PARQUET, [array[:1], array[1:]])
    official = official_table(array, tmp_path / "official")
    ours = pq.ParquetFile(tmp_path / "ours")
    assert str(ours.schema).partition("\n")[2] == str(official.schema).partition("\n")[2]
    assert ours.schema_arrow.equals(official.schema_arrow)
    assert ak.from_parquet(tmp_path / "ours").type == ak.from_parquet(tmp_path / "official").type
    assert same(ak.from_parquet(tmp_path / "ours"), array)


def test_chunks_of_different_layout_make_one_table(tmp_path: Path) -> None:
    offsets = np.array([0, 2, 2, 3], dtype="i4")
    content = ak.contents.NumpyArray(np.array([1, 2, 3], dtype="f4"))
    narrow = ak.Array(ak.contents.ListOffsetArray(ak.index.Index32(offsets), content))
    shuffled = JAGGED[[2, 0, 1]]
    masked = ak.mask(JAGGED, [True, True, True])
    for result_format in CLIENT_FORMATS:
        write(tmp_path / "out", result_format, [ak.Array({"x": part}) for part in (JAGGED, narrow, shuffled)])
        found = ak.from_parquet(tmp_path / "out") if result_format is PARQUET else read_tree(tmp_path / "out")
        assert ak.to_list(found.x) == ak.to_list(JAGGED) * 2 + ak.to_list(shuffled)
    write(tmp_path / "out", PARQUET, [ak.Array({"x": masked}), ak.Array({"x": masked[[2, 1]]})])
    assert str(ak.from_parquet(tmp_path / "out").type) == "5 * {x: option[var * float32]}"


@pytest.mark.parametrize("result_format", CLIENT_FORMATS)
def test_no_rows_keep_the_schema(result_format: ResultFormat, tmp_path: Path) -> None:
    array = ak.Array({name: COLUMNS[name] for name in sorted(EVERYWHERE)})
    with new_result(tmp_path / "out", result_format) as writer:
        writer.begin(bound_output(schema_of(array)), array[:0])
    if result_format is PARQUET:
        assert ak.from_parquet(tmp_path / "out").type.content == array.type.content
    else:
        found = read_tree(tmp_path / "out")
        assert len(found) == 0
        assert found["jagged"].type.content == array["jagged"].type.content


@pytest.mark.parametrize(("result_format", "kind"), [(TTREE, "TTree"), (RNTUPLE, "ROOT::RNTuple")])
def test_root_files_hold_the_kind_of_tree_asked_for(
    result_format: ResultFormat, kind: str, tmp_path: Path
) -> None:
    write(tmp_path / "a:b:c", result_format, [ak.Array({"x": JAGGED})])
    with uproot.open({tmp_path / "a:b:c": None}) as file:
        assert file.classnames(cycle=False) == {"servicex": kind}


@pytest.mark.parametrize("result_format", [TTREE, RNTUPLE])
def test_an_unnamed_result_becomes_the_branch_branch(result_format: ResultFormat, tmp_path: Path) -> None:
    write(tmp_path / "out", result_format, [JAGGED])
    assert ak.array_equal(read_tree(tmp_path / "out").branch, JAGGED)


def test_lists_of_records_without_a_name_become_branches_named_by_field(tmp_path: Path) -> None:
    write(tmp_path / "out", TTREE, [RECORDS, RECORDS[1:]])
    found = read_tree(tmp_path / "out")
    assert set(found.fields) == {"n", "pt", "eta"}
    assert ak.array_equal(found.pt, ak.concatenate([RECORDS.pt, RECORDS.pt[1:]]))
    write(tmp_path / "out", RNTUPLE, [RECORDS])
    assert ak.to_list(read_tree(tmp_path / "out").branch) == ak.to_list(RECORDS)


def test_counters_evade_columns_of_their_name(tmp_path: Path) -> None:
    write(tmp_path / "out", TTREE, [ak.Array({"nJet": ak.num(JAGGED) * 10, "Jet": JAGGED})])
    found = read_tree(tmp_path / "out")
    assert ak.to_list(found.nJet) == [20, 0, 10]
    assert ak.array_equal(found.Jet, JAGGED)


def test_columns_that_would_become_one_branch_are_refused(tmp_path: Path) -> None:
    array = ak.Array({"Jet_pt": ak.Array([1, 2, 3]), "Jet": RECORDS})
    with pytest.raises(FormatError, match="both become the branch Jet_pt"):
        write(tmp_path / "out", TTREE, [array])


def test_parquet_puts_all_trees_into_one_table_with_their_names(tmp_path: Path) -> None:
    array = ak.Array({"x": JAGGED})
    with new_result(tmp_path / "out", PARQUET) as writer:
        for name in ("one", "two"):
            writer.begin(bound_output(schema_of(array), name, "treename"), array[:0])
            writer.write(writer.encode(array))
    found = ak.from_parquet(tmp_path / "out")
    assert ak.to_list(found.treename) == ["one"] * 3 + ["two"] * 3
    # The official way of adding the column:
    array["treename"] = "one"
    official = official_table(array, tmp_path / "official")
    assert pq.ParquetFile(tmp_path / "out").schema_arrow.equals(official.schema_arrow)


def test_parquet_refuses_trees_of_different_structure(tmp_path: Path) -> None:
    one, other = {"x": Number("float32")}, {"x": List(Number("float32"))}
    with pytest.raises(FormatError, match="x \\(float32 and var"):
        check_format(BoundPlan((bound_output(one, "a"), bound_output(other, "b"))), PARQUET)
    check_format(BoundPlan((bound_output(one, "a"), bound_output(other, "b"))), TTREE)
    with pytest.raises(FormatError, match="into the tree 'a'"):
        check_format(BoundPlan((bound_output(one, "a"), bound_output(other, "a"))), TTREE)


@pytest.mark.parametrize("result_format", [TTREE, RNTUPLE])
def test_results_of_one_tree_name_are_appended(result_format: ResultFormat, tmp_path: Path) -> None:
    array = ak.Array({"x": JAGGED})
    with new_result(tmp_path / "out", result_format) as writer:
        for name in ("one", "two", "one"):
            writer.begin(bound_output(schema_of(array), name), array[:0])
            writer.write(writer.encode(array))
    assert len(read_tree(tmp_path / "out", "one")) == 6
    assert len(read_tree(tmp_path / "out", "two")) == 3


@pytest.mark.parametrize("result_format", CLIENT_FORMATS)
def test_a_file_without_tables_is_complete(result_format: ResultFormat, tmp_path: Path) -> None:
    with new_result(tmp_path / "out", result_format):
        pass
    if result_format is PARQUET:
        assert pq.read_table(tmp_path / "out").num_columns == 0
    else:
        with uproot.open(tmp_path / "out") as file:
            assert file.keys() == []


def test_objects_are_copied_into_root_files(tmp_path: Path) -> None:
    histogram = (np.array([1.0, 2.0]), np.array([0.0, 1.0, 2.0]))
    with uproot.recreate(tmp_path / "in.root") as file:
        file["plots/mass"] = histogram
        file["other"] = histogram
        file["note"] = "text"
    with uproot.open(tmp_path / "in.root") as source, new_result(tmp_path / "out.root", TTREE) as writer:
        writer.copy(source, ("plots/mass", "note"))
    with uproot.open(tmp_path / "out.root") as file:
        assert set(file.keys(cycle=False)) == {"plots", "plots/mass", "note"}
        assert list(file["plots/mass"].values()) == [1.0, 2.0]


def test_parquet_refuses_copied_objects_before_anything_is_read() -> None:
    with pytest.raises(FormatError, match="hist1"):
        check_format(BoundPlan((), copied_objects=("hist1",)), PARQUET)


def test_nothing_is_left_of_a_result_that_fails(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(result_format: ResultFormat) -> None:
        with new_result(tmp_path / "out", result_format) as writer:
            writer.begin(bound_output({}), ak.Array({"x": JAGGED})[:0])
            raise Interrupted

    for result_format in CLIENT_FORMATS:
        with pytest.raises(Interrupted):
            interrupt(result_format)
    assert list(tmp_path.iterdir()) == []


def test_tiny_chunks_share_a_row_group(tmp_path: Path) -> None:
    write(tmp_path / "out", PARQUET, [ak.Array({"x": JAGGED})] * 50)
    assert pq.ParquetFile(tmp_path / "out").num_row_groups == 1
