"""When each column of a bound expression is needed, and for which rows. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from servicex_server.plan.ir import Column, Expr, Mask, children, in_order

Conditions = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ColumnUse:
    """The rows of a column that an expression needs.

    Attributes:
        column: the column's name.
        node: what stands for these rows in the expression: the column, or a chain of row masks on it.
        conditions: of that chain, in order; each is evaluated on the rows that passed those before.
    """

    column: str
    node: Expr
    conditions: Conditions


def find_uses(root: Expr, row_conditions: Collection[Expr]) -> tuple[ColumnUse, ...]:
    """One use for each column: the fewest rows from which all that the expression asks can be had.

    A column that decides the selection is needed whole; one that is only passed on is needed where
    something survives.

    Args:
        root: a bound expression.
        row_conditions: those predicates of masks that keep or drop whole rows.
    """
    nodes = in_order(root)
    chains = _find_chains(nodes, row_conditions)
    demanded: dict[str, list[Conditions]] = {}
    for node in _find_demanded(root, nodes, chains):
        name, conditions = chains[node]
        demanded.setdefault(name, []).append(conditions)
    by_chain = {chain: node for node, chain in chains.items()}
    uses = []
    for name, choices in demanded.items():
        conditions = _common_start(choices)
        uses.append(ColumnUse(name, by_chain[name, conditions], conditions))
    return tuple(uses)


def follow_each_other(row_conditions: Sequence[Expr]) -> bool:
    """Whether each condition is made of rows that passed the one before, and the first of all rows."""
    makers: list[set[Expr]] = [
        {node.predicate for node in in_order(condition) if isinstance(node, Mask)} & set(row_conditions)
        for condition in row_conditions
    ]
    return not any(makers[:1]) and all(
        before in used for before, used in zip(row_conditions, makers[1:], strict=False)
    )


def order_of_evaluation(root: Expr, uses: Iterable[ColumnUse]) -> list[Expr]:
    """The nodes to compute, each after those that it needs; a column's use needs only its conditions."""
    leaves = {use.node: use.conditions for use in uses}
    return in_order(root, parts=lambda node: needs(node, leaves))


def needs(node: Expr, leaves: Mapping[Expr, Conditions]) -> Iterable[Expr]:
    """What must be known before the node can be computed (or, for the use of a column, read)."""
    return leaves[node] if node in leaves else children(node)


def _find_chains(
    nodes: Iterable[Expr], row_conditions: Collection[Expr]
) -> dict[Expr, tuple[str, Conditions]]:
    chains: dict[Expr, tuple[str, Conditions]] = {}
    for node in nodes:
        match node:
            case Column(name=name):
                chains[node] = (name, ())
            case Mask(source=source, predicate=predicate) if source in chains and predicate in row_conditions:
                name, conditions = chains[source]
                chains[node] = (name, (*conditions, predicate))
    return chains


def _find_demanded(
    root: Expr, nodes: Iterable[Expr], chains: Mapping[Expr, tuple[str, Conditions]]
) -> list[Expr]:
    """Links of chains whose rows something else than the chain's next mask uses."""
    demanded: dict[Expr, None] = {}
    for node in nodes:
        parts = (node.predicate,) if isinstance(node, Mask) and node in chains else children(node)
        demanded.update(dict.fromkeys(part for part in parts if part in chains))
    if root in chains:
        demanded[root] = None
    return list(demanded)


def _common_start(choices: Sequence[Conditions]) -> Conditions:
    shortest = min(choices, key=len)
    for length in range(len(shortest), 0, -1):
        if all(choice[:length] == shortest[:length] for choice in choices):
            return shortest[:length]
    return ()
