"""Operations on flat contents and offsets, for the shapes that nearly all columns have.

A column of numbers is one numpy array, a jagged one such an array and the offsets of its lists. Columns of
one collection share their offsets; an operation between them is one on the contents, and what a cut selects
is worked out once for all of them. Whatever looks different is left to awkward, whose results these equal in
values and types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from servicex_server.plan.function import SPECIAL
from servicex_server.plan.ir import Apply, Call, Choice, Expr, Index, Mask, Span, Zip
from servicex_server.run.offsets import offsets_of

Numbers = NDArray[Any]
Offsets = NDArray[np.int64]

_WHOLE = Span()


@dataclass(frozen=True, slots=True)
class Flat:
    """One value per row, or a list of them.

    Attributes:
        content: numbers or booleans, of shape `(n,)`.
        offsets: where each row's list begins in `content`, and where the last one ends; None for one
            value per row.
    """

    content: Numbers
    offsets: Offsets | None

    @property
    def n_rows(self) -> int:
        return len(self.content if self.offsets is None else self.offsets) - (self.offsets is not None)


def to_flat(value: object) -> Flat | None:
    """The array as contents and offsets; None if it has another shape."""
    if not isinstance(value, ak.Array):
        return None
    layout = value.layout
    if type(layout) is ak.contents.NumpyArray:
        return Flat(layout.data, None) if layout.data.ndim == 1 and not layout.parameters else None
    if type(layout) is not ak.contents.ListOffsetArray or layout.parameters:
        return None
    content = layout.content
    if type(content) is not ak.contents.NumpyArray or content.data.ndim != 1 or content.parameters:
        return None
    offsets = layout.offsets.data
    # Slices begin anywhere; awkward knows how to deal with them.
    if offsets.dtype != np.int64 or not len(offsets) or offsets[0] != 0 or offsets[-1] != len(content.data):
        return None
    return Flat(content.data, offsets)


def to_array(flat: Flat) -> ak.Array:
    """The same values as awkward array, without a copy."""
    content = ak.contents.NumpyArray(flat.content)
    if flat.offsets is None:
        return ak.Array(content)
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(flat.offsets), content))


class FlatKernels:
    """Computes nodes whose parts are flat, and remembers what cuts have in common."""

    def __init__(self) -> None:
        self._picks: dict[tuple[int, int], tuple[object, object, Numbers, Offsets]] = {}

    def compute(self, node: Expr, values: Mapping[Expr, Any]) -> ak.Array | None:
        """The node's value; None where awkward has to compute it."""
        match node:
            case Apply(function=function, operands=operands) if function not in SPECIAL:
                return _elementwise(getattr(np, function), [values[operand] for operand in operands])
            case Choice(condition=condition, then=then, otherwise=otherwise):
                return _choose(values[condition], values[then], values[otherwise])
            case Mask(source=source, predicate=predicate):
                return self._mask(to_flat(values[source]), to_flat(values[predicate]))
            case Index(source=source, items=(first, int(position))) if first == _WHOLE and position >= 0:
                return _pick(to_flat(values[source]), position)
            case Call(function=function, arguments=(source,)) if function in _REDUCERS:
                return _reduce(node, to_flat(values[source]))
            case Zip(names=names, values=parts, depth_limit=limit):
                return _zip(names, [values[part] for part in parts], limit)
            case _:
                return None

    def _mask(self, source: Flat | None, predicate: Flat | None) -> ak.Array | None:
        if source is None or predicate is None or predicate.content.dtype != np.bool_:
            return None
        if predicate.offsets is None:
            if len(predicate.content) != source.n_rows:
                return None
            if source.offsets is None:
                return to_array(Flat(source.content[predicate.content], None))
            picked, offsets = self._kept_rows(source.offsets, predicate.content)
        else:
            if source.offsets is None or not _same(source.offsets, predicate.offsets):
                return None
            picked, offsets = self._kept_elements(source.offsets, predicate.content)
        return to_array(Flat(source.content.take(picked), offsets))

    def _kept_rows(self, offsets: Offsets, kept: Numbers) -> tuple[Numbers, Offsets]:
        def work_out() -> tuple[Numbers, Offsets]:
            counts = np.diff(offsets)
            return np.flatnonzero(np.repeat(kept, counts)), offsets_of(counts[kept])

        return self._remember(offsets, kept, work_out)

    def _kept_elements(self, offsets: Offsets, kept: Numbers) -> tuple[Numbers, Offsets]:
        def work_out() -> tuple[Numbers, Offsets]:
            return np.flatnonzero(kept), offsets_of(kept)[offsets]

        return self._remember(offsets, kept, work_out)

    def _remember(
        self, offsets: Offsets, kept: Numbers, work_out: Callable[[], tuple[Numbers, Offsets]]
    ) -> tuple[Numbers, Offsets]:
        key = (id(offsets), id(kept))
        if key not in self._picks:
            # Both are held, too: an id may be used again for another object.
            self._picks[key] = (offsets, kept, *work_out())
        return self._picks[key][2:]


