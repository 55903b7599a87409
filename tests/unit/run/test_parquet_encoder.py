"""Our Parquet files compared with those that pyarrow writes, as four readers see them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from array_layouts import NUMBERS, layouts, numbers, tables, text
from servicex_server.errors import FormatError
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of, to_canonical
from servicex_server.run.write.encode import ParquetOptions
from servicex_server.run.write.encode.file import EncodedFile
from servicex_server.run.write.encode.schema import read_schema
from servicex_server.run.write.encode import pages as pages_module
from servicex_server.run.write.encode.options import Compression
from servicex_server.run.write.parquet import ParquetWriter

JAGGED = ak.values_astype(ak.Array([[1.0, 2.0], [], [3.0]]), "float32")
CODECS: tuple[Compression, ...] = ("none", "snappy", "gzip", "lz4_raw", "zstd")


def write(path: Path, chunks: Sequence[ak.Array], options: ParquetOptions | None = None) -> pq.ParquetFile:
    """A file of our encoder; the first chunk tells the types."""
    empty = to_canonical(chunks[0][:0])
    schema = read_schema(ak.to_arrow_table(empty), empty.layout.form)
    file = EncodedFile(
        path, schema, options or ParquetOptions(), details={"by": "us"}, created_by="servicex-server version 1"
    )
    try:
        for chunk in chunks:
            file.write(file.encode(chunk))
        file.finish(empty)
    finally:
        file.abandon()
    return pq.ParquetFile(path)


def write_official(path: Path, chunks: Sequence[ak.Array], **options: Any) -> pq.ParquetFile:
    """The same as the official transformers write it."""
    parts = [ak.to_arrow_table(to_canonical(chunk)) for chunk in chunks]
    with pq.ParquetWriter(path, parts[0].schema, **options) as writer:
        writer.write_table(pa.concat_tables(parts))
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
        split_integers=draw(st.booleans()),
        dictionary=draw(st.booleans()),
        page_index=draw(st.booleans()),
        page_values=draw(st.sampled_from([1, 3, 1000])),
        direct_bytes=draw(st.sampled_from([1, 10**9])),
        group_rows=draw(st.sampled_from([1, 5, 10**9])),
        split_bytes=draw(st.sampled_from([64, 10**9])),
    )


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@given(array=tables(), options=choices(), cut=st.integers(0, 12))
@settings(relaxed, max_examples=150)
def test_awkward_and_pyarrow_see_the_official_file(
    array: ak.Array, options: ParquetOptions, cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with folder(tmp_path_factory) as (ours, theirs):
        chunks = [array[:cut], array[cut:]]
        official = write_official(theirs, [array])
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


@given(array=tables(), options=choices())
@settings(relaxed, max_examples=60)
def test_duckdb_and_polars_see_the_official_file(
    array: ak.Array, options: ParquetOptions, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assume(ak.fields(array))
    with folder(tmp_path_factory) as (ours, theirs):
        write_official(theirs, [array])
        write(ours, [array], options)
        with duckdb.connect() as database:
            database.sql("SET threads = 1")
            one, other = (database.sql("SELECT * FROM read_parquet(?)", params=[str(p)]) for p in (ours, theirs))
            assert one.types == other.types
            assert repr(one.fetchall()) == repr(other.fetchall())
        assert seen_by_polars(ours) == seen_by_polars(theirs)


@given(data=st.data(), seed=st.integers(0, 2**32))
@settings(relaxed, max_examples=100)
def test_statistics_are_those_of_pyarrow(
    data: st.DataObject, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    column = data.draw(layouts(np.random.default_rng(seed), 20, 1))
    array = ak.Array({"x": ak.Array(column)})
    pages = data.draw(st.sampled_from([3, 1000]))
    with folder(tmp_path_factory) as (ours, theirs):
        official = write_official(theirs, [array]).metadata.row_group(0)
        found = write(ours, [array], ParquetOptions(page_values=pages)).metadata.row_group(0)
        for number in range(official.num_columns):
            one, other = found.column(number).statistics, official.column(number).statistics
            assert found.column(number).num_values == official.column(number).num_values
            assert (one.has_min_max, one.null_count) == (other.has_min_max, other.null_count)
            assert repr((one.min, one.max)) == repr((other.min, other.max))
