"""How a file is split into chunks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from servicex_server.run.read.chunk import entry_ranges


@given(
    start=st.integers(0, 500),
    length=st.integers(0, 2000),
    boundaries=st.lists(st.integers(0, 2500), max_size=30),
    bytes_per_entry=st.just(0.0) | st.floats(0.01, 100),
    chunk_bytes=st.integers(1, 5000),
)
def test_ranges_cover_all_entries_once_and_stay_bounded(
    start: int, length: int, boundaries: list[int], bytes_per_entry: float, chunk_bytes: int
) -> None:
    ranges = list(
        entry_ranges(
            start,
            start + length,
            boundaries=boundaries,
            bytes_per_entry=bytes_per_entry,
            chunk_bytes=chunk_bytes,
        )
    )
    assert [entry for first, stop in ranges for entry in range(first, stop)] == list(
        range(start, start + length)
    )
    if bytes_per_entry > 0:
        most = max(1, int(chunk_bytes / bytes_per_entry))
        assert all(stop - first <= 4 * most for first, stop in ranges)


def test_ranges_end_on_boundaries_where_they_can() -> None:
    ranges = list(entry_ranges(0, 95, boundaries=range(0, 100, 10), bytes_per_entry=1.0, chunk_bytes=25))
    assert ranges == [(0, 20), (20, 40), (40, 60), (60, 80), (80, 95)]
    assert all(first[1] == second[0] for first, second in pairwise(ranges))


def test_a_boundary_a_little_too_far_is_better_than_a_split_basket() -> None:
    assert list(entry_ranges(0, 60, boundaries=[0, 30, 60], bytes_per_entry=1.0, chunk_bytes=10)) == [
        (0, 30),
        (30, 60),
    ]
