"""The nodes of a query: one columnar array language for every front end.

Every value is an array whose outermost axis (0) runs over the rows of the input tree, or a single value
after a reduction over that axis. Axes are always explicit. Nodes are immutable and made by a `Graph`, which
gives equal nodes the same identity: what a query uses many times is one node, bound once and computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

from servicex_server.errors import UnsupportedQuery

E = TypeVar("E", bound="Expr")

MAX_NODES = 10_000
MAX_DEPTH = 1_000

Scalar = bool | int | float | str | None
OptionValue = Scalar | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where in the query a node comes from.

    Attributes:
        construct: the operator, function or name as the user wrote it.
        position: offset in the query text; None where the text is not one string.
    """

    construct: str
    position: int | None = None

    def __str__(self) -> str:
        if self.position is None:
            return self.construct
        return f"{self.construct} (at character {self.position + 1} of the query)"


@dataclass(frozen=True, slots=True, eq=False)
class Expr:
    """A node. Compare and hash by identity: a `Graph` never makes the same node twice."""

    origin: Origin | None = field(default=None, kw_only=True, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Table(Expr):
    """The rows of the input tree. Disappears when the plan is bound."""


@dataclass(frozen=True, slots=True, eq=False)
class Column(Expr):
    """One column of the input tree. Appears when the plan is bound."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Field(Expr):
    """The field `name` of records; of the table: the column of that name."""

    source: Expr
    name: str


@dataclass(frozen=True, slots=True, eq=False)
class FieldAt(Expr):
    """The n-th field of records or tuples."""

    source: Expr
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class Literal(Expr):
    """A constant; takes part in numpy's promotion as a Python number does."""

    value: Scalar


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Expr):
    """An elementwise function (a numpy ufunc's name, or one of `function.SPECIAL`) of broadcast operands."""

    function: str
    operands: tuple[Expr, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Expr):
    """`then` where the condition holds, `otherwise` elsewhere."""

    condition: Expr
    then: Expr
    otherwise: Expr


@dataclass(frozen=True, slots=True, eq=False)
class Mask(Expr):
    """Those elements of `source` for which the boolean `predicate` (of the same structure) is true."""

    source: Expr
    predicate: Expr


@dataclass(frozen=True, slots=True)
class Span:
    """`start:stop:step` along one axis."""

    start: int | None = None
    stop: int | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Rest:
    """`...`: all axes that are not named otherwise."""


@dataclass(frozen=True, slots=True)
class NewAxis:
    """`None`: an axis of length one."""


IndexItem = int | Span | Rest | NewAxis | Expr


@dataclass(frozen=True, slots=True, eq=False)
class Index(Expr):
    """`source[items]` with awkward's meaning; a single array item picks elements by position."""

    source: Expr
    items: tuple[IndexItem, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Zip(Expr):
    """Records (or tuples, when `names` is None) of values broadcast against each other.

    Attributes:
        depth_limit: number of axes outside of the records; None zips down to the innermost values.
    """

    names: tuple[str, ...] | None
    values: tuple[Expr, ...]
    depth_limit: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Rename(Expr):
    """The result with its columns named by the query's wrapper. Disappears when the plan is bound."""

    source: Expr
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Align(Expr):
    """Repeats the lists that `source` has at `axis` once per element that `like` has there.

    This makes an outer collection available inside a loop over another one. Numbers need no such
    repetition: they broadcast by themselves, and binding drops the node.
    """

    source: Expr
    like: Expr
    axis: int


@dataclass(frozen=True, slots=True, eq=False)
class Broadcast(Expr):
    """A constant or outer value, repeated for each element of the first `axes` axes of `like`.

    `axes=None` takes all axes of `like`. Constants get their own dtype (int64, float64, bool).
    """

    source: Expr
    like: Expr
    axes: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Call(Expr):
    """An allow-listed array function (see `function.FUNCTIONS`) with its options, axis included."""

    function: str
    arguments: tuple[Expr, ...]
    options: tuple[tuple[str, OptionValue], ...] = ()

    def option(self, name: str) -> OptionValue:
        """The option's value; None when it is not given."""
        return dict(self.options).get(name)


def children(node: Expr) -> Iterator[Expr]:
    """The nodes that this one is computed from."""
    for name in _field_names(type(node)):
        value = getattr(node, name)
        if isinstance(value, Expr):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Expr))


