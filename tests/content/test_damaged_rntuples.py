"""Damaged RNTuples: never a crash, wrong numbers or much memory, but an error that names file and field."""

from __future__ import annotations

import random
import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import uproot
import xxhash

from servicex_server.errors import ServicexError, SourceCorrupt
from servicex_server.run.read.rntuple import RNTupleColumns
from servicex_server.run.read.root import RootFile
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN

KINDS = Path(__file__).parent / "rntuple_kinds.root"
N_ENTRIES = 200
BLOCK = 8


@dataclass(frozen=True)
class Toy:
    """A small RNTuple without compression and checksums of pages, and where its envelopes are.

    Attributes:
        data: of the file.
        header, footer, page_list: first byte and size.
        pages: first page of each field's columns.
    """

    data: bytes
    header: tuple[int, int]
    footer: tuple[int, int]
    page_list: tuple[int, int]
    pages: dict[str, list[tuple[int, int, int]]]

    def sealed(self, data: bytearray) -> bytes:
        """The file after a change to its metadata, with checksums that match again."""
        start, size = self.header
        checksum = _digest(data[start : start + size - BLOCK])
        data[start + size - BLOCK : start + size] = checksum
        footer, page_list = self.footer[0], self.page_list[0]
        data[footer + 16 : footer + 24] = checksum
        data[page_list + 8 : page_list + 16] = checksum
        for start, size in (self.footer, self.page_list):
            data[start + size - BLOCK : start + size] = _digest(data[start : start + size - BLOCK])
        return bytes(data)


