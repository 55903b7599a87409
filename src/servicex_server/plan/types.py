"""Types of values in a query, in awkward's terms.

A column's type says what one row holds: `MET_pt` is `Number("float32")`, `Muon_pt` a list of those.
Inside a bound plan the rows themselves are one more list around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Number:
    """A number with its numpy dtype name in native byte order (`float32`, `int64`, `complex128`)."""

    dtype: str

    def __str__(self) -> str:
        return self.dtype


@dataclass(frozen=True, slots=True)
class Bool:
    """True or False."""

    def __str__(self) -> str:
        return "bool"


@dataclass(frozen=True, slots=True)
class String:
    """Text."""

    def __str__(self) -> str:
        return "string"


@dataclass(frozen=True, slots=True)
class List:
    """Several values of one type; `size` is set when every list has that same length."""

    content: Type
    size: int | None = None

    def __str__(self) -> str:
        return f"{'var' if self.size is None else self.size} * {self.content}"


@dataclass(frozen=True, slots=True)
class Option:
    """A value that may be missing."""

    content: Type

    def __str__(self) -> str:
        return f"?{self.content}" if not isinstance(self.content, List) else f"option[{self.content}]"


@dataclass(frozen=True, slots=True)
class Record:
    """Named fields in order; a tuple's fields are named "0", "1", …

    Attributes:
        name: the kind of vector that the records are (`vector.KINDS`); None for plain records.
        n_columns: how many values one record holds when all records in it are counted out.
    """

    fields: tuple[tuple[str, Type], ...]
    is_tuple: bool = False
    name: str | None = None
    n_columns: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_columns", sum(n_columns_of(content) for _, content in self.fields))

    def __str__(self) -> str:
        if self.name is not None:
            return self.name + "[" + ", ".join(f"{name}: {content}" for name, content in self.fields) + "]"
        if self.is_tuple:
            return f"({', '.join(str(content) for _, content in self.fields)})"
        return "{" + ", ".join(f"{name}: {content}" for name, content in self.fields) + "}"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.fields)

    def find_field(self, name: str) -> Type | None:
        """The type of a field, or None if there is no such field."""
        return next((content for field, content in self.fields if field == name), None)


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that can be passed on unchanged at best; `typename` is the file's own name for it."""

    typename: str

    def __str__(self) -> str:
        return f"unknown[{self.typename}]"


Type = Number | Bool | String | List | Option | Record | Unknown


def strip_option(value: Type) -> Type:
    """The type without the possibility of being missing."""
    return value.content if isinstance(value, Option) else value


def depth_of(value: Type) -> int:
    """How many lists are nested from the outside; records, numbers and strings hold none."""
    depth = 0
    value = strip_option(value)
    while isinstance(value, List):
        depth += 1
        value = strip_option(value.content)
    return depth


def leaf_of(value: Type) -> Type:
    """What is inside the nested lists, without options."""
    value = strip_option(value)
    while isinstance(value, List):
        value = strip_option(value.content)
    return value


def n_columns_of(value: Type) -> int:
    """How many values of one leaf type an element is made of."""
    leaf = leaf_of(value)
    return leaf.n_columns if isinstance(leaf, Record) else 1


def without_names(value: Type) -> Type:
    """The type with vectors as plain records."""
    match value:
        case List(content=content, size=size):
            return List(without_names(content), size)
        case Option(content=content):
            return Option(without_names(content))
        case Record(fields=fields, is_tuple=is_tuple):
            return Record(tuple((name, without_names(content)) for name, content in fields), is_tuple)
        case _:
            return value
