"""Spans of consecutive elements, and where they are in the pages that hold them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import Integers


@dataclass(frozen=True)
class Spans:
    """Elements `[starts[i], stops[i])`: ascending, none empty, with a gap between each and the next."""

    starts: Integers
    stops: Integers

    @property
    def counts(self) -> Integers:
        return self.stops - self.starts

    def scale(self, factor: int) -> Spans:
        """The spans, if there are `factor` elements in the place of each."""
        return self if factor == 1 else Spans(self.starts * factor, self.stops * factor)


def one_span(start: int, stop: int) -> Spans:
    return join_spans(np.array([start], np.int64), np.array([stop], np.int64))


def join_spans(starts: Integers, stops: Integers) -> Spans:
    """Spans out of ascending ones of which some are empty or follow each other at once.

    >>> spans = join_spans(np.array([0, 3, 3, 7]), np.array([3, 3, 5, 8]))
    >>> spans.starts.tolist(), spans.stops.tolist()
    ([0, 7], [5, 8])
    """
    filled = starts < stops
    starts, stops = starts[filled], stops[filled]
    if len(starts) < 2:
        return Spans(starts, stops)
    is_apart = starts[1:] > stops[:-1]
    return Spans(starts[np.append(True, is_apart)], stops[np.append(is_apart, True)])


def spans_of_mask(mask: npt.NDArray[np.bool_], first: int) -> Spans:
    """The spans in which `mask` is true, if its first value belongs to element `first`.

    >>> spans = spans_of_mask(np.array([True, True, False, True]), 10)
    >>> spans.starts.tolist(), spans.stops.tolist()
    ([10, 13], [12, 14])
    """
    padded = np.zeros(len(mask) + 2, np.int8)
    padded[1:-1] = mask
    changes = np.diff(padded)
    return Spans(np.flatnonzero(changes == 1) + first, np.flatnonzero(changes == -1) + first)


def touched_pages(edges: Integers, spans: Spans) -> npt.NDArray[np.intp]:
    """Numbers of the pages, given the edges between them, that have elements in any span."""
    first = np.searchsorted(edges, spans.starts, side="right") - 1
    last = np.searchsorted(edges, spans.stops, side="left")
    if len(first) == 1:
        numbers = np.arange(first[0], last[0])
    else:
        n_pages = len(edges) - 1
        opened = np.bincount(first, minlength=n_pages + 1) - np.bincount(last, minlength=n_pages + 1)
        numbers = np.flatnonzero(np.cumsum(opened[:n_pages]) > 0)
    is_filled: npt.NDArray[np.bool_] = edges[numbers] < edges[numbers + 1]
    return numbers[is_filled]