def _digest(data: bytes | bytearray) -> bytes:
    return xxhash.xxh3_64_intdigest(bytes(data)).to_bytes(BLOCK, "little")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    path = tmp_path_factory.mktemp("toy") / "toy.root"
    counts = np.array([2, 0, 3, 1] * (N_ENTRIES // 4))
    numbers = np.arange(counts.sum())
    rows = {
        "x": np.arange(N_ENTRIES, dtype="f8"),
        "jet": ak.unflatten(ak.zip({"pt": numbers / 2, "n": numbers}), counts),
        "cov": ak.to_regular(np.ones((N_ENTRIES, 3))),
        "text": ["one", "two"] * (N_ENTRIES // 2),
        "maybe": [[1.0, None], [2.0]] * (N_ENTRIES // 2),
    }
    with uproot.recreate(path, compression=None) as file:
        file.mkrntuple("Events", rows)
    with uproot.open({path: None}) as file:
        ntuple = file["Events"]
        page_list = ntuple.footer.cluster_group_records[0].page_list_link.locator
        lists = ntuple.page_link_list[0]
        pages: dict[str, list[tuple[int, int, int]]] = {}
        for field in ntuple.all_fields:
            for record in ntuple.column_records:
                if record.field_id == field.field_id:
                    page = lists[record.idx].pages[0]
                    place = (page.num_elements, page.locator.num_bytes, page.locator.offset)
                    pages.setdefault(field.path or f"{field.parent.path}[]", []).append(place)
        return Toy(
            path.read_bytes(),
            (ntuple.member("fSeekHeader"), ntuple.member("fNBytesHeader")),
            (ntuple.member("fSeekFooter"), ntuple.member("fNBytesFooter")),
            (page_list.offset, page_list.num_bytes),
            pages,
        )


def read_fast(path: Path, tree_name: str, part: slice = slice(None)) -> dict[str, ak.Array]:
    """A part of the fields that are read without uproot."""
    with RootFile(open_source(str(path), CALLERS_OWN)) as file:
        tree = file.tree(tree_name)
        assert isinstance(tree, RNTupleColumns)
        return tree.read([name for name in tree.names() if tree.is_fast(name)][part], 0, tree.n_entries)


def outcome(path: Path, tree_name: str, expected: dict[str, ak.Array], part: slice = slice(None)) -> str:
    """`right`, `wrong`, or the kind of error; any other error than ours fails the test."""
    try:
        found = read_fast(path, tree_name, part)
    except ServicexError as error:
        return type(error).__name__ if str(path) in error.message else f"nameless: {error.message}"
    wanted = [*expected][part]
    is_right = [*found] == wanted and all(ak.array_equal(found[name], expected[name]) for name in wanted)
    return "right" if is_right else "wrong"


def mutate(data: bytes, first: int, last: int, chance: random.Random) -> bytearray:
    """The data with one to eight bytes of `[first, last)` changed."""
    changed = bytearray(data)
    position = chance.randrange(first, last)
    for offset in range(chance.choice([1, 1, 4, 8])):
        if position + offset < last:
            changed[position + offset] = chance.choice([0, 255, chance.randrange(256)])
    return changed


@pytest.mark.parametrize("seeds", [range(40), pytest.param(range(40, 1000), marks=pytest.mark.long)])
def test_damage_is_found_and_never_gives_other_numbers(tmp_path: Path, seeds: range) -> None:
    data = KINDS.read_bytes()
    expected = read_fast(KINDS, "kinds")
    path = tmp_path / "damaged.root"
    kinds: Counter[str] = Counter()
    for seed in seeds:
        path.write_bytes(mutate(data, 100, len(data), random.Random(seed)))
        kinds[outcome(path, "kinds", expected, slice(seed % 5, None, 5))] += 1
    assert kinds["SourceCorrupt"] > len(seeds) // 5
    assert kinds["right"] > 0
    assert set(kinds) <= {"right", "SourceCorrupt", "UnknownName"}


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.long)])
def test_damage_behind_matching_checksums_is_an_error_or_some_numbers(
    toy: Toy, tmp_path: Path, seeds: range
) -> None:
    path = tmp_path / "damaged.root"
    path.write_bytes(toy.data)
    expected = read_fast(path, "Events")
    kinds: Counter[str] = Counter()
    for seed in seeds:
        chance = random.Random(seed)
        start, size = chance.choice([toy.header, toy.footer, toy.page_list, toy.page_list])
        path.write_bytes(toy.sealed(mutate(toy.data, start, start + size, chance)))
        kinds[outcome(path, "Events", expected)] += 1
    assert kinds["SourceCorrupt"] > len(seeds) // 3
    assert set(kinds) <= {"right", "wrong", "SourceCorrupt", "UnknownName"}


def change_page(toy: Toy, name: str, change: Callable[[int, int, int], tuple[int, int, int]]) -> bytes:
    """The file with the description of a page changed."""
    page = toy.pages[name][0]
    return change_metadata(toy, struct.pack("<iiQ", *page), struct.pack("<iiQ", *change(*page)))


def change_metadata(toy: Toy, old: bytes, new: bytes) -> bytes:
    """The file with the one `old` in the page list replaced."""
    data = bytearray(toy.data)
    start, size = toy.page_list
    assert data.count(old, start, start + size) == 1
    position = data.index(old, start)
    data[position : position + len(old)] = new
    return toy.sealed(data)


def change_offsets(toy: Toy, name: str, position: int, value: int) -> bytes:
    """The file with another end of a list."""
    data = bytearray(toy.data)
    struct.pack_into("<q", data, toy.pages[name][0][2] + 8 * position, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda toy: change_page(toy, "x", lambda _n, size, offset: (2**31 - 1, size, offset)),
            "field 'x' of tree 'Events': 2147483647 elements, for 200 entries with 1 each",
        ),
        (
            lambda toy: change_page(toy, "cov[]", lambda _n, size, offset: (599, size, offset)),
            "field 'cov' of tree 'Events': 599 elements, for 200 entries with 3 each",
        ),
        (
            lambda toy: change_page(toy, "x", lambda n, size, offset: (n, size, 2**40)),
            "field 'x' of tree 'Events': a page ends at byte",
        ),
        (
            lambda toy: change_page(toy, "x", lambda n, size, offset: (n, -(9 << 24), offset)),
            "field 'x' of tree 'Events': bytes in a kind of place that is not known here",
        ),
        (
            lambda toy: change_page(toy, "x", lambda n, size, offset: (n, size + 1, offset)),
            "field 'x' of tree 'Events': a page of 1601 bytes where 1600 are due",
        ),
        (
            lambda toy: change_page(toy, "x", lambda n, size, offset: (n, size - 1, offset)),
            "field 'x' of tree 'Events': the compressed block",
        ),
        (
            lambda toy: change_page(toy, "x", lambda n, size, offset: (-n, size, offset)),
            "field 'x' of tree 'Events': the checksum of the page at byte",
        ),
        (
            lambda toy: change_page(toy, "jet.pt", lambda _n, size, offset: (2**31 - 1, size, offset)),
            "field 'jet.*' of tree 'Events': .* elements, for .* items with 1 each",
        ),
        (
            lambda toy: change_offsets(toy, "jet", 3, -1),
            "field 'jet.*' of tree 'Events': a list that ends before it begins",
        ),
        (
            lambda toy: change_offsets(toy, "jet", N_ENTRIES - 1, 2**62),
            "field 'jet.*' of tree 'Events': its lists do not end where the items of a cluster end",
        ),
        (
            lambda toy: change_offsets(toy, "text", 0, 5000),
            "field 'text' of tree 'Events': a list that ends before it begins",
        ),
        (
            lambda toy: change_metadata(toy, struct.pack("<QQ", 0, N_ENTRIES), struct.pack("<QQ", 0, 2**55)),
            "tree 'Events': it claims to have 36028797018963968 entries",
        ),
        (
            lambda toy: change_metadata(
                toy, struct.pack("<QQ", 0, N_ENTRIES), struct.pack("<QQ", 7, N_ENTRIES)
            ),
            "tree 'Events': cluster 0 begins at entry 7, not at 0",
        ),
    ],
)
def test_what_does_not_fit_together_is_named(
    toy: Toy, tmp_path: Path, damage: Callable[[Toy], bytes], message: str
) -> None:
    path = tmp_path / "crafted.root"
    path.write_bytes(damage(toy))
    with pytest.raises(SourceCorrupt, match=f"^{re.escape(str(path))}: cannot read {message}"):
        read_fast(path, "Events")


