"""What the patterns of a query choose from a file: columns of a tree, and objects to copy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from servicex_server.plan import pattern
from servicex_server.plan.schema import FileSchema, TreeSchema
from servicex_server.plan.types import Unknown


def filtered_columns(
    filter_name: Sequence[str] | None, filter_typename: Sequence[str] | None, tree: TreeSchema
) -> list[str]:
    """Readable columns that pass both filters; one that groups others only where none of those is taken.

    Args:
        filter_name, filter_typename: patterns, any of which must match; None lets everything pass.
    """
    names = tree.names()
    by_name = pattern.any_of(filter_name)
    by_typename = pattern.any_of(filter_typename)
    matched = [name for name in names if any(map(by_name, (*paths_of(name), f"/{name}")))]
    if filter_typename is not None:
        matched = [name for name in matched if by_typename(tree.typename_of(name))]
    parents = {name[:i] for name in names for i, char in enumerate(name) if char == "/"}
    chosen = set(matched)
    taken: list[str] = []
    for name in matched:
        if name in parents:
            leaves = {leaf for leaf in names if leaf.startswith(f"{name}/") and leaf not in parents}
            if leaves & chosen:
                continue
        if not isinstance(tree.type_of(name), Unknown):
            taken.append(name)
    return taken


def matching_objects(patterns: Iterable[str], schema: FileSchema) -> list[str]:
    """Keys whose name without cycle number matches; of several cycles of one object the latest."""
    matches = pattern.any_of(patterns)
    latest: dict[str, str] = {}
    for key in schema.objects():
        name, _, cycle = key.partition(";")
        if matches(name) and int(cycle or 0) >= int(latest.get(name, key).partition(";")[2] or 0):
            latest[name] = key
    return list(latest.values())


def own_name(name: str) -> str:
    """A column's name without the columns that it lies in.

    >>> own_name("Muon/Muon.pt")
    'Muon.pt'
    """
    return name.rpartition("/")[2]


def paths_of(name: str) -> tuple[str, ...]:
    """What a column may be called: by its path in the tree, or by its own name alone."""
    return (name, own_name(name)) if "/" in name else (name,)
