"""What the fast path has to know of a branch: how its numbers are stored, and where its baskets are.

Only branches of plain numbers and bools have such a layout: flat, of fixed shape, or jagged. All others
are left to uproot, whose interpretation decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from uproot.behaviors.TBranch import TBranch
from uproot.interpretation.jagged import AsJagged
from uproot.interpretation.numerical import AsDtype

from servicex_server.run.read.basket import Basket, embedded_basket

_KINDS = "biuf"
_COLLECTIONS = (3, 4)
"""`TBranchElement::fType` of what counts the entries of a split TClonesArray, or of a split collection:
https://root.cern.ch/doc/master/TBranchElement_8cxx_source.html."""

_BITS = (15, 35, 55)
"""`TLeafElement::fType` of `TObject::fBits`, alone or in arrays: some have two bytes more than others."""


@dataclass(frozen=True, slots=True)
class BasketTable:
    """Where the baskets of a branch are.

    Attributes:
        edges: first entry of each basket, and the end of the last; ascending from 0. Shape (n + 1,).
        positions: byte at which each written basket begins in the file. Shape (at most n,).
        sizes: bytes of each written basket.
        embedded: the baskets after these, which are part of the tree's metadata.
    """

    edges: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    embedded: tuple[Basket, ...] = ()

    def byte_range(self, number: int) -> tuple[int, int] | None:
        """Where a basket is in the file; None if it is embedded."""
        if number >= len(self.positions):
            return None
        position = int(self.positions[number])
        return position, position + int(self.sizes[number])


@dataclass(frozen=True, slots=True, eq=False)
class FastBranch:
    """A branch that the fast path can read; branches with the same counter have the same object for it.

    Attributes:
        name: as the tree names it, for messages.
        stored: type of one number in the file.
        native: type of one number in the column.
        shape: fixed dimensions of one entry, or of one item of a jagged entry.
        is_jagged: whether entries hold any number of items.
        header_bytes: what precedes the items of each entry, for `std::vector` ten bytes.
        counter: the flat branch with the number of items per entry, if there is one.
        baskets: where the entries are.
    """

    name: str
    stored: np.dtype[Any]
    native: np.dtype[Any]
    shape: tuple[int, ...]
    is_jagged: bool
    header_bytes: int
    counter: FastBranch | None
    baskets: BasketTable

    @property
    def item_bytes(self) -> int:
        """Bytes of one entry, or of one item of a jagged entry, in the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.stored.itemsize


def fast_branch(branch: Any, known: dict[int, FastBranch | None]) -> FastBranch | None:
    """The layout of uproot's `branch`; None if it needs uproot itself.

    Looks at this branch, and at the one with its counts.

    Args:
        known: layouts found so far, by the identity of uproot's object; grows.

    Raises:
        ValueError: the tree's metadata contradict themselves.
    """
    if len(branch.branches):
        return None
    if id(branch) not in known:
        known[id(branch)] = _layout(branch, known)
    return known[id(branch)]


def _layout(branch: Any, known: dict[int, FastBranch | None]) -> FastBranch | None:
    if any(leaf.member("fType", none_if_missing=True) in _BITS for leaf in branch.member("fLeaves")):
        return None
    interpretation = branch.interpretation
    is_jagged = type(interpretation) is AsJagged
    content = interpretation.content if is_jagged else interpretation
    if type(content) is not AsDtype:
        return None
    stored, shape = content.from_dtype.base, content.from_dtype.shape
    native = content.to_dtype.base
    # The type of a leaf list has names; a Double32_t without a range is stored as float.
    is_plain = stored.kind in _KINDS and stored.kind == native.kind and content.to_dtype.shape == shape
    if not is_plain or not content.from_dtype.itemsize:
        return None
    header_bytes = int(interpretation.header_bytes) if is_jagged else 0
    return FastBranch(
        name=str(branch.name),
        stored=stored,
        native=native.newbyteorder("="),
        shape=tuple(int(size) for size in shape),
        is_jagged=is_jagged,
        header_bytes=header_bytes,
        counter=_counter(branch, known) if is_jagged and not header_bytes else None,
        baskets=_basket_table(branch),
    )


def _find_counter(branch: Any) -> Any:
    """The branch whose leaf counts the items of `branch`, or None.

    The members of a split collection come before its own leaf in the file, and uproot then takes the
    first member for the counter: so look for the leaf in all that `branch` is in.
    """
    leaf = branch.count_leaf
    candidate = None if leaf is None else branch.count_branch
    while isinstance(candidate, TBranch):
        if any(own is leaf for own in candidate.member("fLeaves")):
            return candidate
        candidate = candidate.parent
    return None


def _counter(branch: Any, known: dict[int, FastBranch | None]) -> FastBranch | None:
    """The branch that holds the numbers of items of `branch`, if it can be read as plain integers."""
    counter = _find_counter(branch)
    if counter is None or counter is branch:
        return None
    if not len(counter.branches):
        found = fast_branch(counter, known)
        is_plain = found is not None and not found.is_jagged and not found.shape and found.stored.kind in "iu"
        return found if is_plain else None
    if counter.member("fType", none_if_missing=True) not in _COLLECTIONS:
        return None
    if id(counter) not in known:
        # uproot would look at all members of the collection to say what this is.
        known[id(counter)] = FastBranch(
            name=str(counter.name),
            stored=np.dtype(">i4"),
            native=np.dtype("=i4"),
            shape=(),
            is_jagged=False,
            header_bytes=0,
            counter=None,
            baskets=_basket_table(counter),
        )
    return known[id(counter)]


def _basket_table(branch: Any) -> BasketTable:
    embedded = tuple(_embedded(basket) for basket in branch.embedded_baskets)
    n_written = int(branch.num_baskets) - len(embedded)
    edges = np.zeros(n_written + len(embedded) + 1, np.int64)
    if n_written:
        edges[: n_written + 1] = branch.member("fBasketEntry")[: n_written + 1]
    np.cumsum([basket.n_entries for basket in embedded], out=edges[n_written + 1 :])
    edges[n_written + 1 :] += edges[n_written]
    if edges[0] or bool(np.any(edges[1:] < edges[:-1])):
        message = "the first entries of its baskets are not in order"
        raise ValueError(message)
    sizes = np.asarray(branch.member("fBasketBytes")[:n_written], np.int64)
    positions = np.asarray(branch.member("fBasketSeek")[:n_written], np.int64)
    if bool(np.any(sizes < 0)) or bool(np.any(positions < 0)):
        message = "its baskets have negative sizes or places"
        raise ValueError(message)
    return BasketTable(edges, positions, sizes, embedded)


def _embedded(basket: Any) -> Basket:
    starts = basket.byte_offsets
    return embedded_basket(
        int(basket.num_entries),
        np.ascontiguousarray(basket.data, np.uint8),
        None if starts is None else np.asarray(starts[:-1], np.int64),
    )
