"""Ranges joined into requests and cut out again."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.errors import SourceCorrupt
from servicex_server.source.ranges import check_within, coalesce, cut

RANGE = st.tuples(st.integers(0, 500), st.integers(1, 80)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(wanted=st.lists(RANGE, max_size=20), gap=st.integers(0, 50), most=st.integers(1, 200))
def test_every_wanted_range_can_be_cut_out_of_the_blocks(
    wanted: list[tuple[int, int]], gap: int, most: int
) -> None:
    data = bytes(number % 251 for number in range(600))
    blocks = coalesce(wanted, gap_bytes=gap, most_bytes=most)
    assert all(stop - start <= most for start, stop in blocks)
    assert all(first[1] <= second[0] for first, second in pairwise(blocks))
    fetched = {(start, stop): data[start:stop] for start, stop in blocks}
    for start, stop in wanted:
        assert cut(fetched, start, stop) == data[start:stop]


def test_missing_bytes_are_an_error() -> None:
    with pytest.raises(LookupError):
        cut({(0, 4): b"abcd"}, 2, 6)


@pytest.mark.parametrize("wanted", [(-1, 3), (3, 2), (0, 11)])
def test_ranges_outside_the_file_say_that_it_is_corrupt(wanted: tuple[int, int]) -> None:
    with pytest.raises(SourceCorrupt, match="outside the file of 10 bytes"):
        check_within([wanted], 10, "x.root")