def test_sizes_that_would_fill_the_memory_are_a_trap(toy: Toy, tmp_path: Path) -> None:
    path = tmp_path / "trap.root"
    huge = 2**31 - 1
    more = Toy(
        change_metadata(toy, struct.pack("<QQ", 0, N_ENTRIES), struct.pack("<QQ", 0, huge)),
        toy.header,
        toy.footer,
        toy.page_list,
        toy.pages,
    )
    path.write_bytes(change_page(more, "x", lambda _n, size, offset: (huge, size, offset)))
    with RootFile(open_source(str(path), CALLERS_OWN)) as file:
        tree = file.tree("Events")
        assert tree.n_entries == huge
        with pytest.raises(SourceCorrupt, match="'Events': pages claim to hold 17179869176 bytes"):
            tree.read(["x"], 0, huge)


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 1000), marks=pytest.mark.long)])
def test_lists_that_uproot_reads_do_not_lead_out_of_their_content(
    toy: Toy, tmp_path: Path, seeds: range
) -> None:
    path = tmp_path / "damaged.root"
    kinds: Counter[str] = Counter()
    for seed in seeds:
        chance = random.Random(seed)
        value = chance.choice([-1, 0, 1, 2**31, 2**62, -(2**63), chance.randrange(1000)])
        path.write_bytes(change_offsets(toy, "maybe", chance.randrange(N_ENTRIES), value))
        with RootFile(open_source(str(path), CALLERS_OWN)) as file:
            tree = file.tree("Events")
            assert not tree.is_fast("maybe")
            try:
                array = tree.read(["maybe"], 0, N_ENTRIES)["maybe"]
            except SourceCorrupt as error:
                kinds["SourceCorrupt" if "field 'maybe' of" in error.message else error.message] += 1
            else:
                kinds["numbers"] += 1
                assert len(ak.flatten(array)) <= 2 * N_ENTRIES
                ak.to_list(array)
    assert kinds["SourceCorrupt"] > len(seeds) // 3
    assert set(kinds) <= {"SourceCorrupt", "numbers"}
