"""From where the lists of a collection end, as an RNTuple stores it, to offsets and to their items. Pure.

An end is counted in the items of its cluster, so that counting begins at 0 again with each cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import Integers, offsets_of
from servicex_server.run.read.ntuple.spans import Spans, join_spans


@dataclass(frozen=True)
class Lists:
    """Some lists of one collection.

    Attributes:
        spans: which ones, among all lists of the RNTuple.
        ends: where each of them ends. Shape (number of lists,).
        lows: where the list before each span ends; 0 if it is in another cluster. Shape (number of spans,).
        cluster_edges: the first list of each cluster, and the end of the last. Shape (n_clusters + 1,).
    """

    spans: Spans
    ends: Integers
    lows: Integers
    cluster_edges: Integers

    def offsets(self) -> Integers:
        """Where each list begins if the lists follow each other, and the last ends. From 0.

        Raises:
            ValueError: a list ends before it begins.
        """
        heads = offsets_of(self.spans.counts)
        counts = np.diff(self.ends, prepend=0)
        counts[heads[:-1]] = self.ends[heads[:-1]] - self.lows
        firsts, _ = self._find(np.unique(self.cluster_edges[:-1]))
        counts[firsts] = self.ends[firsts]
        if counts.min(initial=0) < 0 or self.lows.min(initial=0) < 0:
            message = "a list that ends before it begins"
            raise ValueError(message)
        return offsets_of(counts)

    def items(self, item_edges: Integers) -> Spans:
        """The items of the lists, among all items of the RNTuple.

        Args:
            item_edges: the first item of each cluster, and the end of the last. Shape (n_clusters + 1,).

        Raises:
            ValueError: the lists ask for other items than there are.
        """
        sizes = np.diff(item_edges)
        is_filled = self.cluster_edges[:-1] < self.cluster_edges[1:]
        lasts, is_here = self._find(self.cluster_edges[1:][is_filled] - 1)
        stops = self.ends[offsets_of(self.spans.counts)[1:] - 1]
        last_cluster = self._cluster_of(self.spans.stops - 1)
        if (
            sizes[~is_filled].any()
            or (self.ends[lasts] != sizes[is_filled][is_here]).any()
            or (stops > sizes[last_cluster]).any()
        ):
            message = "its lists do not end where the items of a cluster end"
            raise ValueError(message)
        starts = item_edges[self._cluster_of(self.spans.starts)] + self.lows
        stops = item_edges[last_cluster] + stops
        if (starts[1:] < stops[:-1]).any():
            message = "lists that overlap"
            raise ValueError(message)
        return join_spans(starts, stops)

    def _cluster_of(self, lists: Integers) -> npt.NDArray[np.intp]:
        return np.searchsorted(self.cluster_edges, lists, side="right") - 1

    def _find(self, lists: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """The positions in `ends` of those of `lists` that are in a span, and which ones these are."""
        spans = self.spans
        if not len(spans.starts):
            return np.empty(0, np.int64), np.zeros(len(lists), np.bool_)
        number = np.searchsorted(spans.starts, lists, side="right") - 1
        is_here = (number >= 0) & (lists < spans.stops[number])
        number = number[is_here]
        return offsets_of(spans.counts)[number] + lists[is_here] - spans.starts[number], is_here
