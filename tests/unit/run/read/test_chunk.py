"""Baskets made by hand, with what uproot does not write: vectors, odd keys, counts that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from root_bytes import CODECS, basket_bytes, lists_of, vectors
from servicex_server.run.read.basket import embedded_basket
from servicex_server.run.read.branch import BasketTable, FastBranch
from servicex_server.run.read.decode import Chunk
from servicex_server.run.read.decompress import UnknownCodec
from servicex_server.run.read.rows import Rows

Lists = Sequence[npt.NDArray[Any]]
SIZES = (5, 0, 3, 8)
EDGES = np.array([0, 5, 5, 8, 16])


class File:
    """Baskets one after the other."""

    def __init__(self) -> None:
        self.data = b""

    def branch(self, name: str, baskets: Sequence[bytes], **layout: Any) -> FastBranch:
        positions = []
        for basket in baskets:
            positions.append(len(self.data))
            self.data += basket
        sizes = [len(basket) for basket in baskets]
        table = BasketTable(EDGES, np.array(positions, np.int64), np.array(sizes, np.int64))
        stored = np.dtype(layout.pop("stored", ">f4"))
        plain: dict[str, Any] = {"shape": (), "is_jagged": False, "header_bytes": 0, "counter": None}
        return FastBranch(
            name=name, stored=stored, native=stored.newbyteorder("="), baskets=table, **(plain | layout)
        )

    def read(self, branches: Sequence[FastBranch], rows: Rows) -> list[ak.Array]:
        chunk = Chunk(rows)
        for branch in branches:
            chunk.add(branch)
        chunk.fill([self.data[start:stop] for start, stop in chunk.ranges()])
        return [chunk.column(branch) for branch in branches]


def batches(lists: Lists) -> list[Lists]:
    return [lists[start : start + size] for start, size in zip(EDGES, SIZES, strict=False)]


def vector_branch(file: File, lists: Lists, codec: str | None, stored: str = ">f4") -> FastBranch:
    baskets = []
    for part in batches(lists):
        content, starts = vectors(part, stored)
        baskets.append(basket_bytes(content, len(part), starts=starts, codec=codec))
    return file.branch("v", baskets, stored=stored, is_jagged=True, header_bytes=10)


def counted_branch(file: File, lists: Lists, name: str, counter: FastBranch) -> FastBranch:
    baskets = [
        basket_bytes(b"".join(values.astype(">f4").tobytes() for values in part), len(part), is_far=True)
        for part in batches(lists)
    ]
    return file.branch(name, baskets, is_jagged=True, counter=counter)


def counter_branch(file: File, counts: Sequence[int], stored: str = ">i4") -> FastBranch:
    values = np.array(counts, stored)
    baskets = [
        basket_bytes(values[start : start + size].tobytes(), size)
        for start, size in zip(EDGES, SIZES, strict=False)
    ]
    return file.branch("n", baskets, stored=stored)


def to_lists(lists: Lists) -> list[list[float]]:
    return [values.tolist() for values in lists]


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("stored", [">f4", ">i8", ">u2", "i1", "?"])
@settings(max_examples=20, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_vectors(codec: str | None, stored: str, data: st.DataObject, seed: int) -> None:
    file = File()
    lists = lists_of(np.random.default_rng(seed), 16, stored)
    branch = vector_branch(file, lists, codec, stored)
    start = data.draw(st.integers(0, 15))
    stop = data.draw(st.integers(start + 1, 16))
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=stop - start, max_size=stop - start)))
    keep[data.draw(st.integers(0, stop - start - 1))] = True
    (got,) = file.read([branch], Rows(start, stop, keep))
    assert got.to_list() == [lists[start + number].tolist() for number in np.flatnonzero(keep)]
    (got,) = file.read([branch], Rows(start, stop))
    assert got.to_list() == to_lists(lists[start:stop])


def test_vectors_of_equal_lengths_share_one_object_of_offsets() -> None:
    file = File()
    lists = lists_of(np.random.default_rng(3), 16, ">f4")
    others = [*lists[:-1], np.append(lists[-1], 1)]
    branches = [vector_branch(file, some, "ZS") for some in (lists, lists, others)]
    a, b, c = (array.layout.offsets.data for array in file.read(branches, Rows(0, 16)))
    assert a is b
    assert a is not c


def test_items_of_vectors_may_be_arrays() -> None:
    file = File()
    lists = [np.arange(6.0).reshape(2, 3)] * 16
    branch = replace(vector_branch(file, [values.ravel() for values in lists], None), shape=(3,))
    (got,) = file.read([branch], Rows(0, 16))
    assert got.to_list() == to_lists(lists)
    assert str(got.type) == "16 * var * 3 * float32"


def test_keys_with_long_addresses() -> None:
    file = File()
    lists = lists_of(np.random.default_rng(4), 16, ">f4")
    branch = counted_branch(file, lists, "x", counter_branch(file, [len(values) for values in lists]))
    (got,) = file.read([branch], Rows(3, 15))
    assert got.to_list() == to_lists(lists[3:15])


def test_embedded_baskets_follow_the_written_ones() -> None:
    file = File()
    values = np.arange(16, dtype=">f4")
    parts = [values[start : start + size] for start, size in zip(EDGES, SIZES, strict=False)]
    branch = file.branch("x", [basket_bytes(part.tobytes(), len(part)) for part in parts[:3]])
    embedded = embedded_basket(8, np.frombuffer(parts[3].tobytes(), np.uint8), None)
    branch = replace(branch, baskets=replace(branch.baskets, embedded=(embedded,)))
    (got,) = file.read([branch], Rows(2, 14))
    assert got.to_list() == values[2:14].tolist()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([1] * 15 + [2], "basket 3 holds 32 bytes, and its counts say 36"),
        ([1] * 15 + [0], "basket 3 holds 32 bytes, and its counts say 28"),
        ([1] * 15 + [-1], "counts from -1 to 1 items"),
        ([2**31 - 1] * 16, "its counts say"),
    ],
)
def test_counts_that_do_not_fit_are_an_error(counts: list[int], message: str) -> None:
    file = File()
    branch = counted_branch(file, [np.ones(1)] * 16, "x", counter_branch(file, counts))
    with pytest.raises(ValueError, match=message):
        file.read([branch], Rows(0, 16))


@pytest.mark.parametrize("count", [2**31, 2**63, 2**64 - 1])
def test_huge_counts_are_an_error(count: int) -> None:
    file = File()
    counter = counter_branch(file, [count] * 16, ">u8")
    branch = counted_branch(file, [np.ones(1)] * 16, "x", counter)
    with pytest.raises(ValueError, match="items per entry"):
        file.read([branch], Rows(0, 16))


def test_a_basket_with_another_number_of_entries_is_an_error() -> None:
    file = File()
    branch = file.branch(
        "x", [basket_bytes(bytes(4 * size), size) for size in SIZES[:3]] + [basket_bytes(b"", 7)]
    )
    with pytest.raises(ValueError, match="basket 3 holds 7 entries, and its tree says 8"):
        file.read([branch], Rows(0, 16))


def test_a_basket_with_another_number_of_bytes_is_an_error() -> None:
    file = File()
    branch = file.branch("x", [basket_bytes(bytes(4 * size - 1), size) for size in (5, 1, 3, 8)])
    with pytest.raises(ValueError, match="basket 0 holds 19 bytes for 5 entries of 4"):
        file.read([branch], Rows(0, 16))


def test_entries_that_are_no_whole_items_are_an_error() -> None:
    file = File()
    lists = [np.ones(1)] * 16
    branch = replace(vector_branch(file, lists, None), header_bytes=9)
    with pytest.raises(ValueError, match="whole items of 4 bytes"):
        file.read([branch], Rows(0, 16))


def test_two_baskets_in_one_place_are_an_error() -> None:
    file = File()
    basket = basket_bytes(bytes(20), 5)
    branch = file.branch("x", [basket] * 4)
    chunk = Chunk(Rows(0, 16))
    chunk.add(replace(branch, baskets=replace(branch.baskets, positions=np.zeros(4, np.int64))))
    with pytest.raises(ValueError, match="claim the same bytes"):
        chunk.ranges()


def test_a_codec_for_uproot_is_told_from_damage() -> None:
    file = File()
    packed = [
        basket_bytes(bytes(400 * size), size, codec="ZL").replace(b"ZL\x08", b"CS\x08")
        for size in (5, 1, 3, 8)
    ]
    branch = file.branch("x", packed, shape=(100,))
    with pytest.raises(UnknownCodec, match="CS"):
        file.read([branch], Rows(0, 16))
