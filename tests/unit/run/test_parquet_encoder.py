"""Our Parquet files compared with those that pyarrow writes, as four readers see them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import awkward as ak
import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from array_layouts import NUMBERS, layouts, numbers, tables, text
from nested_arrays import bound_output
from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.write.canonical import schema_of, to_canonical
from servicex_server.run.write.encode import ParquetOptions
from servicex_server.run.write.encode import pages as pages_module
from servicex_server.run.write.encode.file import EncodedFile
from servicex_server.run.write.encode.options import Compression
from servicex_server.run.write.encode.schema import read_schema
from servicex_server.run.write.encode.shred import shred
from servicex_server.run.write.encode.thrift import Reader
from servicex_server.run.write.open import new_result

CODECS: tuple[Compression, ...] = ("none", "snappy", "gzip", "lz4_raw", "zstd")


def write(path: Path, chunks: Sequence[ak.Array], options: ParquetOptions | None = None) -> pq.ParquetFile:
    """A file of our encoder; the first chunk tells the types."""
    empty = to_canonical(chunks[0][:0])
    schema = read_schema(ak.to_arrow_table(empty), empty.layout.form)
    file = EncodedFile(
        path,
        schema,
        options or ParquetOptions(),
        details={"by": "us"},
        created_by="servicex-server version 1",
    )
    try:
        for chunk in chunks:
            file.write(file.encode(chunk))
        file.finish(empty)
    finally:
        file.abandon()
    return pq.ParquetFile(path)


def write_official(path: Path, array: ak.Array, like: pq.ParquetFile | None = None) -> pq.ParquetFile:
    """The same as the official transformers write it, with the row groups of another file if one is given."""
    table = ak.to_arrow_table(to_canonical(array))
    groups = [len(array)]
    if like is not None:
        groups = [like.metadata.row_group(number).num_rows for number in range(like.num_row_groups)]
    with pq.ParquetWriter(path, table.schema) as writer:
        for start, n_rows in zip(itertools.accumulate(groups, initial=0), groups, strict=False):
            writer.write_table(table.slice(start, n_rows))
    return pq.ParquetFile(path)


def seen(array: ak.Array) -> str:
    """Values as text: NaN equals itself, and zeros of both signs differ."""
    return repr(ak.to_list(array))


def seen_by_polars(path: Path) -> str:
    """Types and values; or why polars cannot tell, as of some constant columns of awkward's types."""
    try:
        frame = pl.read_parquet(path)
        return f"{frame.schema} {frame.rows()}"
    except pl.exceptions.PanicException as error:
        return str(error)


