"""RNTuples as columns: which entries, from which bytes, by how many threads."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import given, settings
from hypothesis import strategies as st

from servicex_server.errors import UnknownName
from servicex_server.run.read.rntuple import RNTupleColumns
from servicex_server.run.read.root import RootFile
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN
from servicex_server.source.protocol import ByteSource

KINDS = Path(__file__).parents[3] / "content" / "rntuple_kinds.root"
N_KINDS = 100
COMPRESSIONS = {
    "none": None,
    "zlib": uproot.ZLIB(1),
    "lz4": uproot.LZ4(1),
    "zstd": uproot.ZSTD(1),
    "lzma": uproot.LZMA(1),
}
DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?")


class CountingSource:
    """A source that notes how many ranges each request asks for."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self.requests: list[int] = []

    @property
    def location(self) -> str:
        return self._source.location

    @property
    def identity(self) -> str:
        return self._source.identity

    @property
    def fingerprint(self) -> str | None:
        return self._source.fingerprint

    @property
    def size_bytes(self) -> int:
        return self._source.size_bytes

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        if wanted:
            self.requests.append(len(wanted))
        return self._source.read_ranges(wanted)

    def close(self) -> None:
        self._source.close()


def open_counting(path: Path) -> tuple[RootFile, CountingSource]:
    source = CountingSource(open_source(str(path), CALLERS_OWN))
    return RootFile(source), source


def columns_of(file: RootFile, name: str) -> RNTupleColumns:
    tree = file.tree(name)
    assert isinstance(tree, RNTupleColumns)
    return tree


@pytest.fixture(scope="module")
def kinds() -> Iterator[tuple[RNTupleColumns, dict[str, ak.Array]]]:
    """Fields of every kind, and uproot's arrays of those that it reads right in part, too."""
    with RootFile(open_source(str(KINDS), CALLERS_OWN)) as file, uproot.open({KINDS: None}) as oracle:
        expected = oracle["kinds"].arrays()
        yield (
            columns_of(file, "kinds"),
            {name: expected[name] for name in expected.fields if name != "either"},
        )


