"""Which entries of which baskets a chunk of rows needs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import Integers
from servicex_server.run.read.branch import BasketTable


@dataclass(frozen=True, slots=True)
class Part:
    """What is wanted of one basket.

    Attributes:
        number: of the basket.
        first, last: entries `[first, last)` are in the basket.
        start, stop: the wanted entries lie in `[start, stop)`.
        picked: the wanted ones of these, counted from `start`; None for all of them.
        row: where the first of them goes in the column.
    """

    number: int
    first: int
    last: int
    start: int
    stop: int
    picked: Integers | None
    row: int

    @property
    def n_rows(self) -> int:
        return self.stop - self.start if self.picked is None else len(self.picked)


class Rows:
    """The entries `[start, stop)` of a tree, or those of them that are kept."""

    def __init__(self, start: int, stop: int, keep: npt.NDArray[np.bool_] | None = None) -> None:
        if keep is not None and (keep.dtype != np.bool_ or keep.shape != (stop - start,)):
            message = f"keep has {keep.shape} values of {keep.dtype} for {stop - start} entries"
            raise ValueError(message)
        self.start = start
        self.stop = stop
        # All kept is the same as no choice.
        self.kept: Integers | None = None if keep is None or keep.all() else np.flatnonzero(keep) + start

    @property
    def n_rows(self) -> int:
        return self.stop - self.start if self.kept is None else len(self.kept)

    def span(self) -> tuple[int, int]:
        """The smallest range with all the rows, of which there is at least one."""
        if self.kept is None:
            return self.start, self.stop
        return int(self.kept[0]), int(self.kept[-1]) + 1

    def parts(self, baskets: BasketTable) -> list[Part]:
        """What is wanted of each basket that has any of these entries, in order.

        Raises:
            ValueError: the branch ends before the last of them.
        """
        edges = baskets.edges
        if self.n_rows and edges[-1] < self.stop:
            message = f"it has {edges[-1]} entries, fewer than the {self.stop} of its tree"
            raise ValueError(message)
        numbers = touched(edges, [(self.start, self.stop)])
        if self.kept is None:
            return whole_parts(edges, numbers, self.start, self.stop)
        bounds = np.searchsorted(self.kept, edges).tolist()
        return [
            self._picked(number, edges, self.kept[bounds[number] : bounds[number + 1]], bounds[number])
            for number in numbers
            if bounds[number] < bounds[number + 1]
        ]

    def _picked(self, number: int, edges: Integers, kept: Integers, row: int) -> Part:
        start, stop = int(kept[0]), int(kept[-1]) + 1
        picked = None if stop - start == len(kept) else kept - start
        return Part(number, int(edges[number]), int(edges[number + 1]), start, stop, picked, row)


def whole_parts(edges: Integers, numbers: Iterable[int], start: int, stop: int) -> list[Part]:
    """All that these baskets have of the entries `[start, stop)`, which are the rows."""
    found = []
    for number in numbers:
        first, last = int(edges[number]), int(edges[number + 1])
        inner = max(first, start)
        found.append(Part(number, first, last, inner, min(last, stop), None, inner - start))
    return found


def touched(edges: Integers, spans: Iterable[tuple[int, int]]) -> list[int]:
    """Numbers of the baskets, given the edges between them, that have entries in any of the spans."""
    found: set[int] = set()
    for start, stop in spans:
        if start < stop:
            first = int(np.searchsorted(edges, start, side="right")) - 1
            found.update(range(first, int(np.searchsorted(edges, stop, side="left"))))
    # A basket without entries is not worth reading.
    return [
        number for number in sorted(found) if number + 1 < len(edges) and edges[number] < edges[number + 1]
    ]


def spread(starts: Integers, counts: Integers) -> Integers:
    """The indexes `start, start + 1, ...` of each run, one run after the other.

    >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(counts) - counts
    indexes: Integers = np.repeat(starts - before, counts)
    indexes += np.arange(len(indexes))
    return indexes
