"""One TTree: its schema, branch by branch on demand, and its columns."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any

import awkward as ak

from servicex_server.errors import ResourceExhausted, SourceRefused, SourceUnavailable, UnknownName
from servicex_server.plan import types
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.faults import reading
from servicex_server.run.read.form import to_type, without_hidden

logger = logging.getLogger(__name__)


class TTreeColumns:
    """A TTree as columns, named by the path of the branch (`outer/inner`) or by the branch's own name."""

    def __init__(self, name: str, tree: Any, location: str) -> None:
        self.name = name
        self.n_entries = int(tree.num_entries)
        self._tree = tree
        self._location = location
        self._source: RangeSource = tree.file.source
        self._names: tuple[str, ...] | None = None
        self._branches: dict[str, Any] = {}
        self._forms: dict[str, Any] = {}

    def names(self) -> Sequence[str]:
        if self._names is None:
            self._names = tuple(self._tree.keys(recursive=True, full_paths=True))
        return self._names

    def type_of(self, name: str) -> types.Type:
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
        return str(self._find_branch(name).typename)

    def read(self, columns: Sequence[str], start: int, stop: int) -> dict[str, ak.Array]:
        """The columns' entries `[start, stop)`."""
        if start == stop:
            return {name: ak.Array(self._form(name).length_zero_array()) for name in columns}
        branches = {name: self._find_branch(name) for name in columns}
        with reading(self._location, f"tree {self.name!r}"):
            leaves = [leaf for branch in branches.values() for leaf in _leaves(branch)]
            self._source.fetch_ahead(list(_basket_ranges(leaves, start, stop)))
        try:
            return {name: self._read_branch(name, branch, start, stop) for name, branch in branches.items()}
        finally:
            self._source.forget_ahead()

    def _read_branch(self, name: str, branch: Any, start: int, stop: int) -> ak.Array:
        with reading(self._location, self._place(name)):
            array = branch.array(entry_start=start, entry_stop=stop, library="ak", array_cache=None)
            if len(array) != stop - start:
                message = f"it has {len(array)} entries where {stop - start} are due"
                raise ValueError(message)
            return array

    def n_bytes(self, columns: Sequence[str]) -> int:
        """Uncompressed bytes of the columns over all entries."""
        leaves = [leaf for name in columns for leaf in _leaves(self._find_branch(name))]
        return sum(int(leaf.uncompressed_bytes) for leaf in leaves)

    def boundaries(self, columns: Sequence[str]) -> Sequence[int]:
        """Entry numbers at which a reader may stop without decompressing much twice."""
        leaves = [leaf for name in columns for leaf in _leaves(self._find_branch(name))]
        if not leaves:
            return [0, self.n_entries]
        largest = max(leaves, key=_uncompressed_bytes)
        return [int(offset) for offset in largest.entry_offsets]

    def _form(self, name: str) -> Any:
        form = self._forms.get(name)
        if form is None:
            branch = self._find_branch(name)
            with reading(self._location, self._place(name)):
                form = without_hidden(branch.interpretation.awkward_form(self._tree.file))
            self._forms[name] = form
        return form

    def _find_branch(self, name: str) -> Any:
        branch = self._branches.get(name)
        if branch is None:
            try:
                branch = self._branches[name] = self._tree[name]
            except KeyError as error:
                message = f"no branch {name!r} in tree {self.name!r}"
                raise UnknownName(message, name=name) from error
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
