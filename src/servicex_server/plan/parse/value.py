"""What an expression of a func_adl query means while it is lowered, and where it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from servicex_server.errors import QueryError, QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.ir import Expr, Origin
from servicex_server.plan.parse import sexpr

MAX_ITEMS = 20_000


@dataclass(frozen=True, slots=True)
class Array:
    """A columnar value; its first `scope` axes are those of the enclosing lambdas."""

    expr: Expr
    scope: int


@dataclass(frozen=True, slots=True)
class Constant:
    """A number, text, True, False or None."""

    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Structure:
    """A dict, or (names None) a list or tuple.

    Attributes:
        n_items: how many values it holds when all structures in it are counted out; bounded, since a tuple
            of one value and itself doubles with each step.
    """

    names: tuple[str, ...] | None
    values: tuple[Value, ...]
    n_items: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        n_items = sum(item.n_items if isinstance(item, Structure) else 1 for item in self.values)
        if n_items > MAX_ITEMS:
            message = f"a list, tuple or dict holds more than {MAX_ITEMS} values"
            raise UnsupportedQuery(message)
        object.__setattr__(self, "n_items", n_items)


@dataclass(frozen=True, slots=True)
class Numpy:
    """The name `np`."""


Value = Array | Constant | Structure | Numpy


@dataclass(frozen=True, slots=True)
class Scope:
    """Where an expression stands.

    Attributes:
        axes: for each enclosing lambda's axis an array that has this axis and all before it.
        names: what the lambdas' parameters mean.
    """

    axes: tuple[Expr, ...] = ()
    names: Mapping[str, Value] = field(default_factory=dict)


def describe(value: Value) -> str:
    match value:
        case Array():
            return "an array"
        case Constant(value=constant):
            return f"the constant {constant!r:.50}"
        case Structure(names=None):
            return "a list"
        case Structure():
            return "a dict"
        case Numpy():
            return "'np'"


def lambda_parts(node: sexpr.Composite) -> tuple[tuple[str, ...], sexpr.Node]:
    match node.items:
        case (sexpr.Composite(kind="list", items=parameters), body):
            names = tuple(item.name for item in parameters if isinstance(item, sexpr.Name))
            if len(names) == len(parameters) and len(set(names)) == len(names):
                return names, body
    return fail("a lambda is a list of different names and one expression", node, QuerySyntaxError)


def depth_needed(node: sexpr.Node, names: Mapping[str, Value]) -> int:
    """The deepest scope among the outer variables that an expression mentions."""
    depth = 0
    stack = [node]
    while stack:
        match stack.pop():
            case sexpr.Composite(items=items):
                stack.extend(items)
            case sexpr.Name(name=name):
                depth = max(depth, _scope_of(names.get(name)))
            case _:
                pass
    return depth


def _scope_of(value: Value | None) -> int:
    match value:
        case Array(scope=scope):
            return scope
        case Structure(values=values):
            return max(map(_scope_of, values), default=0)
        case _:
            return 0


def fail(problem: str, node: sexpr.Node, kind: type[QueryError] = UnsupportedQuery) -> NoReturn:
    message = f"{problem} (at character {node.position + 1} of the query)"
    if kind is QuerySyntaxError:
        raise QuerySyntaxError(message, position=node.position)
    raise kind(message)


def origin_of(construct: str, node: sexpr.Node) -> Origin:
    return Origin(construct, node.position)
