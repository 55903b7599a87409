"""From baskets to columns: numbers go from the decompressed basket straight to where they stay. Pure.

The offsets of lists come from the branch with their counts, once per collection, so that the table of
entries at the end of each basket need not even be decompressed. What the two say is compared, as far as
it is read: a basket must hold exactly what its counts ask for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import Integers, offsets_of
from servicex_server.run.read.basket import Basket, parse_basket
from servicex_server.run.read.branch import FastBranch
from servicex_server.run.read.decompress import Bytes
from servicex_server.run.read.rows import Part, Rows, spread, touched, whole_parts

Values = npt.NDArray[Any]

_MOST_ITEMS = 2**31 - 1
"""Of one entry: ROOT counts them in 32 bits with a sign."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """How many items each of the entries from `first` on has.

    Attributes:
        values: the counts as the branch has them; zero for entries that no row needs. Shape (n,).
        before: items of all entries before each one. Shape (n + 1,).
        offsets: where the list of each row begins; one object for all columns of the collection.
    """

    first: int
    values: Values
    before: Integers
    offsets: ak.index.Index64


class Chunk:
    """One chunk of rows: says which bytes of the file it needs, and makes columns of them."""

    def __init__(self, rows: Rows, *, skip_offsets: bool = True) -> None:
        """
        Args:
            skip_offsets: decompress a basket only as far as it is needed. Its codec then cannot check
                the sum over the whole basket.
        """
        self.bytes_decompressed = 0
        self._rows = rows
        self._skip_offsets = skip_offsets
        self._parts: dict[FastBranch, list[Part]] = {}
        self._spans: dict[FastBranch, list[tuple[int, int]]] = {}
        self._places: dict[tuple[FastBranch, int], tuple[int, int]] = {}
        self._data: dict[tuple[FastBranch, int], memoryview] = {}
        self._counts: dict[FastBranch, _Counts] = {}
        self._known_offsets: dict[tuple[int, int], list[ak.index.Index64]] = {}

    # -- which bytes -------------------------------------------------------------------------------------

    def add(self, branch: FastBranch) -> None:
        """Asks for a column.

        Raises:
            ValueError: the branch, or the one with its counts, has too few entries.
        """
        if branch in self._parts:
            return
        parts = self._rows.parts(branch.baskets)
        if branch.counter is not None:
            self._add_counts(branch.counter, [(part.first, part.stop) for part in parts])
        self._parts[branch] = parts
        self._place(branch, [part.number for part in parts])

    def _add_counts(self, counter: FastBranch, spans: list[tuple[int, int]]) -> None:
        edges = counter.baskets.edges
        if spans and edges[-1] < spans[-1][1]:
            message = f"the branch {counter.name!r} with its counts has only {edges[-1]} entries"
            raise ValueError(message)
        self._spans.setdefault(counter, []).extend(spans)
        self._place(counter, touched(edges, spans))

    def _place(self, branch: FastBranch, numbers: Sequence[int]) -> None:
        for number in numbers:
            place = branch.baskets.byte_range(number)
            if place is not None:
                self._places[branch, number] = place

    def ranges(self) -> list[tuple[int, int]]:
        """The bytes of the file that the columns need.

        Raises:
            ValueError: two baskets claim the same bytes.
        """
        places = list(self._places.values())
        ordered = sorted(places)
        if any(before[1] > after[0] for before, after in itertools.pairwise(ordered)):
            message = "two baskets claim the same bytes"
            raise ValueError(message)
        return places

    def fill(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Takes the bytes that `ranges` asked for, in the same order; they are not needed after `column`."""
        self._data = {place: memoryview(piece) for place, piece in zip(self._places, pieces, strict=True)}

    # -- columns -----------------------------------------------------------------------------------------

    def column(self, branch: FastBranch) -> ak.Array:
        """The rows of a branch that was asked for.

        Raises:
            UnknownCodec: it is compressed in a way that only uproot may know.
            ValueError: its bytes, or those of the branch with its counts, contradict each other.
        """
        if branch.is_jagged:
            if branch.counter is not None:
                offsets, content = self._counted_lists(branch, self._counts_of(branch.counter))
            else:
                offsets, content = self._own_lists(branch)
            items = _regular(content, branch.shape, int(offsets[-1]))
            return ak.Array(ak.contents.ListOffsetArray(offsets, items))
        values = self._counts_as_column(branch) if branch in self._spans else self._flat(branch)
        return ak.Array(_regular(values, branch.shape, self._rows.n_rows))

    def _flat(self, branch: FastBranch) -> Values:
        parts = self._parts[branch]
        baskets = self._entry_baskets(branch, parts)
        column = np.empty((self._rows.n_rows, *branch.shape), branch.native)
        for part, basket in zip(parts, baskets, strict=True):
            values = self._items(branch, basket, part.start - part.first, part.stop - part.first)
            _copy(column[part.row : part.row + part.n_rows], values, part.picked)
        return column

    def _entry_baskets(self, branch: FastBranch, parts: Sequence[Part]) -> list[Basket]:
        """The baskets of a flat branch, each with as many bytes as its entries need."""
        baskets = [self._basket(branch, part.number) for part in parts]
        for part, basket in zip(parts, baskets, strict=True):
            if basket.content_bytes != (part.last - part.first) * branch.item_bytes:
                message = (
                    f"its basket {part.number} holds {basket.content_bytes} bytes "
                    f"for {part.last - part.first} entries of {branch.item_bytes}"
                )
                raise ValueError(message)
        return baskets

    def _counted_lists(self, branch: FastBranch, counts: _Counts) -> tuple[ak.index.Index64, Values]:
        parts = self._parts[branch]
        size = branch.item_bytes
        before = counts.before
        baskets = [self._basket(branch, part.number) for part in parts]
        for part, basket in zip(parts, baskets, strict=True):
            due = int(before[part.stop - counts.first] - before[part.first - counts.first]) * size
            if due > basket.content_bytes or (part.stop == part.last and due != basket.content_bytes):
                message = (
                    f"its basket {part.number} holds {basket.content_bytes} bytes, and its counts say {due}"
                )
                raise ValueError(message)
        offsets = counts.offsets.data
        content = np.empty((int(offsets[-1]), *branch.shape), branch.native)
        for part, basket in zip(parts, baskets, strict=True):
            base = before[part.first - counts.first]
            starts = before[part.start - counts.first : part.stop - counts.first + 1] - base
            items = self._items(branch, basket, int(starts[0]), int(starts[-1]))
            picked = None if part.picked is None else _items_of(starts - starts[0], part.picked)
            _copy(content[offsets[part.row] : offsets[part.row + part.n_rows]], items, picked)
        return counts.offsets, content

    def _own_lists(self, branch: FastBranch) -> tuple[ak.index.Index64, Values]:
        """Lists whose baskets alone tell where each entry begins."""
        parts = self._parts[branch]
        size = branch.item_bytes
        baskets = [self._basket(branch, part.number) for part in parts]
        most = sum(
            max(0, basket.content_bytes - branch.header_bytes * basket.n_entries) for basket in baskets
        )
        content = np.empty((most // size, *branch.shape), branch.native)
        counts = np.zeros(self._rows.n_rows, np.int64)
        filled = 0
        for part, basket in zip(parts, baskets, strict=True):
            data = self._read(basket, basket.size_bytes)
            edges = basket.entry_edges(data)[part.start - part.first : part.stop - part.first + 1]
            starts, lengths = edges[:-1] + branch.header_bytes, np.diff(edges) - branch.header_bytes
            if bool(np.any(lengths < 0)) or bool(np.any(lengths % size)):
                message = f"an entry of its basket {part.number} does not hold whole items of {size} bytes"
                raise ValueError(message)
            if part.picked is not None:
                starts, lengths = starts[part.picked], lengths[part.picked]
            items = lengths // size
            values = _gather(data[: basket.content_bytes], starts, items, branch)
            _copy(content[filled : filled + len(values)], values, None)
            counts[part.row : part.row + part.n_rows] = items
            filled += len(values)
        # Room was made for all entries of these baskets; those that are kept may be few.
        filled_part = content[:filled]
        return self._shared(offsets_of(counts)), filled_part.copy() if 2 * filled < len(
            content
        ) else filled_part

    def _shared(self, offsets: Integers) -> ak.index.Index64:
        """The same object for equal offsets.

        Vectors of one collection have no branch that says so, and some writers count each branch apart.
        """
        known = self._known_offsets.setdefault((len(offsets), int(offsets[-1])), [])
        for index in known:
            if np.array_equal(index.data, offsets):
                return index
        known.append(ak.index.Index64(offsets))
        return known[-1]

    # -- counts ------------------------------------------------------------------------------------------

    def _counts_of(self, counter: FastBranch) -> _Counts:
        found = self._counts.get(counter)
        if found is None:
            try:
                found = self._counts[counter] = self._read_counts(counter)
            except ValueError as error:
                error.add_note(f"in the branch {counter.name!r} with its counts")
                raise
        return found

    def _read_counts(self, counter: FastBranch) -> _Counts:
        spans = self._spans[counter]
        edges = counter.baskets.edges
        first = min((start for start, _ in spans), default=self._rows.start)
        stop = max((stop for _, stop in spans), default=first)
        parts = whole_parts(edges, touched(edges, spans), first, stop)
        baskets = self._entry_baskets(counter, parts)
        values = np.zeros(stop - first, counter.native)
        for part, basket in zip(parts, baskets, strict=True):
            counts = self._items(counter, basket, part.start - part.first, part.stop - part.first)
            values[part.row : part.row + part.n_rows] = counts
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) <= _MOST_ITEMS:
            message = f"it counts from {values.min()} to {values.max()} items per entry"
            raise ValueError(message)
        before = offsets_of(values)
        return _Counts(first, values, before, self._offsets(first, values, before))

    def _offsets(self, first: int, values: Values, before: Integers) -> ak.index.Index64:
        rows = self._rows
        if rows.kept is not None:
            return self._shared(offsets_of(values[rows.kept - first]))
        skipped = rows.start - first
        return self._shared(before[skipped:] - before[skipped] if skipped else before)

    def _counts_as_column(self, branch: FastBranch) -> Values:
        counts = self._counts_of(branch)
        kept = self._rows.kept
        return (
            counts.values[self._rows.start - counts.first :]
            if kept is None
            else counts.values[kept - counts.first]
        )

    # -- baskets -----------------------------------------------------------------------------------------

    def _basket(self, branch: FastBranch, number: int) -> Basket:
        data = self._data.get((branch, number))
        edges = branch.baskets.edges
        if data is None:
            basket = branch.baskets.embedded[number - len(branch.baskets.positions)]
        else:
            try:
                basket = parse_basket(data)
            except ValueError as error:
                message = f"basket {number}: {error}"
                raise ValueError(message) from error
        if basket.n_entries != edges[number + 1] - edges[number]:
            message = (
                f"its basket {number} holds {basket.n_entries} entries, "
                f"and its tree says {edges[number + 1] - edges[number]}"
            )
            raise ValueError(message)
        return basket

    def _items(self, branch: FastBranch, basket: Basket, start: int, stop: int) -> Values:
        """The items `[start, stop)` of a basket as they are stored. Shape (stop - start, *shape)."""
        size = branch.item_bytes
        data = self._read(basket, stop * size)[start * size : stop * size]
        return data.view(branch.stored).reshape(-1, *branch.shape)

    def _read(self, basket: Basket, want: int) -> Bytes:
        data = basket.read(want if self._skip_offsets else basket.size_bytes)
        self.bytes_decompressed += len(data)
        return data


def _copy(target: Values, values: Values, picked: Integers | None) -> None:
    """Puts the values, or the picked ones, into a part of a column, in the byte order of this machine."""
    if picked is not None:
        values = values[picked]
    if target.dtype == np.bool_:
        # A bool of the file may be any byte.
        np.not_equal(values.view(np.uint8), 0, out=target)
    else:
        np.copyto(target, values, casting="unsafe")


def _items_of(starts: Integers, entries: Integers) -> Integers:
    """Indexes of the items of these entries, given where each entry begins and the last ends."""
    return spread(starts[entries], starts[entries + 1] - starts[entries])


def _gather(data: Bytes, starts: Integers, counts: Integers, branch: FastBranch) -> Values:
    """Items from runs that begin at any byte. Shape (sum of counts, *shape)."""
    numbers = counts * (branch.item_bytes // branch.stored.itemsize)
    size = branch.stored.itemsize
    if not numbers.any():
        return np.empty((0, *branch.shape), branch.stored)
    at_any_byte = np.ndarray((len(data) - size + 1,), branch.stored, data, strides=(1,))
    indexes = np.repeat(starts - (np.cumsum(numbers) - numbers) * size, numbers)
    indexes += np.arange(0, len(indexes) * size, size)
    items: Values = at_any_byte[indexes]
    return items.reshape(-1, *branch.shape)


def _regular(values: Values, shape: tuple[int, ...], length: int) -> ak.contents.Content:
    """The values, whose last dimensions are `shape`, as lists of fixed size."""
    layout = ak.contents.NumpyArray(values.reshape(-1) if shape else values)
    sizes = [length]
    for size in shape[:-1]:
        sizes.append(sizes[-1] * size)
    for size, outer in zip(reversed(shape), reversed(sizes), strict=False):
        layout = ak.contents.RegularArray(layout, size, zeros_length=outer)
    return layout
