"""Where the pages of a column are, for all clusters of the RNTuple.

Elements are counted from the first one in the file on, as are entries and the items of a collection. What
the page lists say of a column is compared with what it belongs to before anything is allocated for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from servicex_server.run.offsets import Integers, offsets_of
from servicex_server.run.read.ntuple.envelope import PAGES, Pages
from servicex_server.run.read.ntuple.metadata import RNTupleMetadata
from servicex_server.run.read.ntuple.shape import Column


@dataclass(frozen=True)
class PageTable:
    """The pages of one column.

    Attributes:
        pages: in order. Shape (n_pages,).
        edges: the first element of each page, and the end of the last. Shape (n_pages + 1,).
        cluster_pages: the first page of each cluster, and the end of the last. Shape (n_clusters + 1,).
    """

    pages: Pages
    edges: Integers
    cluster_pages: Integers

    @property
    def cluster_edges(self) -> Integers:
        """The first element in each cluster, and the end of the last. Shape (n_clusters + 1,)."""
        return self.edges[self.cluster_pages]


@dataclass
class PageTables:
    """The tables of the columns of one RNTuple, made when they are first asked for.

    Attributes:
        metadata: of the RNTuple.
    """

    metadata: RNTupleMetadata
    _tables: dict[Column, PageTable] = field(default_factory=dict)
    _n_bytes: dict[int, int] = field(default_factory=dict)
    _item_edges: dict[Column, Integers] = field(default_factory=dict)

    def table(self, column: Column) -> PageTable:
        """The pages of a column.

        Raises:
            ValueError, struct.error: they are not as many elements as the entries or items have.
        """
        found = self._tables.get(column)
        if found is None:
            found = _load_table(self.metadata, column.number)
            self._compare(column, found.cluster_edges)
            self._tables[column] = found
        return found

    def find_item_edges(self, offsets: Column) -> Integers | None:
        """The first item of a collection in each cluster; None if no column inside has a table yet."""
        return self._item_edges.get(offsets)

    def n_bytes(self, number: int) -> int:
        """Uncompressed bytes of the pages of a column, by its number."""
        found = self._n_bytes.get(number)
        if found is None:
            n_elements = sum(
                int(pages["n_elements"].sum())
                for cluster in range(len(self.metadata.clusters))
                if (pages := self.metadata.pages(number, cluster)) is not None
            )
            found = self._n_bytes[number] = n_elements * self.metadata.columns[number].n_bits // 8
        return found

    def _compare(self, column: Column, cluster_edges: Integers) -> None:
        around = column.around
        if around is None:
            expected = self.metadata.first_entries
        else:
            expected = self._item_edges.setdefault(around, cluster_edges // column.factor)
        if not np.array_equal(expected * column.factor, cluster_edges):
            kind = "entries" if around is None else "items"
            message = f"{cluster_edges[-1]} elements, for {expected[-1]} {kind} with {column.factor} each"
            raise ValueError(message)


def _load_table(metadata: RNTupleMetadata, number: int) -> PageTable:
    clusters = []
    for cluster in range(len(metadata.clusters)):
        pages = metadata.pages(number, cluster)
        if pages is None:
            message = f"cluster {cluster} does not have it"
            raise ValueError(message)
        clusters.append(pages)
    pages = np.concatenate([np.empty(0, PAGES), *clusters])
    counts = np.array([len(some) for some in clusters], np.int64)
    return PageTable(pages, offsets_of(pages["n_elements"]), offsets_of(counts))
