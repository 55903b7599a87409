"""The trees that a query names, and those that a file has."""

from __future__ import annotations

from collections.abc import Sequence

from servicex_server.errors import UnknownTree
from servicex_server.plan import pattern
from servicex_server.plan.plan import BoundPlan
from servicex_server.plan.schema import FileSchema

_SHOWN = 5


def find_tree(wanted: str, schema: FileSchema) -> str | None:
    """The tree's name in the file; cycle numbers and a leading slash do not count."""
    names = schema.tree_names()
    if wanted in names:
        return wanted
    bare = wanted.partition(";")[0].strip("/")
    return next((name for name in names if name.partition(";")[0].strip("/") == bare), None)


def require_some_tree(bound: BoundPlan, schema: FileSchema) -> None:
    """Refuses a file of which the query takes nothing, because it has none of the trees that are named.

    A query that tolerates missing trees passes `bind` there; that all of them are missing is more often a
    misspelt name.

    Raises:
        UnknownTree: carries the nearest trees that exist.
    """
    if bound.missing_trees and not bound.outputs and not bound.copied_objects:
        raise unknown_tree(bound.missing_trees, schema)


def unknown_tree(wanted: Sequence[str], schema: FileSchema) -> UnknownTree:
    """What to tell whoever asks for these trees, none of which the file has."""
    names = tuple(schema.tree_names())
    near = tuple(dict.fromkeys(close for name in wanted[:_SHOWN] for close in pattern.nearest(name, names)))
    near = (near or names)[:_SHOWN]
    hint = f"; its trees: {', '.join(near)}" if near else "; it holds no tree"
    asked = " or ".join(f"'{name}'" for name in wanted[:_SHOWN])
    return UnknownTree(f"no tree {asked} in the file{hint}", name=wanted[0], nearest=near)