def replace_parts(node: E, parts: Mapping[Expr, Expr]) -> E:
    """The same operation with other nodes in the place of those that are keys of `parts`."""
    changed = {
        name: new
        for name in _field_names(type(node))
        if (new := _replaced(old := getattr(node, name), parts)) is not old
    }
    return replace(node, **changed) if changed else node  # type: ignore[arg-type]  # of the fields' own types


def _replaced(value: object, parts: Mapping[Expr, Expr]) -> object:
    if isinstance(value, Expr):
        return parts.get(value, value)
    if isinstance(value, tuple) and any(isinstance(item, Expr) for item in value):
        return tuple(parts.get(item, item) if isinstance(item, Expr) else item for item in value)
    return value


_FIELD_NAMES: dict[type[Expr], tuple[str, ...]] = {}


def _field_names(kind: type[Expr]) -> tuple[str, ...]:
    if kind not in _FIELD_NAMES:
        _FIELD_NAMES[kind] = tuple(field.name for field in fields(kind) if field.name != "origin")
    return _FIELD_NAMES[kind]


def in_order(*roots: Expr, parts: Callable[[Expr], Iterable[Expr]] = children) -> list[Expr]:
    """Every node once, each after its parts: what it is computed from. Not recursive: plans may be deep."""
    done: dict[Expr, None] = {}
    stack: list[tuple[Expr, Iterator[Expr]]] = [(root, iter(parts(root))) for root in reversed(roots)]
    while stack:
        node, rest = stack[-1]
        if node in done:
            stack.pop()
            continue
        for child in rest:
            if child not in done:
                stack.append((child, iter(parts(child))))
                break
        else:
            done[node] = None
            stack.pop()
    return list(done)


class Graph:
    """Makes nodes, each different one once, and keeps a query within bounds."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[object, ...], Expr] = {}
        self._depths: dict[Expr, int] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def add(self, node: E) -> E:
        """The one node that equals the given one.

        Raises:
            UnsupportedQuery: the query has become too large or too deeply nested.
        """
        key = (type(node), *(_identity(getattr(node, name)) for name in _field_names(type(node))))
        known = self._nodes.get(key)
        if known is not None:
            return known  # type: ignore[return-value]  # the key begins with the node's type
        depth = 1 + max((self._depths[child] for child in children(node)), default=0)
        if len(self._nodes) >= MAX_NODES or depth > MAX_DEPTH:
            message = f"the query is too large: at most {MAX_NODES} operations, {MAX_DEPTH} inside each other"
            raise UnsupportedQuery(message)
        self._nodes[key] = node
        self._depths[node] = depth
        return node


def _identity(value: object) -> object:
    """What makes a node's part the same: 1, 1.0 and True are different constants, and so are 0.0 and -0.0."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, tuple):
        return tuple(_identity(item) for item in value)
    return (type(value).__name__, repr(value))


def canonical_text(roots: Iterable[Expr]) -> str:
    """The same text for equal expressions, in every process; one line per node, inputs before uses."""
    roots = tuple(roots)
    numbers: dict[Expr, int] = {}
    lines = []
    for number, node in enumerate(in_order(*roots)):
        numbers[node] = number
        parts = " ".join(_canonical(getattr(node, name), numbers) for name in _field_names(type(node)))
        lines.append(f"%{number} = {type(node).__name__} {parts}".rstrip())
    lines.append("return " + " ".join(f"%{numbers[root]}" for root in roots))
    return "\n".join(lines)


def _canonical(value: object, numbers: dict[Expr, int]) -> str:
    if isinstance(value, Expr):
        return f"%{numbers[value]}"
    if isinstance(value, tuple):
        return "(" + " ".join(_canonical(item, numbers) for item in value) + ")"
    return repr(value)