def _elementwise(ufunc: Callable[..., Any], operands: Sequence[Any]) -> ak.Array | None:
    evened = _even(operands)
    if evened is None:
        return None
    arguments, offsets = evened
    result = ufunc(*arguments)
    if not isinstance(result, np.ndarray) or result.dtype == object:
        return None
    return to_array(Flat(result, offsets))


def _choose(condition: Any, then: Any, otherwise: Any) -> ak.Array | None:
    evened = _even((condition, then, otherwise))
    if evened is None or not isinstance(condition, ak.Array) or evened[0][0].dtype != np.bool_:
        return None
    (where, yes, no), offsets = evened
    # Unlike in arithmetic, a constant counts with its own type here: a whole number makes float32 float64.
    return to_array(Flat(np.where(where, np.asarray(yes), np.asarray(no)), offsets))


def _even(operands: Sequence[Any]) -> tuple[list[Any], Offsets | None] | None:
    """Contents of one length (constants stay what they are), and the offsets that they all have."""
    parts = [operand if isinstance(operand, bool | int | float) else to_flat(operand) for operand in operands]
    flats = [part for part in parts if isinstance(part, Flat)]
    if not flats or any(part is None for part in parts) or len({flat.n_rows for flat in flats}) > 1:
        return None
    offsets = next((flat.offsets for flat in flats if flat.offsets is not None), None)
    if offsets is None:
        return [part.content if isinstance(part, Flat) else part for part in parts], None
    if not all(flat.offsets is None or _same(flat.offsets, offsets) for flat in flats):
        return None
    counts = np.diff(offsets)
    evened: list[Any] = []
    for part in parts:
        if isinstance(part, Flat):
            evened.append(part.content if part.offsets is not None else np.repeat(part.content, counts))
        else:
            evened.append(part)
    return evened, offsets


def _pick(source: Flat | None, position: int) -> ak.Array | None:
    if source is None or source.offsets is None:
        return None
    starts = source.offsets[:-1]
    if not np.all(source.offsets[1:] - starts > position):
        return None  # awkward tells what is wrong
    return to_array(Flat(source.content[starts + position], None))


_REDUCERS = frozenset({"num", "count", "any", "all", "sum", "count_nonzero"})
_PLAIN_OPTIONS: Mapping[str, object] = {"axis": 1, "keepdims": False, "mask_identity": False}
"""One value per list, also for empty lists."""


def _reduce(node: Call, source: Flat | None) -> ak.Array | None:
    if source is None or source.offsets is None:
        return None
    if node.option("axis") != 1 or any(
        _PLAIN_OPTIONS.get(name, ...) != value for name, value in node.options
    ):
        return None
    counts = np.diff(source.offsets)
    if node.function in ("num", "count"):
        return to_array(Flat(counts, None))
    # Sums of floats depend on their order, and awkward's is the one that counts.
    if source.content.dtype != np.bool_:
        return None
    n_true = np.diff(offsets_of(source.content)[source.offsets])
    match node.function:
        case "any":
            return to_array(Flat(n_true > 0, None))
        case "all":
            return to_array(Flat(n_true == counts, None))
        case _:
            return to_array(Flat(n_true, None))


def _zip(names: tuple[str, ...] | None, parts: Sequence[Any], depth_limit: int | None) -> ak.Array | None:
    if not parts or not all(isinstance(part, ak.Array) for part in parts):
        return None
    if depth_limit == 1:
        n_rows = len(parts[0])
        # What records can do beyond their fields is awkward's to pass on.
        if any(len(part) != n_rows or part.behavior is not None for part in parts):
            return None
        contents = [part.layout for part in parts]
        return ak.Array(ak.contents.RecordArray(contents, _names(names), n_rows))
    flats = [flat for part in parts if (flat := to_flat(part)) is not None and flat.offsets is not None]
    if len(flats) != len(parts) or depth_limit not in (None, 2):
        return None
    offsets = flats[0].offsets
    if offsets is None or not all(
        flat.offsets is not None and _same(flat.offsets, offsets) for flat in flats
    ):
        return None
    contents = [ak.contents.NumpyArray(flat.content) for flat in flats]
    record = ak.contents.RecordArray(contents, _names(names), len(flats[0].content))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _names(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)


def _same(one: Offsets, other: Offsets) -> bool:
    return one is other or np.array_equal(one, other)
