"""How a file's entries are split, so that memory is bounded by a chunk and not by the file. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

CHUNK_BYTES = 64 * 1024 * 1024
"""Uncompressed bytes of the columns read at once; evaluating takes a few times that."""


def entry_ranges(
    start: int,
    stop: int,
    *,
    boundaries: Sequence[int],
    bytes_per_entry: float,
    chunk_bytes: int = CHUNK_BYTES,
) -> Iterator[tuple[int, int]]:
    """Ranges that cover `[start, stop)`, ending on boundaries where one is near enough.

    A range ends at the last boundary within `chunk_bytes`. A stretch without one is split only where it
    is more than four times too large: splitting it means to decompress it again for each part.

    >>> list(entry_ranges(0, 100, boundaries=[0, 30, 60, 90, 100], bytes_per_entry=1.0, chunk_bytes=65))
    [(0, 60), (60, 100)]
    """
    most = max(1, int(chunk_bytes / bytes_per_entry)) if bytes_per_entry > 0 else stop - start
    edges = sorted({edge for edge in boundaries if start < edge < stop})
    position = start
    number = 0
    while position < stop:
        last = None
        while number < len(edges) and (last is None or edges[number] - position <= most):
            last = edges[number]
            number += 1
        end = stop if last is None or stop - position <= most else last
        if end - position > 4 * most:
            end = position + 4 * most
            number -= 1 if last is not None else 0
        yield position, end
        position = end
        while number < len(edges) and edges[number] <= position:
            number += 1
