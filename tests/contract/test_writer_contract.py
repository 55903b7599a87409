"""What every writer of results promises, asked of each format."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pytest
import uproot

from servicex_server.errors import FormatError, ResourceExhausted
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.open import new_result
from servicex_server.run.write.protocol import Writer

N_ROWS = 400


def table(seed: int = 1, n_rows: int = N_ROWS) -> ak.Array:
    """Two jagged columns that share their offsets, and what else every format holds."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(1.5, n_rows)
    offsets = ak.index.Index64(np.cumsum([0, *counts]))
    floats = rng.normal(size=counts.sum()).astype("f4")
    floats[::7] = math.nan
    lists = {
        name: ak.contents.ListOffsetArray(offsets, ak.contents.NumpyArray(content))
        for name, content in (("pt", floats), ("charge", rng.integers(-1, 2, counts.sum(), dtype="i4")))
    }
    flat = {
        "event": ak.contents.NumpyArray(rng.integers(0, 2**63, n_rows, dtype="u8")),
        "flag": ak.contents.NumpyArray(rng.integers(0, 2, n_rows).astype(np.bool_)),
    }
    columns = flat | lists
    return ak.Array(ak.contents.RecordArray(list(columns.values()), list(columns), n_rows))


def output_of(array: ak.Array, tree: str = "servicex") -> BoundOutput:
    nothing: Expr = None  # type: ignore[assignment]  # never evaluated here
    return BoundOutput("in", tree, (), (), nothing, schema_of(array))


def read_root(path: Path) -> ak.Array:
    with uproot.open({path: None}) as file:
        return file["servicex"].arrays(["event", "flag", "pt", "charge"])


def read_hdf5(path: Path) -> ak.Array:
    with h5py.File(path) as file:
        tree = file["servicex"]
        lists = {
            name: ak.unflatten(tree[name]["content"][:], np.diff(tree[name]["offsets"][:]))
            for name in ("pt", "charge")
        }
        return ak.zip({"event": tree["event"][:], "flag": tree["flag"][:], **lists}, depth_limit=1)


def read_arrow(path: Path) -> ak.Array:
    with pa.memory_map(str(path)) as source:
        return ak.from_arrow(pa.ipc.open_file(source).read_all())


READERS: dict[str, Callable[[Path], ak.Array]] = {
    "parquet": ak.from_parquet,
    "root-file": read_root,
    "root-rntuple": read_root,
    "arrow": read_arrow,
    "hdf5": read_hdf5,
}


@pytest.fixture(params=list(ResultFormat))
def result_format(request: pytest.FixtureRequest) -> ResultFormat:
    return ResultFormat(request.param)


@pytest.fixture
def path(tmp_path: Path, result_format: ResultFormat) -> Path:
    return tmp_path / f"result{result_format.extension}"


def check(path: Path, result_format: ResultFormat, expected: ak.Array) -> None:
    found = READERS[result_format.value](path)
    assert len(found) == len(expected)
    for name in expected.fields:
        assert str(found[name].type.content) == str(expected[name].type.content)
        assert ak.array_equal(found[name], expected[name], equal_nan=True), name


def append(writer: Writer, rows: ak.Array) -> None:
    writer.write(writer.encode(rows))


def test_rows_come_back_in_the_order_of_writing(path: Path, result_format: ResultFormat) -> None:
    array = table()
    with new_result(path, result_format) as writer:
        writer.begin(output_of(array), array[:0])
        for start, stop in ((0, 0), (0, 1), (1, 300), (300, 300), (300, 400)):
            append(writer, array[start:stop])
    check(path, result_format, array)


def test_no_rows_keep_columns_and_types(path: Path, result_format: ResultFormat) -> None:
    array = table()
    with new_result(path, result_format) as writer:
        writer.begin(output_of(array), array[:0])
        append(writer, array[:0])
    check(path, result_format, array[:0])


def test_several_threads_may_encode_at_once(path: Path, result_format: ResultFormat) -> None:
    chunks = [table(seed, 5000) for seed in range(8)]
    with new_result(path, result_format) as writer:
        writer.begin(output_of(chunks[0]), chunks[0][:0])
        with ThreadPoolExecutor(4) as pool:
            for encoded in pool.map(writer.encode, chunks):
                writer.write(encoded)
    check(path, result_format, ak.concatenate(chunks))


def test_encoding_writes_nothing(path: Path, result_format: ResultFormat) -> None:
    one, other, unused = (table(seed) for seed in range(3))
    with new_result(path, result_format) as writer:
        writer.begin(output_of(one), one[:0])
        late, early, _ = (writer.encode(rows) for rows in (other, one, unused))
        writer.write(early)
        writer.write(late)
    check(path, result_format, ak.concatenate([one, other]))


def test_what_is_encoded_tells_its_size(path: Path, result_format: ResultFormat) -> None:
    array = table()
    with new_result(path, result_format) as writer:
        writer.begin(output_of(array), array[:0])
        encoded = writer.encode(array)
        assert encoded.n_rows == N_ROWS
        assert 0 < encoded.n_bytes < 4 * array.nbytes
        assert writer.encode(array[:0]).n_rows == 0
        writer.write(encoded)


def test_a_table_can_be_begun_again(path: Path, result_format: ResultFormat) -> None:
    one, other = table(1), table(2)
    with new_result(path, result_format) as writer:
        for rows in (one, other):
            writer.begin(output_of(rows), rows[:0])
            append(writer, rows)
    check(path, result_format, ak.concatenate([one, other]))


def test_a_table_cannot_be_begun_again_with_other_types(path: Path, result_format: ResultFormat) -> None:
    one, other = table(), ak.Array({"event": [[1]]})
    with new_result(path, result_format) as writer:
        writer.begin(output_of(one), one[:0])
        append(writer, one)
        with pytest.raises(FormatError):
            writer.begin(output_of(other), other[:0])
        append(writer, one)
    check(path, result_format, ak.concatenate([one, one]))


def test_a_file_without_tables_is_complete(path: Path, result_format: ResultFormat) -> None:
    with new_result(path, result_format):
        assert not path.exists()
    assert path.stat().st_size > 0


@pytest.mark.parametrize("error", [KeyError("a defect"), OSError(28, "No space left on device")])
@pytest.mark.parametrize("progress", ["opened", "begun", "written"])
def test_a_failure_leaves_no_file(
    path: Path, result_format: ResultFormat, error: Exception, progress: str
) -> None:
    array = table()

    def fail() -> None:
        with new_result(path, result_format) as writer:
            if progress != "opened":
                writer.begin(output_of(array), array[:0])
            if progress == "written":
                append(writer, array)
            raise error

    with pytest.raises(ResourceExhausted if isinstance(error, OSError) else KeyError):
        fail()
    assert list(path.parent.iterdir()) == []
