"""Every codec of every format: what it holds comes back, and no space leaves a clear error."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

from nested_arrays import bound_output
from servicex_server.errors import ResourceExhausted
from servicex_server.model.compression import CODECS, Compression, parse_compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.open import new_result

CHOICES = [
    (kind, Compression(codec, level))
    for kind, codecs in CODECS.items()
    for codec, levels in codecs.items()
    for level in (None, *(levels or ()))
]
COUNTS = np.arange(20_000) % 4
ARRAY = ak.Array(
    {
        "n": COUNTS,
        "x": ak.unflatten(np.arange(COUNTS.sum(), dtype="f4"), COUNTS),
    }
)


def write(path: Path, kind: ResultFormat, compression: Compression, array: ak.Array = ARRAY) -> None:
    with new_result(path, kind, compression) as writer:
        writer.begin(bound_output(schema_of(array)), array[:0])
        writer.write(writer.encode(array))


def read(path: Path, kind: ResultFormat) -> ak.Array:
    match kind:
        case ResultFormat.PARQUET:
            return ak.from_parquet(path)
        case ResultFormat.ARROW:
            return ak.from_arrow(pa.ipc.open_file(path).read_all())
        case ResultFormat.HDF5:
            with h5py.File(path) as file:
                table = file["servicex"]
                x = ak.unflatten(table["x/content"][:], np.diff(table["x/offsets"][:]))
                return ak.zip({"n": table["n"][:], "x": x}, depth_limit=1)
    with uproot.open({path: "servicex"}) as tree:
        return tree.arrays(["n", "x"])


@pytest.mark.parametrize(
    ("kind", "compression"), CHOICES, ids=[f"{kind.value}-{choice}" for kind, choice in CHOICES]
)
def test_what_is_compressed_comes_back(kind: ResultFormat, compression: Compression, tmp_path: Path) -> None:
    write(tmp_path / "out", kind, compression)
    found = read(tmp_path / "out", kind)
    assert ak.array_equal(found.n, ARRAY.n)
    assert ak.array_equal(found.x, ARRAY.x)
    size = (tmp_path / "out").stat().st_size
    if compression.codec == "none":
        assert size > ARRAY.x.layout.content.nbytes
    else:
        assert size < ARRAY.nbytes


@pytest.mark.parametrize("text", ["zstd:1", "zstd:1+split", "lz4+split", "gzip:2+split"])
def test_floats_are_split_if_that_is_asked_for(text: str, tmp_path: Path) -> None:
    array = ak.Array({"x": np.random.default_rng(3).normal(size=100_000)})
    write(tmp_path / "out", ResultFormat.PARQUET, parse_compression(text, ResultFormat.PARQUET), array)
    column = pq.ParquetFile(tmp_path / "out").metadata.row_group(0).column(0)
    assert ("BYTE_STREAM_SPLIT" in column.encodings) is text.endswith("+split")
    assert ak.array_equal(ak.from_parquet(tmp_path / "out"), array)


def test_the_codec_is_the_one_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "parquet", ResultFormat.PARQUET, Compression("lz4"))
    assert pq.ParquetFile(tmp_path / "parquet").metadata.row_group(0).column(0).compression == "LZ4"
    write(tmp_path / "root", ResultFormat.ROOT_FILE, Compression("lzma", 5))
    with uproot.open(tmp_path / "root") as file:
        assert file.file.compression == uproot.LZMA(5)
    write(tmp_path / "h5", ResultFormat.HDF5, Compression("gzip", 7))
    with h5py.File(tmp_path / "h5") as file:
        assert file["servicex/n"].compression_opts == 7


@pytest.mark.parametrize("kind", [ResultFormat.ARROW, ResultFormat.HDF5])
def test_a_file_says_where_it_comes_from(kind: ResultFormat, tmp_path: Path) -> None:
    origin = {"request": "r1", "file": "žluť.root"}
    with new_result(tmp_path / "out", kind, provenance=origin) as writer:
        writer.begin(bound_output(schema_of(ARRAY)), ARRAY[:0])
        writer.write(writer.encode(ARRAY))
    if kind is ResultFormat.ARROW:
        text = pa.ipc.open_file(tmp_path / "out").schema.metadata[b"servicex.provenance"]
    else:
        with h5py.File(tmp_path / "out") as file:
            text = file.attrs["provenance"]
    assert json.loads(text) == origin
    assert ak.array_equal(read(tmp_path / "out", kind).x, ARRAY.x)


@contextmanager
def little_space(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", [ResultFormat.ARROW, ResultFormat.HDF5])
@pytest.mark.parametrize("size", [0, 100, 5_000, 300_000])
def test_a_full_disk_is_told_and_leaves_nothing(kind: ResultFormat, size: int, tmp_path: Path) -> None:
    noise = ak.Array({"x": np.random.default_rng(1).normal(size=100_000)})
    with pytest.raises(ResourceExhausted, match="no space is left"), little_space(size):
        write(tmp_path / "out", kind, Compression("none"), noise)
    assert list(tmp_path.iterdir()) == []
