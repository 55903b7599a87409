"""Byte ranges joined into few requests, and cut out again. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from servicex_server.errors import SourceCorrupt


def check_within(wanted: Sequence[tuple[int, int]], size_bytes: int, location: str) -> None:
    """Raises SourceCorrupt for a range that the file does not have: whoever asks took it from the file."""
    for start, stop in wanted:
        if not 0 <= start <= stop <= size_bytes:
            message = f"{location}: bytes {start} to {stop} lie outside the file of {size_bytes} bytes"
            raise SourceCorrupt(message)


def coalesce(wanted: Sequence[tuple[int, int]], *, gap_bytes: int, most_bytes: int) -> list[tuple[int, int]]:
    """Blocks that cover all wanted ranges, in order, without overlap.

    Ranges no further apart than `gap_bytes` share a block; a block longer than `most_bytes` is split.

    >>> coalesce([(0, 4), (6, 10), (100, 110)], gap_bytes=5, most_bytes=8)
    [(0, 8), (8, 10), (100, 108), (108, 110)]
    """
    joined: list[list[int]] = []
    for start, stop in sorted(wanted):
        if joined and start <= joined[-1][1] + gap_bytes:
            joined[-1][1] = max(joined[-1][1], stop)
        else:
            joined.append([start, stop])
    return [
        (start, min(start + most_bytes, last))
        for first, last in joined
        for start in range(first, last, most_bytes)
    ]


def share(
    blocks: Sequence[tuple[int, int]], *, most_ranges: int, most_bytes: int, least_bytes: int, n_shares: int
) -> list[list[tuple[int, int]]]:
    """The blocks in order, in as few batches as the bounds allow, and as give each of `n_shares` its part.

    Args:
        most_ranges, most_bytes: in one batch, unless one block has more.
        least_bytes: for less no further batch is begun for the sake of sharing.

    >>> share([(0, 4), (6, 10), (20, 30)], most_ranges=2, most_bytes=100, least_bytes=50, n_shares=4)
    [[(0, 4), (6, 10)], [(20, 30)]]
    >>> share([(0, 4), (6, 10), (20, 30)], most_ranges=9, most_bytes=100, least_bytes=8, n_shares=2)
    [[(0, 4), (6, 10)], [(20, 30)]]
    """
    total = sum(stop - start for start, stop in blocks)
    enough = min(most_bytes, max(least_bytes, -(-total // n_shares)))
    batches: list[list[tuple[int, int]]] = []
    size_bytes = 0
    for start, stop in blocks:
        if not batches or len(batches[-1]) == most_ranges or size_bytes + stop - start > enough:
            batches.append([])
            size_bytes = 0
        batches[-1].append((start, stop))
        size_bytes += stop - start
    return batches


def holds(blocks: Mapping[tuple[int, int], bytes], start: int, stop: int) -> bool:
    """Whether one of the blocks has all bytes `[start, stop)`."""
    return any(first <= start and stop <= last for first, last in blocks)


def cut(blocks: Mapping[tuple[int, int], bytes], start: int, stop: int) -> bytes:
    """The bytes `[start, stop)` out of blocks that cover them.

    >>> cut({(0, 4): b"abcd", (4, 8): b"efgh"}, 2, 6)
    b'cdef'
    """
    whole = blocks.get((start, stop))
    if whole is not None:
        return whole
    pieces: list[bytes] = []
    position = start
    for (first, last), data in sorted(blocks.items(), key=_by_range):
        if first <= start and stop <= last:
            return data[start - first : stop - first]
        if first <= position < min(last, stop):
            pieces.append(data[position - first : stop - first])
            position = min(last, stop)
    if position < stop:
        message = f"no block holds byte {position}"
        raise LookupError(message)
    return b"".join(pieces)


def _by_range(item: tuple[tuple[int, int], bytes]) -> tuple[int, int]:
    return item[0]