@contextlib.contextmanager
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Places of two files; hypothesis wants a fresh folder for each example."""
    where = tmp_path_factory.mktemp("files")
    yield where / "ours", where / "theirs"
    for path in where.iterdir():
        path.unlink()
    where.rmdir()


@st.composite
def choices(draw: st.DrawFn) -> ParquetOptions:
    return ParquetOptions(
        compression=draw(st.sampled_from(CODECS)),
        split_floats=draw(st.booleans()),
        dictionary=draw(st.booleans()),
        page_values=draw(st.sampled_from([1, 3, 1000])),
        direct_bytes=draw(st.sampled_from([1, 10**9])),
        group_rows=draw(st.sampled_from([1, 5, 10**9])),
        split_bytes=draw(st.sampled_from([64, 10**9])),
    )


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


def check_awkward_and_pyarrow(
    array: ak.Array, options: ParquetOptions, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with folder(tmp_path_factory) as (ours, theirs):
        chunks = [array[:cut], array[cut:]]
        official = write_official(theirs, array)
        found = write(ours, chunks, options)
        assert str(found.schema).partition("\n")[2] == str(official.schema).partition("\n")[2]
        assert found.schema_arrow.equals(official.schema_arrow, check_metadata=True)
        assert found.metadata.metadata == {**official.metadata.metadata, b"by": b"us"}
        assert found.metadata.num_rows == len(array)
        by_arrow = pq.read_table(ours)
        by_arrow.validate(full=True)
        assert repr(by_arrow.to_pylist()) == repr(pq.read_table(theirs).to_pylist())
        assert ak.from_parquet(ours).type == ak.from_parquet(theirs).type
        assert seen(ak.from_parquet(ours)) == seen(array)


@given(array=tables(), options=choices(), cut=st.integers(0, 12))
@settings(relaxed, max_examples=35)
def test_awkward_and_pyarrow_see_the_official_file(
    array: ak.Array, options: ParquetOptions, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_awkward_and_pyarrow(array, options, cut, tmp_path_factory)


@pytest.mark.long
@given(array=tables(), options=choices(), cut=st.integers(0, 12))
@settings(relaxed, max_examples=1500)
def test_awkward_and_pyarrow_see_the_official_file_at_length(
    array: ak.Array, options: ParquetOptions, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_awkward_and_pyarrow(array, options, cut, tmp_path_factory)


def check_duckdb_and_polars(
    array: ak.Array, options: ParquetOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(ak.fields(array))
    with folder(tmp_path_factory) as (ours, theirs):
        # polars has its troubles with awkward's types in some row groups, whoever wrote them.
        write_official(theirs, array, write(ours, [array], options))
        with duckdb.connect() as database:
            database.sql("SET threads = 1")
            one, other = (
                database.sql("SELECT * FROM read_parquet(?)", params=[str(p)]) for p in (ours, theirs)
            )
            assert one.types == other.types
            assert repr(one.fetchall()) == repr(other.fetchall())
        assert seen_by_polars(ours) == seen_by_polars(theirs)


@given(array=tables(), options=choices())
@settings(relaxed, max_examples=15)
def test_duckdb_and_polars_see_the_official_file(
    array: ak.Array, options: ParquetOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_duckdb_and_polars(array, options, tmp_path_factory)


@pytest.mark.long
@given(array=tables(), options=choices())
@settings(relaxed, max_examples=700)
def test_duckdb_and_polars_see_the_official_file_at_length(
    array: ak.Array, options: ParquetOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check_duckdb_and_polars(array, options, tmp_path_factory)


@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(relaxed, max_examples=30)
def test_statistics_are_those_of_pyarrow(
    data: st.DataObject, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    column = data.draw(layouts(np.random.default_rng(seed), 20, 1))
    array = ak.Array({"x": ak.Array(column)})
    pages = data.draw(st.sampled_from([3, 1000]))
    with folder(tmp_path_factory) as (ours, theirs):
        official = write_official(theirs, array).metadata.row_group(0)
        found = write(ours, [array], ParquetOptions(page_values=pages)).metadata.row_group(0)
        for number in range(official.num_columns):
            one, other = found.column(number).statistics, official.column(number).statistics
            assert found.column(number).num_values == official.column(number).num_values
            assert (one.has_min_max, one.null_count) == (other.has_min_max, other.null_count)
            assert repr((one.min, one.max)) == repr((other.min, other.max))


def rows_of_duckdb(path: Path) -> list[Any]:
    with duckdb.connect() as database:
        database.sql("SET threads = 1")
        return database.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()


def column_of(values: Any) -> ak.Array:
    """A table of the values, and of lists of them with empty lists in between."""
    counts = np.resize([0, 2, 1, 0, 0, 3], len(values))
    counts = counts[: int(np.searchsorted(np.cumsum(counts), len(values)))]
    lists = ak.unflatten(values[: counts.sum()], counts)
    return ak.Array({"x": values[: len(counts)], "y": lists})


FEW: dict[str, Any] = {
    "one": np.full(1000, 7, "i4"),
    "two": np.resize([-1, 1], 1000).astype("i4"),
    "three": np.resize([5, 2**31, 2**32 - 1], 1000).astype("u4"),
    "seven": np.resize(np.arange(-3, 4), 1000).astype("i1"),
    "hundred": np.resize(np.arange(100), 1000).astype("i8"),
    "far apart": np.resize([-(2**63), 2**63 - 1, 0], 1000).astype("i8"),
    "unsigned far apart": np.resize(np.array([0, 2**64 - 1], "u8"), 1000),
    "thousand": np.resize(np.arange(1000), 5000).astype("i2"),
    "codes": np.resize([-2212, 2212, 11, 13, -13, 22], 1000).astype("i4"),
    "quantised": np.resize(np.arange(-300, 300) / 64, 5000).astype("f4"),
    "quantised doubles": np.resize(np.arange(64) / 64, 9000).astype("f8"),
    "halves": np.resize(np.arange(200), 3000).astype("f2"),
    "zeros and nothing": np.resize([0.0, -0.0, np.nan], 1000).astype("f4"),
    "other nothing": np.resize(np.array([0x7FC00001, 0x7FC00002, 0xFFC00000], "u4"), 1000).view("f4"),
    "thirds": np.resize([1 / 3, 2 / 3, -1 / 3], 1000),
    "words": ak.Array(["a", "", "bc"] * 300),
}
MANY: dict[str, Any] = {
    "integers": np.random.default_rng(1).integers(-(2**31), 2**31, 3000).astype("i4"),
    "floats": np.random.default_rng(1).normal(size=3000).astype("f4"),
    "rare": np.where(np.arange(3000) % 20, 0, np.random.default_rng(1).integers(0, 2**60, 3000)),
    "words": ak.Array([f"word {number}" for number in range(2000)]),
    "flags": np.resize([True, False, False], 1000),
    "few at all": np.resize([1, 2], 20),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("page_values", [1000, 10**6])
def test_few_different_values_are_numbered_by_a_dictionary(
    name: str, page_values: int, tmp_path: Path
) -> None:
    array = column_of(FEW[name])
    options = ParquetOptions(compression="none", page_values=page_values)
    found = write(tmp_path / "ours", [array], options)
    group = found.metadata.row_group(0)
    for number in range(2):
        assert group.column(number).has_dictionary_page
        assert set(group.column(number).encodings) == {"PLAIN", "RLE", "RLE_DICTIONARY"}
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)
    if isinstance(FEW[name], np.ndarray):
        assert ak.from_parquet(tmp_path / "ours").x.layout.data.tobytes() == array.x.layout.data.tobytes()
    write(tmp_path / "plain", [array], replace(options, dictionary=False))
    assert (tmp_path / "ours").stat().st_size < (tmp_path / "plain").stat().st_size
    assert repr(rows_of_duckdb(tmp_path / "ours")) == repr(
        [(row["x"], row["y"]) for row in ak.to_list(array)]
    )
    frame = pl.read_parquet(tmp_path / "ours")
    assert repr(frame["x"].to_list()) == repr(ak.to_list(array.x))


@pytest.mark.parametrize("name", MANY)
def test_many_different_values_are_written_as_they_are(name: str, tmp_path: Path) -> None:
    array = ak.Array({"x": MANY[name]})
    group = write(tmp_path / "ours", [array], ParquetOptions(split_floats=False)).metadata.row_group(0)
    assert not group.column(0).has_dictionary_page
    assert group.column(0).encodings == ("PLAIN", "RLE")
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)


@pytest.mark.parametrize("is_split", [True, False])
def test_floats_are_split_on_demand(is_split: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    array = ak.Array(
        {
            "i": rng.integers(0, 2**60, 1000),
            "f": rng.normal(size=1000),
            "h": rng.normal(size=1000).astype("f2"),
        }
    )
    group = write(tmp_path / "ours", [array], ParquetOptions(split_floats=is_split)).metadata.row_group(0)
    split = ["BYTE_STREAM_SPLIT" in group.column(number).encodings for number in range(3)]
    assert split == [False, is_split, False]
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)


def test_the_default_holds_nothing_that_an_old_reader_refuses(tmp_path: Path) -> None:
    # Spark up to 4.0 has no BYTE_STREAM_SPLIT in its fast reader.
    rng = np.random.default_rng(1)
    columns = {dtype: ak.unflatten(numbers(rng, dtype, 6000), 3) for dtype in NUMBERS}
    group = write(tmp_path / "ours", [ak.Array(columns)]).metadata.row_group(0)
    used = {encoding for number in range(len(columns)) for encoding in group.column(number).encodings}
    assert used <= {"PLAIN", "RLE", "RLE_DICTIONARY"}


@pytest.mark.parametrize("compression", CODECS)
def test_codecs_are_those_asked_for(compression: Compression, tmp_path: Path) -> None:
    array = ak.Array({"x": np.arange(5000)})
    group = write(tmp_path / "ours", [array], ParquetOptions(compression=compression)).metadata.row_group(0)
    named = {"none": "UNCOMPRESSED", "lz4_raw": "LZ4"}.get(compression, compression.upper())
    assert group.column(0).compression == named
    assert (group.total_byte_size > (tmp_path / "ours").stat().st_size) == (compression != "none")
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)


def test_higher_levels_compress_to_less(tmp_path: Path) -> None:
    lines = [f"run {number % 17} of {number % 101} lasted {number**2 % 977} s" for number in range(3000)]
    array = ak.Array({"x": lines})
    for compression in ("zstd", "gzip"):
        sizes = []
        for level in (1, 9):
            write(
                tmp_path / "ours",
                [array],
                ParquetOptions(compression=compression, level=level, dictionary=False),
            )
            sizes.append((tmp_path / "ours").stat().st_size)
            assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)
        assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"compression": "lzo"}, "none of none, snappy, gzip, lz4_raw, zstd"),
        ({"compression": "snappy", "level": 1}, "has no levels"),
        ({"level": 23}, "not within 1 to 22"),
        ({"compression": "gzip", "level": 0}, "not within 1 to 12"),
        ({"page_values": 0}, "at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParquetOptions(**wrong)


def test_bounds_are_marked_as_exact_and_left_out_where_they_would_be_long(tmp_path: Path) -> None:
    array = ak.Array({"x": ["b", "a" * 5000], "y": [1.0, -0.0], "z": [np.nan, np.nan], "w": ["é", "z"]})
    write(tmp_path / "ours", [array])
    data = (tmp_path / "ours").read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    footer = Reader(data[-8 - length : -8]).read_struct()
    columns = footer[4][0][0][1][0]
    found = {
        column[3][0][3][0][0].decode(): {key: value for key, (value, _) in column[3][0][12][0].items()}
        for column in columns
    }
    assert found["x"] == {3: 0}
    assert found["y"] == {3: 0, 5: np.float64(1).tobytes(), 6: np.float64(-0.0).tobytes(), 7: True, 8: True}
    assert found["z"] == {3: 0}
    assert found["w"] == {3: 0, 5: "é".encode(), 6: b"z", 7: True, 8: True}


def test_pages_end_with_rows_and_tell_their_bounds(tmp_path: Path) -> None:
    counts = [2, 0, 7, 1, 1, 0, 5, 30, 0, 0, 1]
    values = np.arange(sum(counts)).astype("f4")
    array = ak.Array({"x": ak.unflatten(values, counts), "y": np.arange(11), "z": [None, 1] * 5 + [None]})
    write(tmp_path / "ours", [array], ParquetOptions(page_values=4))
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)
    with duckdb.connect() as database:
        where = "SELECT count(*) FROM read_parquet(?) WHERE y >= 6 AND z IS NULL"
        assert database.sql(where, params=[str(tmp_path / "ours")]).fetchall() == [(3,)]


def test_small_chunks_are_gathered_and_large_ones_split(tmp_path: Path) -> None:
    array = ak.Array({"x": ak.unflatten(np.arange(3000), 3), "y": np.arange(1000)})
    small = [array[start : start + 100] for start in range(0, 1000, 100)]

    def row_groups(chunks: Sequence[ak.Array], options: ParquetOptions) -> list[int]:
        metadata = write(tmp_path / "ours", chunks, options).metadata
        assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    assert row_groups(small, ParquetOptions()) == [1000]
    assert row_groups(small, ParquetOptions(group_rows=250)) == [300, 300, 300, 100]
    assert row_groups([array], ParquetOptions(group_rows=300)) == [250] * 4
    assert row_groups([array], ParquetOptions(direct_bytes=1, split_bytes=20_000)) == [500, 500]
    assert row_groups([array[:100], array[100:]], ParquetOptions(direct_bytes=20_000)) == [100, 900]


def test_levels_are_made_once_for_columns_that_share_offsets() -> None:
    offsets = ak.index.Index64(np.array([0, 2, 2, 3]))
    contents = [ak.contents.NumpyArray(np.arange(3.0)), text(np.random.default_rng(1), 3)]
    shared = [ak.contents.ListOffsetArray(offsets, content) for content in contents]
    other = ak.contents.ListOffsetArray(ak.index.Index64(np.array([0, 2, 2, 3])), contents[0])
    array = ak.Array(ak.contents.RecordArray([*shared, other], ["a", "b", "c"]))
    columns = shred(array, read_schema(ak.to_arrow_table(array), array.layout.form))
    assert columns[0].levels is columns[1].levels
    assert columns[0].levels is not columns[2].levels


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"x": [[1.0], []], "y": [1, 2]}, "x: a chunk holds var"),
        ({"x": [1.0, None], "y": [1, 2]}, "x: values may be missing"),
        ({"x": [1, 2], "y": [1, 2]}, "x: a chunk holds int64"),
        ({"x": ["a", "b"], "y": [1, 2]}, "x: a chunk holds string"),
        ({"y": [1, 2], "x": [1.0, 2.0]}, "x: a chunk holds"),
        ({"x": [1.0, 2.0]}, "x: a chunk holds"),
    ],
)
def test_chunks_of_another_type_than_the_first_are_defects(
    other: dict[str, Any], message: str, tmp_path: Path
) -> None:
    array = ak.Array({"x": [1.0, 2.0], "y": [1, 2]})
    with pytest.raises(TypeError, match=message):
        write(tmp_path / "ours", [array, ak.Array(other)])


def test_lists_of_one_length_keep_it(tmp_path: Path) -> None:
    array = ak.Array({"x": ak.to_regular(ak.Array([[1, 2], [3, 4]]))})
    for other in ([[1, 2, 3]], [[[1], [2]]]):
        with pytest.raises(TypeError, match=r"x\.list\.element: a chunk holds"):
            write(tmp_path / "ours", [array, ak.Array({"x": ak.to_regular(ak.Array(other))})])
    with pytest.raises(TypeError, match=r"x\.list\.element: a chunk holds var"):
        write(tmp_path / "ours", [array, ak.Array({"x": [[1, 2, 3]]})])


def test_a_row_too_large_for_a_page_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MOST_BYTES", 1000)
    array = ak.Array({"n": [1, 2], "x": ak.unflatten(np.random.default_rng(1).normal(size=300), [100, 200])})
    with pytest.raises(FormatError, match=r"column x\.list\.element: one row takes 1600 bytes"):
        write(tmp_path / "ours", [array], ParquetOptions(page_values=1))


def test_long_texts_side_by_side_are_spread_over_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "TEXT_BYTES", 4000)
    monkeypatch.setattr(pages_module, "MOST_BYTES", 2000)
    array = ak.Array({"x": [str(number) * (300 if 500 <= number < 510 else 1) for number in range(1000)]})
    write(tmp_path / "ours", [array])
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)


def test_rows_of_a_page_are_fewer_where_values_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "TEXT_BYTES", 1000)
    array = ak.Array({"x": [f"{number:0100}" for number in range(100)]})
    found = write(tmp_path / "ours", [array], ParquetOptions(compression="none"))
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)
    assert found.metadata.row_group(0).column(0).total_compressed_size > 100 * 104 + 10 * 200


def test_many_columns_and_row_groups_fit_into_the_footer(tmp_path: Path) -> None:
    array = ak.Array({f"column_{number}": np.arange(16) + number for number in range(16)})
    found = write(tmp_path / "ours", [array], ParquetOptions(group_rows=1))
    assert (found.num_row_groups, found.metadata.num_columns) == (16, 16)
    assert seen(ak.from_parquet(tmp_path / "ours")) == seen(array)


def test_what_another_writer_encoded_is_refused(tmp_path: Path) -> None:
    array = ak.Array({"x": [1, 2]})
    with new_result(tmp_path / "arrow", ResultFormat.ARROW) as other:
        other.begin(bound_output(schema_of(array)), array[:0])
        foreign = other.encode(array)
    with new_result(tmp_path / "parquet", ResultFormat.PARQUET) as writer:
        writer.begin(bound_output(schema_of(array)), array[:0])
        with pytest.raises(TypeError, match="a Parquet file cannot write Table"):
            writer.write(foreign)
