"""One TTree: its schema, branch by branch on demand, and its columns."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.errors import (
    ResourceExhausted,
    ServicexError,
    SourceRefused,
    SourceUnavailable,
    UnknownName,
)
from servicex_server.plan import types
from servicex_server.run.read.branch import FastBranch, fast_branch
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.checked import checked
from servicex_server.run.read.decode import Chunk
from servicex_server.run.read.decompress import UnknownCodec
from servicex_server.run.read.faults import reading
from servicex_server.run.read.form import to_type, without_hidden
from servicex_server.run.read.metadata import TreeMetadata
from servicex_server.run.read.rows import Rows

logger = logging.getLogger(__name__)


class TTreeColumns:
    """A TTree as columns, named by the path of the branch (`outer/inner`) or by the branch's own name.

    Columns of plain numbers are read here, all others by uproot. Any thread may read.
    """

    def __init__(self, name: str, metadata: TreeMetadata, *, skip_offsets: bool = True) -> None:
        """
        Args:
            skip_offsets: decompress no more of a basket than its entries. Then check sums over whole
                baskets are not looked at, and sizes alone tell a corrupt one.

        Raises:
            ValueError: the number of entries makes no sense.
        """
        self.name = name
        self.n_entries = int(metadata.tree.num_entries)
        if self.n_entries < 0:
            message = f"it says that it has {self.n_entries} entries"
            raise ValueError(message)
        self._metadata = metadata
        self._skip_offsets = skip_offsets
        self._source: RangeSource = metadata.tree.file.source
        self._names: tuple[str, ...] | None = None
        self._branches: dict[str, Any] = {}
        self._forms: dict[str, Any] = {}
        self._types: dict[str, types.Type] = {}
        self._layouts: dict[int, FastBranch | None] = {}

    @property
    def _location(self) -> str:
        return self._source.location

    def names(self) -> Sequence[str]:
        with self._inspecting():
            if self._names is None:
                self._names = self._metadata.names()
            return self._names

    def type_of(self, name: str) -> types.Type:
        with self._inspecting(name):
            found = self._types.get(name)
            if found is None:
                found = self._types[name] = self._inspect_type(name)
            return found

    def _inspect_type(self, name: str) -> types.Type:
        branch = self._find_branch(name)
        try:
            branch.interpretation.cache_key  # noqa: B018 (raises for what uproot cannot interpret)
            return to_type(self._form(name))
        except (SourceUnavailable, SourceRefused, ResourceExhausted):
            raise
        except Exception as error:  # noqa: BLE001 (uproot's kinds of 'I cannot' have no common class)
            logger.debug("%s of %s cannot be read: %s", self._place(name), self._location, error)
            return types.Unknown(str(branch.typename))

    def typename_of(self, name: str) -> str:
        with self._inspecting(name):
            return str(self._find_branch(name).typename)

    def is_fast(self, name: str) -> bool:
        """Whether the column is read without uproot."""
        return self._layout(name) is not None

    def read(
        self, columns: Sequence[str], start: int, stop: int, keep: npt.NDArray[np.bool_] | None = None
    ) -> dict[str, ak.Array]:
        """The columns' entries `[start, stop)`, or those of them that `keep` marks.

        Baskets without an entry to return are neither read nor decompressed. Jagged columns that are
        counted by the same branch share one object of offsets, which begin at 0.

        Args:
            keep: one bool per entry, shape (stop - start,).

        Raises:
            UnknownName: no branch has that name.
            SourceCorrupt: the bytes of a branch are not what they should be.
        """
        rows = Rows(start, stop, keep)
        if not rows.n_rows:
            return {name: self._empty(name) for name in columns}
        layouts = {name: self._layout(name) for name in columns}
        chunk = Chunk(rows, skip_offsets=self._skip_offsets)
        for name, layout in layouts.items():
            if layout is not None:
                with reading(self._location, self._place(name)):
                    chunk.add(layout)
        with reading(self._location, f"tree {self.name!r}"):
            chunk.fill(self._source.read_ranges(chunk.ranges()))
        arrays: dict[str, ak.Array] = {}
        for name, layout in layouts.items():
            if layout is not None:
                with reading(self._location, self._place(name)):
                    try:
                        arrays[name] = chunk.column(layout)
                    except UnknownCodec:
                        logger.debug("%s of %s is left to uproot", self._place(name), self._location)
        self._source.count_decompressed(chunk.bytes_decompressed)
        arrays |= self._read_slowly([name for name in columns if name not in arrays], rows)
        return {name: arrays[name] for name in columns}

    @property
    def reads_ahead(self) -> bool:
        """Whether `fetch_ahead` does anything."""
        return self._source.reads_ahead

    def fetch_ahead(self, columns: Sequence[str], start: int, stop: int) -> None:
        """Begins to fetch what `read` will ask for, where that is worth it; what is wrong shows there."""

        def find() -> list[ByteRange]:
            layouts = [self._layout(name) for name in columns]
            chunk = Chunk(Rows(start, stop), skip_offsets=self._skip_offsets)
            for layout in layouts:
                if layout is not None:
                    chunk.add(layout)
            return chunk.ranges()

        with contextlib.suppress(ServicexError, ValueError):
            self._source.begin(find)

    def _empty(self, name: str) -> ak.Array:
        with self._inspecting(name):
            return ak.Array(self._form(name).length_zero_array())

    def _read_slowly(self, columns: Sequence[str], rows: Rows) -> Mapping[str, ak.Array]:
        """What only uproot can read."""
        if not columns:
            return {}
        start, stop = rows.span()
        with self._inspecting():
            branches = {name: self._find_branch(name) for name in columns}
            leaves = [leaf for branch in branches.values() for leaf in _leaves(branch)]
            self._source.fetch_ahead(list(_basket_ranges(leaves, start, stop)))
            try:
                arrays = {
                    name: self._read_branch(name, branch, start, stop) for name, branch in branches.items()
                }
            finally:
                self._source.forget_ahead()
        if rows.kept is None:
            return arrays
        # Packed, so that lists have offsets again instead of starts and stops.
        return {name: ak.to_packed(array[rows.kept - start]) for name, array in arrays.items()}

    def _read_branch(self, name: str, branch: Any, start: int, stop: int) -> ak.Array:
        with reading(self._location, self._place(name)):
            array = branch.array(entry_start=start, entry_stop=stop, library="ak", array_cache=None)
            return checked(array, stop - start)

    def n_bytes(self, columns: Sequence[str]) -> int:
        """Uncompressed bytes of the columns over all entries."""
        with self._inspecting():
            return sum(int(leaf.uncompressed_bytes) for leaf in self._all_leaves(columns))

    def boundaries(self, columns: Sequence[str]) -> Sequence[int]:
        """Entry numbers at which a reader may stop without decompressing much twice.

        Where all columns end a basket, as they do at the end of each cluster; else, where the largest does.
        """
        with self._inspecting():
            leaves = self._all_leaves(columns)
            if not leaves:
                return [0, self.n_entries]
            edges = {id(leaf): leaf.entry_offsets for leaf in leaves}
            common = set.intersection(*map(set, edges.values()))
            if len(common) > 2:
                return sorted(map(int, common))
            return [int(edge) for edge in edges[id(max(leaves, key=_uncompressed_bytes))]]

    def _all_leaves(self, columns: Sequence[str]) -> list[Any]:
        return [leaf for name in columns for leaf in _leaves(self._find_branch(name))]

    @contextlib.contextmanager
    def _inspecting(self, name: str | None = None) -> Iterator[None]:
        """Lets one thread at a time use uproot, and names what it trips over."""
        what = f"tree {self.name!r}" if name is None else self._place(name)
        with self._source.lock, reading(self._location, what):
            yield

    def _form(self, name: str) -> Any:
        form = self._forms.get(name)
        if form is None:
            form = self._find_branch(name).interpretation.awkward_form(self._metadata.tree.file)
            form = self._forms[name] = without_hidden(form)
        return form

    def _layout(self, name: str) -> FastBranch | None:
        with self._inspecting(name):
            return fast_branch(self._find_branch(name), self._layouts)

    def _find_branch(self, name: str) -> Any:
        branch = self._branches.get(name)
        if branch is None:
            with reading(self._location, self._place(name)):
                branch = self._branches[name] = self._metadata.find(name)
        if branch is None:
            message = f"no branch {name!r} in tree {self.name!r}"
            raise UnknownName(message, name=name)
        return branch

    def _place(self, name: str) -> str:
        return f"branch {name!r} of tree {self.name!r}"


def _leaves(branch: Any) -> Iterator[Any]:
    """The branches that hold the bytes of `branch`: itself, or the members of a group."""
    if hasattr(branch.interpretation, "subbranches"):
        for member in branch.branches:
            yield from _leaves(member)
    else:
        yield branch


def _basket_ranges(leaves: Sequence[Any], start: int, stop: int) -> Iterator[ByteRange]:
    for leaf in leaves:
        for _number, place in leaf.entries_to_ranges_or_baskets(start, stop):
            # A basket that is embedded in the tree's metadata is in memory already.
            if isinstance(place, tuple):
                yield int(place[0]), int(place[1])


def _uncompressed_bytes(leaf: Any) -> int:
    return int(leaf.uncompressed_bytes)
