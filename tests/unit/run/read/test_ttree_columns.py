"""Trees written by uproot, read without it: all types, shapes and codecs, any rows of any columns."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from root_bytes import MemorySource
from servicex_server.errors import SourceCorrupt, UnknownName
from servicex_server.run.read.root import RootFile
from servicex_server.run.read.ttree import TTreeColumns

DTYPES = ("?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
CODECS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
    "lzma": uproot.LZMA(1),
}
BATCHES = (7, 1, 20, 12)
N_ENTRIES = sum(BATCHES)

Trees = Callable[[str], tuple[MemorySource, ak.Array]]


def batch(rng: np.random.Generator, n_entries: int) -> dict[str, ak.Array]:
    columns = {}
    counts = rng.poisson(2, n_entries)
    for dtype in DTYPES:
        values = rng.integers(0, 2 if dtype == "?" else 100, 10 * n_entries + int(counts.sum()))
        columns[f"flat_{dtype}"] = values[:n_entries].astype(dtype)
        columns[f"fixed_{dtype}"] = values[: 3 * n_entries].astype(dtype).reshape(-1, 3)
        columns[f"matrix_{dtype}"] = values[: 6 * n_entries].astype(dtype).reshape(-1, 2, 3)
        columns[f"own_{dtype}"] = ak.unflatten(values[: counts.sum()].astype(dtype), counts)
    columns["other"] = ak.unflatten(
        np.arange(n_entries), rng.permutation(np.arange(n_entries) == 0) * n_entries
    )
    columns["jet"] = ak.zip({d: ak.unflatten(values[: counts.sum()].astype(d), counts) for d in DTYPES})
    return columns


def write(path: Path, compression: object, batches: tuple[int, ...] = BATCHES) -> None:
    rng = np.random.default_rng(7)
    with uproot.recreate(path, compression=compression) as file:
        made = [batch(rng, size) for size in batches]
        types = {
            name: ak.type(values).content
            if isinstance(values, ak.Array)
            else np.dtype((values.dtype, values.shape[1:]))
            for name, values in batch(rng, 50).items()
        }
        file.mktree("Events", types)
        for columns in made:
            file["Events"].extend(columns)


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    """The bytes of a file in the given compression, and all its columns as uproot reads them."""
    folder = tmp_path_factory.mktemp("trees")
    found: dict[str, tuple[MemorySource, ak.Array]] = {}

    def get(codec: str) -> tuple[MemorySource, ak.Array]:
        if codec not in found:
            path = folder / f"{codec}.root"
            write(path, CODECS[codec])
            with uproot.open({path: "Events"}) as tree:
                found[codec] = MemorySource(path.read_bytes()), tree.arrays()
        return found[codec]

    return get


@pytest.fixture(scope="module")
def opened(trees: Trees) -> Callable[[str], TTreeColumns]:
    """The trees, opened once."""
    return functools.cache(lambda codec: open_tree(trees(codec)[0]))


def same(got: ak.Array, expected: ak.Array) -> bool:
    return bool(got.type == expected.type and ak.array_equal(got, expected, equal_nan=True))


def open_tree(source: MemorySource, name: str = "Events") -> TTreeColumns:
    tree = RootFile(source).tree(name)
    assert isinstance(tree, TTreeColumns)
    return tree


@pytest.mark.parametrize("codec", CODECS)
def test_all_types_and_shapes_are_read_without_uproot(trees: Trees, codec: str) -> None:
    source, expected = trees(codec)
    tree = open_tree(source)
    assert set(tree.names()) == set(expected.fields)
    assert all(map(tree.is_fast, tree.names()))
    for name, array in tree.read(tree.names(), 0, N_ENTRIES).items():
        assert same(array, expected[name]), name


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_rows_of_any_columns(
    trees: Trees, opened: Callable[[str], TTreeColumns], codec: str, data: st.DataObject
) -> None:
    _, expected = trees(codec)
    columns = data.draw(st.lists(st.sampled_from(expected.fields), min_size=1, max_size=4, unique=True))
    start = data.draw(st.integers(0, N_ENTRIES))
    stop = data.draw(st.integers(start, N_ENTRIES))
    keep = None
    if data.draw(st.booleans()):
        sparse = data.draw(st.sampled_from([1, 2, 10]))
        keep = np.array([data.draw(st.integers(0, sparse)) == sparse for _ in range(stop - start)], bool)
    rows = expected[start:stop] if keep is None else expected[start:stop][keep]
    tree = TTreeColumns("Events", opened(codec)._metadata, skip_offsets=data.draw(st.booleans()))
    got = tree.read(columns, start, stop, keep)
    assert list(got) == columns
    for name, array in got.items():
        assert same(array, rows[name]), name


def test_columns_of_a_collection_share_one_object_of_offsets(trees: Trees) -> None:
    tree = open_tree(trees("zstd")[0])
    for keep in (None, np.arange(30) % 3 == 0):
        got = tree.read(["jet_f4", "njet", "jet_?", "own_i4", "other"], 5, 35, keep)
        offsets = got["jet_f4"].layout.offsets.data
        assert offsets is got["jet_?"].layout.offsets.data
        assert offsets.dtype == np.int64
        assert offsets[0] == 0
        # Counted by a branch of its own, and equal all the same.
        assert offsets is got["own_i4"].layout.offsets.data
        assert offsets is not got["other"].layout.offsets.data
        assert got["njet"].to_list() == np.diff(offsets).tolist()


def test_layouts_are_plain(trees: Trees) -> None:
    tree = open_tree(trees("zlib")[0])
    got = tree.read(["flat_?", "matrix_f8", "jet_i2"], 1, 39)
    assert isinstance(got["flat_?"].layout, ak.contents.NumpyArray)
    assert isinstance(got["matrix_f8"].layout.content.content, ak.contents.NumpyArray)
    assert isinstance(got["jet_i2"].layout.content, ak.contents.NumpyArray)
    assert got["jet_i2"].layout.content.data.dtype.isnative
    assert got["flat_?"].layout.data.dtype == np.bool_


def test_baskets_without_a_kept_entry_are_not_read(trees: Trees) -> None:
    source, _ = trees("zstd")
    file = RootFile(MemorySource(source.data))
    tree = file.tree("Events")
    assert isinstance(tree, TTreeColumns)
    tree.read(["jet_f4"], 0, 0)
    keep = np.zeros(N_ENTRIES, bool)
    keep[[3, 27]] = True  # in the first basket and the third
    before, asked = file.bytes_read, len(file._bytes.asked)  # type: ignore[attr-defined]  # of MemorySource
    tree.read(["flat_f8", "jet_f4"], 0, N_ENTRIES, keep)
    assert len(file._bytes.asked) - asked == 2 * 3  # type: ignore[attr-defined]  # flat_f8, njet, jet_f4
    few = file.bytes_read - before, file.bytes_decompressed
    tree.read(["flat_f8", "jet_f4"], 0, N_ENTRIES)
    assert file.bytes_read - before - few[0] > few[0]
    assert file.bytes_decompressed - few[1] > few[1] > 0


def test_a_mask_must_fit_the_range(trees: Trees) -> None:
    tree = open_tree(trees("zstd")[0])
    with pytest.raises(ValueError, match="keep has"):
        tree.read(["flat_f8"], 0, 10, np.ones(9, bool))
    with pytest.raises(UnknownName, match="no branch 'nothing'"):
        tree.read(["nothing"], 0, 10)


def test_entries_beyond_the_end_are_an_error(trees: Trees) -> None:
    tree = open_tree(trees("zstd")[0])
    for name in ("flat_f4", "jet_f4"):
        with pytest.raises(SourceCorrupt, match=f"branch '{name}'.*fewer|branch '{name}'.*only"):
            tree.read([name], 0, N_ENTRIES + 1)


def test_many_threads_read_one_file(trees: Trees) -> None:
    source, expected = trees("zstd")
    tree = open_tree(source)
    columns = ["jet_f4", "njet", "flat_u8", "own_i2", "matrix_?"]
    barrier = threading.Barrier(8, timeout=60)

    def read(number: int) -> bool:
        barrier.wait()
        start, stop = number, N_ENTRIES - number
        got = tree.read(columns, start, stop)
        return all(same(got[name], expected[start:stop][name]) for name in columns)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(8)))


def test_a_tree_without_entries_has_typed_columns(tmp_path: Path) -> None:
    path = tmp_path / "empty.root"
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "f4", "jet": "var * int16", "fixed": np.dtype(("f8", (2,)))})
    tree = open_tree(MemorySource(path.read_bytes()))
    got = tree.read(["x", "jet", "fixed"], 0, 0)
    assert [str(array.type) for array in got.values()] == [
        "0 * float32",
        "0 * var * int16",
        "0 * 2 * float64",
    ]


def test_baskets_of_several_blocks(tmp_path: Path) -> None:
    path = tmp_path / "large.root"
    values = np.arange(2_200_000, dtype="f8")
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        file.mktree("Events", {"x": "f8"})
        file["Events"].extend({"x": values})
    tree = open_tree(MemorySource(path.read_bytes()))
    assert np.array_equal(tree.read(["x"], 0, len(values))["x"], values)
    assert tree.read(["x"], 2_199_998, 2_200_000)["x"].to_list() == [2_199_998, 2_199_999]


def test_chunks_end_where_all_columns_end_a_basket(trees: Trees) -> None:
    tree = open_tree(trees("zlib")[0])
    assert list(tree.boundaries(["jet_f4", "flat_i1"])) == [0, 7, 8, 28, 40]
