"""Computes a bound expression, node by node, each node once; values are dropped after their last use.

Columns are asked for when they are needed: those that decide the selection first, the others only for the
rows that survive it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.selection import ColumnUse, Conditions, find_uses, needs, order_of_evaluation
from servicex_server.run.filter.bound import MAX_BYTES
from servicex_server.run.filter.execution import Value, as_rows, compute
from servicex_server.run.filter.flat import FlatKernels
from servicex_server.run.remembered import MOST_PLANS, Remembered

Kept = NDArray[np.bool_]
Load = Callable[[Sequence[str], Kept | None], Mapping[str, ak.Array]]
"""Brings columns: all rows, or those for which the array of booleans is true."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a query gives for some rows.

    Attributes:
        rows: records with the output columns as fields, or a bare array without field names.
        n_passed: for each of the output's row conditions, how many rows passed it and those before.
        kept: which of the rows passed all of them; None for all, or where `is_selection_known` of the
            output does not hold.
    """

    rows: ak.Array
    n_passed: Mapping[Expr, int]
    kept: Kept | None


def evaluate(output: BoundOutput, columns: Mapping[str, ak.Array], *, max_bytes: int = MAX_BYTES) -> ak.Array:
    """The output's rows, from columns in memory.

    Args:
        output: what to compute.
        columns: one array per name in `output.columns`, all of the same length.
        max_bytes: what no intermediate value may exceed.

    Raises:
        QueryTypeError: an operation failed on these values.
        ResourceExhausted: a value would exceed `max_bytes`.
    """

    def take(names: Sequence[str], kept: Kept | None) -> Mapping[str, ak.Array]:
        return {name: columns[name] if kept is None else columns[name][kept] for name in names}

    return evaluate_lazily(output, take, max_bytes=max_bytes).rows


def evaluate_lazily(output: BoundOutput, load: Load, *, max_bytes: int = MAX_BYTES) -> Evaluation:
    """The output's rows, from columns that are loaded when they are needed.

    Raises:
        QueryTypeError: an operation failed on these values.
        ResourceExhausted: a value would exceed `max_bytes`.
    """
    with np.errstate(all="ignore"):
        return _Evaluator(output, load, max_bytes).run()


def columns_of_all_rows(output: BoundOutput) -> list[str]:
    """The columns that are loaded for all rows, so before anything is known of these."""
    return [use.column for use in _schedule_of(output).groups.get((), ())]


@dataclass(frozen=True, slots=True)
class _Schedule:
    """What an output's evaluation does when.

    Attributes:
        leaves: the conditions of each use of a column.
        groups: the columns to load together, by what their rows have to pass.
        order: the nodes to compute.
        n_uses: how often each value is needed.
    """

    leaves: Mapping[Expr, Conditions]
    groups: Mapping[Conditions, Sequence[ColumnUse]]
    order: Sequence[Expr]
    n_uses: Mapping[Expr, int]


def _plan_schedule(output: BoundOutput) -> _Schedule:
    uses = find_uses(output.expression, frozenset(output.row_conditions))
    leaves = {use.node: use.conditions for use in uses}
    groups: dict[Conditions, list[ColumnUse]] = {}
    for use in uses:
        groups.setdefault(use.conditions, []).append(use)
    order = order_of_evaluation(output.expression, uses)
    n_uses = Counter(part for node in order for part in needs(node, leaves))
    n_uses[output.expression] += 1
    # The outcome of each condition is needed to the end: for counts, and for columns still to come.
    n_uses.update(output.row_conditions)
    return _Schedule(leaves, groups, order, n_uses)


_schedules: Remembered[BoundOutput, _Schedule] = Remembered(MOST_PLANS)


def _schedule_of(output: BoundOutput) -> _Schedule:
    return _schedules.get(output) or _schedules.put(output, _plan_schedule(output))


class _Evaluator:
    """One evaluation of one output."""

    def __init__(self, output: BoundOutput, load: Load, max_bytes: int) -> None:
        self._output = output
        self._load = load
        self._max_bytes = max_bytes
        self._kernels = FlatKernels()
        self._values: dict[Expr, Value] = {}
        schedule = _schedule_of(output)
        self._leaves = schedule.leaves
        self._groups = schedule.groups
        self._order = schedule.order
        self._pending = dict(schedule.n_uses)

    def run(self) -> Evaluation:
        for node in self._order:
            if node not in self._values:
                self._settle(node)
            self._forget(node)
        rows = as_rows(self._values[self._output.expression], self._output)
        conditions = self._output.row_conditions
        n_passed = {node: int(np.count_nonzero(self._values[node])) for node in conditions}
        return Evaluation(rows, n_passed, self._kept(conditions) if self._output.is_selection_known else None)

    def _settle(self, node: Expr) -> None:
        conditions = self._leaves.get(node)
        if conditions is not None:
            self._bring(conditions)
            return
        self._values[node] = compute(node, self._values, self._kernels, self._max_bytes)

    def _bring(self, conditions: Conditions) -> None:
        """Loads all columns that are needed for the rows that pass these conditions."""
        group = self._groups[conditions]
        loaded = self._load([use.column for use in group], self._kept(conditions))
        for use in group:
            self._values[use.node] = loaded[use.column]

    def _kept(self, conditions: Conditions) -> Kept | None:
        """Which of all rows pass; each condition speaks of the rows that passed those before it."""
        kept: Kept | None = None
        for condition in conditions:
            passed: Kept = np.asarray(self._values[condition], np.bool_)
            if kept is None:
                kept = passed
            else:
                kept = kept.copy()
                kept[kept] = passed
        return kept

    def _forget(self, node: Expr) -> None:
        """Drops the values that only this node still needed."""
        for part in needs(node, self._leaves):
            self._pending[part] -= 1
            if not self._pending[part]:
                self._values.pop(part, None)
