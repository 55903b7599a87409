"""Rows are dropped from the columns, before anything is computed from them."""

from __future__ import annotations

from collections.abc import Collection

from servicex_server.plan.infer import Weak
from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    Column,
    Expr,
    Field,
    Index,
    Mask,
    Origin,
    Zip,
    children,
    in_order,
)
from servicex_server.plan.typed import FULL, Builder, Typed
from servicex_server.plan.types import List, depth_of

_ROWWISE = frozenset(
    {
        "all", "any", "argcartesian", "argcombinations", "argmax", "argmin", "argsort", "cartesian", "choose",
        "combinations", "concatenate", "count", "count_nonzero", "firsts", "max", "mean", "min", "moment",
        "nanargmax", "nanargmin", "nanmax", "nanmean", "nanmin", "nanprod", "nanstd", "nansum", "nanvar",
        "num", "pad_none", "prod", "softmax", "sort", "std", "sum", "var",
    }
)  # fmt: skip
"""Functions that, along an axis within the rows, make one row of one row."""


def push_row_masks(value: Typed, build: Builder) -> Typed:
    """A cut on a computed value becomes the same cut on the columns that the value is computed from.

    The columns can then be read where something survives only, and less is computed. What the condition
    itself is made of has been computed for all rows already, and is cut as it is.

    `2 * Muon_pt` cut by `MET_pt > 30` becomes `2 * (Muon_pt cut by MET_pt > 30)`.
    """
    renewed: dict[Expr, Expr] = {}
    rows = _RowSets(build)
    for node in in_order(value.expr):
        changed = {part: renewed[part] for part in children(node) if renewed[part] is not part}
        new = build.renew(node, changed).expr if changed else node
        condition = build.row_condition(new)
        if isinstance(new, Mask) and condition is not None:
            known = frozenset(in_order(condition))
            new = _Push(build, rows, condition, known, new.origin).into(new.source)
        renewed[node] = new
    return build.of(renewed[value.expr])


class _Push:
    """Cuts rows by one condition, as far inside of an expression as possible."""

    def __init__(
        self,
        build: Builder,
        rows: _RowSets,
        condition: Expr,
        known: Collection[Expr],
        origin: Origin | None,
    ) -> None:
        self._build = build
        self._rows = rows
        self._condition = condition
        self._known = known
        self._origin = origin
        self._cut: dict[Expr, Expr] = {}

    def into(self, root: Expr) -> Expr:
        for node in in_order(root, parts=self._inner):
            inner = {part: self._cut[part] for part in self._inner(node)}
            if inner:
                self._cut[node] = self._build.renew(node, inner).expr
            else:
                cut = self._build.mask(self._build.of(node), self._build.of(self._condition), self._origin)
                self._cut[node] = cut.expr
        return self._cut[root]

    def _inner(self, node: Expr) -> tuple[Expr, ...]:
        """Parts of the node to cut in its place; none where the node itself must be cut."""
        if node in self._known or not self._rows.is_rowwise(node):
            return ()
        parts = self._rows.parts(node)
        # awkward repeats a part of one row for all rows of another: it has no rows to cut.
        wanted = self._rows.of(self._condition)
        return parts if all(self._rows.of(part) == wanted for part in parts) else ()


class _RowSets:
    """Tells which nodes are bound to have the same rows."""

    def __init__(self, build: Builder) -> None:
        self._build = build
        self._found: dict[Expr, Expr | None] = {}

    def of(self, root: Expr) -> Expr | None:
        """What stands for the rows of a node; equal for nodes with the same rows.

        None for all rows of the tree, a condition for those that pass it, else a node that makes rows.
        """
        if root not in self._found:
            for node in in_order(root):
                if node not in self._found:
                    self._found[node] = self._find(node)
        return self._found[root]

    def _find(self, node: Expr) -> Expr | None:
        if isinstance(node, Column):
            return None
        sets = {self._found[part] for part in self.parts(node)}
        if len(sets) != 1:
            return node
        condition = self._build.row_condition(node)
        if condition is not None:
            return condition
        return sets.pop() if self.is_rowwise(node) else node

    def parts(self, node: Expr) -> tuple[Expr, ...]:
        """The parts of a node that have rows."""
        return tuple(part for part in dict.fromkeys(children(node)) if self._has_rows(part))

    def _has_rows(self, node: Expr) -> bool:
        operand = self._build.of(node).operand
        return not isinstance(operand, Weak) and isinstance(operand, List)

    def is_rowwise(self, node: Expr) -> bool:
        """Whether each row of the node is computed from the same row of its parts, if these have the same."""
        match node:
            case Apply() | Choice() | Field() | Zip() | Align() | Broadcast():
                return True
            case Mask():
                return self._build.row_condition(node) is None and self._is_inside(node.predicate)
            case Index(items=(Expr() as order,)):
                return self._is_inside(order)
            case Index(items=(first, *_)):
                return first == FULL
            case Call(function="from_regular"):
                return True
            case Call(function=name):
                axis = node.option("axis")
                return name in _ROWWISE and isinstance(axis, int) and axis >= 1
            case _:
                return False

    def _is_inside(self, node: Expr) -> bool:
        return depth_of(self._build.of(node).type) > 1
