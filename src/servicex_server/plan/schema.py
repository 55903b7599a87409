"""What a query needs to know of a file: its trees, its columns, their types.

Real files have up to 2,700 branches, so a schema is asked lazily: names are cheap, a type is looked up
for the one column that is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from servicex_server.plan.types import Type, Unknown


class TreeSchema(Protocol):
    """One tree (TTree or RNTuple) of a file."""

    @property
    def name(self) -> str: ...

    @property
    def n_entries(self) -> int: ...

    def names(self) -> Sequence[str]:
        """Names of all columns in file order; columns inside others by path (`jets/jets.pt`). Cheap."""
        ...

    def type_of(self, name: str) -> Type:
        """Type of one column's rows; inspects this column only. The name is one of `names()`."""
        ...

    def typename_of(self, name: str) -> str:
        """The file's own name for the column's type (`std::vector<float>`). Inspects this column only."""
        ...


class FileSchema(Protocol):
    """One file."""

    def tree_names(self) -> Sequence[str]:
        """Names of all trees in file order (with folders, without cycle numbers)."""
        ...

    def tree(self, name: str) -> TreeSchema:
        """The tree of that name. The name is one of `tree_names()`."""
        ...

    def objects(self) -> Mapping[str, str]:
        """Keys of all objects of the file, trees included, and the names of their classes."""
        ...


@dataclass(frozen=True, slots=True)
class MemoryTree:
    """A tree schema held in memory."""

    name: str
    columns: Mapping[str, Type]
    n_entries: int = 0
    typenames: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> Sequence[str]:
        return tuple(self.columns)

    def type_of(self, name: str) -> Type:
        return self.columns[name]

    def typename_of(self, name: str) -> str:
        column = self.columns[name]
        return self.typenames.get(name, column.typename if isinstance(column, Unknown) else str(column))


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """A file schema held in memory."""

    trees: tuple[MemoryTree, ...] = ()
    other_objects: Mapping[str, str] = field(default_factory=dict)

    def tree_names(self) -> Sequence[str]:
        return tuple(tree.name for tree in self.trees)

    def tree(self, name: str) -> TreeSchema:
        return next(tree for tree in self.trees if tree.name == name)

    def objects(self) -> Mapping[str, str]:
        return {**dict.fromkeys(self.tree_names(), "TTree"), **self.other_objects}