@pytest.fixture(scope="module")
def jets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clusters of 1000 entries."""
    path = tmp_path_factory.mktemp("jets") / "jets.root"
    rng = np.random.default_rng(3)
    with uproot.recreate(path, compression=uproot.ZSTD(1)) as file:
        tree = None
        for _ in range(3):
            counts = rng.poisson(2, 1000)
            jets = ak.zip({"pt": rng.exponential(size=counts.sum()), "n": np.arange(counts.sum())})
            rows = {"x": rng.random(1000), "jets": ak.unflatten(jets, counts)}
            if tree is None:
                tree = file.mkrntuple("Events", rows)
            else:
                tree.extend(rows)
    return path


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_numbers_of_every_type_and_compression_are_as_uproot_reads_them(
    tmp_path: Path, compression: str
) -> None:
    counts = np.array([2, 0, 3, 0, 0, 1, 4, 0, 0, 0] * 20)
    values = np.random.default_rng(5).integers(0, 255, counts.sum())
    rows: dict[str, Any] = {f"flat_{dtype}": values[: len(counts)].astype(dtype) for dtype in DTYPES}
    rows |= {f"jagged_{dtype}": ak.unflatten(values.astype(dtype), counts) for dtype in DTYPES}
    path = tmp_path / "numbers.root"
    with uproot.recreate(path, compression=COMPRESSIONS[compression]) as file:
        file.mkrntuple("Events", rows)
    with RootFile(open_source(str(path), CALLERS_OWN)) as file, uproot.open({path: None}) as oracle:
        tree = columns_of(file, "Events")
        for name, array in tree.read(tree.names(), 0, tree.n_entries).items():
            assert tree.is_fast(name)
            expected = oracle["Events"][name].array()
            assert array.type == expected.type
            assert ak.array_equal(array, expected)
        assert file.bytes_decompressed == tree.n_bytes(tree.names())


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_range_and_choice_of_entries_is_what_a_slice_gives(
    kinds: tuple[RNTupleColumns, dict[str, ak.Array]], data: st.DataObject
) -> None:
    tree, expected = kinds
    start = data.draw(st.integers(0, N_KINDS))
    stop = data.draw(st.integers(start, N_KINDS))
    mask = data.draw(st.none() | st.lists(st.booleans(), min_size=stop - start, max_size=stop - start))
    keep = None if mask is None else np.array(mask, np.bool_)
    fast = [name for name in expected if tree.is_fast(name)]
    names = data.draw(st.lists(st.sampled_from(fast), unique=True, max_size=8))
    for name, array in tree.read(names, start, stop, keep).items():
        wanted = expected[name][start:stop]
        wanted = wanted if keep is None else wanted[keep]
        assert str(array.type) == str(wanted.type)
        assert ak.array_equal(array, wanted)


@pytest.mark.parametrize("name", ["maybe", "truncated", "quantized", "represented_twice", "late"])
def test_what_is_left_to_uproot_can_be_read_in_part_too(
    kinds: tuple[RNTupleColumns, dict[str, ak.Array]], name: str
) -> None:
    tree, expected = kinds
    assert not tree.is_fast(name)
    keep = np.arange(60) % 7 == 2
    assert ak.array_equal(tree.read([name], 30, 90, keep)[name], expected[name][30:90][keep])
    assert ak.array_equal(tree.read([name], 30, 90)[name], expected[name][30:90])
    for empty in (tree.read([name], 7, 7), tree.read([name], 0, 9, np.zeros(9, np.bool_))):
        assert empty[name].type == expected[name][:0].type


def test_what_is_left_to_uproot_is_read_where_something_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "maybes.root"
    maybes = ak.Array([[1.0, None], [], [None, 2.0]] * 1000)
    with uproot.recreate(path, compression=None) as made:
        tree = made.mkrntuple("Events", {"maybes": maybes})
        for _ in range(3):
            tree.extend({"maybes": maybes})
    keep = np.zeros(12_000, np.bool_)
    keep[[6002, 7000]] = True
    with RootFile(open_source(str(path), CALLERS_OWN)) as file:
        fields = columns_of(file, "Events")
        fields.read(["maybes"], 0, 0)
        before = file.bytes_read
        assert fields.read(["maybes"], 0, 12_000, keep)["maybes"].tolist() == [[None, 2.0], [1.0, None][:0]]
        few = file.bytes_read - before
        fields.read(["maybes"], 0, 12_000)
        assert 3 * few < file.bytes_read - before - few


def test_columns_of_one_collection_share_their_offsets(
    kinds: tuple[RNTupleColumns, dict[str, ak.Array]], jets: Path
) -> None:
    tree, _ = kinds
    found = tree.read(["points.x", "points.n", "points", "points_x", "floats"], 0, N_KINDS)
    shared = [found[name].layout.offsets.data for name in ("points.x", "points.n", "points", "points_x")]
    assert all(offsets is shared[0] for offsets in shared)
    assert shared[0].dtype == np.int64
    assert found["floats"].layout.offsets.data is not shared[0]
    with RootFile(open_source(str(jets), CALLERS_OWN)) as file:
        part = columns_of(file, "Events").read(["jets.pt", "jets.n"], 900, 2100)
        assert part["jets.pt"].layout.offsets.data is part["jets.n"].layout.offsets.data
        assert part["jets.pt"].layout.offsets.data[0] == 0


def test_whole_clusters_take_one_request(jets: Path) -> None:
    file, source = open_counting(jets)
    with file:
        tree = columns_of(file, "Events")
        names = ["x", "jets.pt", "jets.n"]
        assert list(tree.boundaries(names)) == [0, 1000, 2000, 3000]
        tree.read(names, 0, 0)
        source.requests.clear()
        tree.read(names, 1000, 3000)
        assert source.requests == [8]
        tree.read(names, 1500, 1600)
        assert source.requests == [8, 2, 2]


def test_pages_without_kept_entries_are_neither_fetched_nor_decompressed(jets: Path) -> None:
    file, source = open_counting(jets)
    with file:
        tree = columns_of(file, "Events")
        names = ["x", "jets.pt"]
        keep = np.zeros(3000, np.bool_)
        assert len(tree.read(names, 0, 3000, keep)["x"]) == 0
        assert file.bytes_decompressed == 0
        keep[1500] = True
        source.requests.clear()
        found = tree.read(names, 0, 3000, keep)
        assert source.requests == [2, 1]
        assert len(found["jets.pt"]) == len(found["x"]) == 1
        assert 0 < file.bytes_decompressed < 0.4 * tree.n_bytes(names)


def test_threads_may_read_at_once(kinds: tuple[RNTupleColumns, dict[str, ak.Array]]) -> None:
    tree, expected = kinds
    names = list(expected)

    def read(start: int) -> bool:
        found = tree.read(names, start, start + 20)
        return all(ak.array_equal(found[name], expected[name][start : start + 20]) for name in names)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, [0, 20, 40, 60, 80, 30, 10, 70]))


def test_a_file_that_is_opened_again_costs_one_request_and_its_pages(tmp_path: Path) -> None:
    path = tmp_path / "kinds.root"
    path.write_bytes(KINDS.read_bytes())
    names = ["points.x", "maybe"]
    file, source = open_counting(path)
    with file:
        expected = file.tree("kinds").read(names, 0, N_KINDS)
        first = len(source.requests)
    file, source = open_counting(path)
    with file:
        tree = columns_of(file, "kinds")
        assert str(tree.type_of("points.x")) == "var * float32"
        assert len(source.requests) == 1 < first
        found = tree.read(names, 0, N_KINDS)
        assert len(source.requests) == 3
        assert all(ak.array_equal(found[name], expected[name]) for name in names)


def test_an_unknown_field_and_impossible_entries_are_refused(jets: Path) -> None:
    with RootFile(open_source(str(jets), CALLERS_OWN)) as file:
        tree = file.tree("Events")
        for use in (tree.type_of, tree.typename_of, lambda name: tree.read([name], 0, 1)):
            with pytest.raises(UnknownName, match=r"no field 'jets\.eta' in tree 'Events'"):
                use("jets.eta")
        for start, stop in ((-1, 2), (0, 3001), (7, 5)):
            with pytest.raises(ValueError, match="of a tree of 3000"):
                tree.read(["x"], start, stop)
        with pytest.raises(ValueError, match=r"keep has \(2,\) values of bool for 3 entries"):
            tree.read(["x"], 0, 3, np.ones(2, np.bool_))


def test_listing_and_types_do_without_uproot(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_ntuple: object) -> None:
        message = "uproot was asked"
        raise AssertionError(message)

    monkeypatch.setattr(uproot.models.RNTuple.Model_ROOT_3a3a_RNTuple, "all_fields", property(refuse))
    monkeypatch.setattr(uproot.models.RNTuple.Model_ROOT_3a3a_RNTuple, "header", property(refuse))
    with RootFile(open_source(str(samples / "pfnano_rntuple.root"), CALLERS_OWN)) as file:
        tree = file.tree("Events")
        assert len(tree.names()) > 2000
        assert str(tree.type_of("Jet_pt")) == "var * float32"
        assert len(tree.read(["Jet_pt", "nJet", "run"], 0, 5)["Jet_pt"]) == 5
