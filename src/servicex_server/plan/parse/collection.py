"""The collection operators of func_adl: each becomes an array operation along the axis of its source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from servicex_server.errors import QuerySyntaxError, QueryTypeError
from servicex_server.plan.ir import Call, E, Expr, Index, IndexItem, Mask, Span, Zip
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.python_text import read_lambda
from servicex_server.plan.parse.value import (
    Array,
    Constant,
    Scope,
    Structure,
    Value,
    depth_needed,
    describe,
    fail,
    lambda_parts,
    origin_of,
)
from servicex_server.plan.pattern import nearest

REDUCTIONS = {"Count": "num", "Sum": "sum", "Min": "min", "Max": "max"}


class Lowering(Protocol):
    """What an operator needs of the lowering that it is part of."""

    def lower(self, node: sexpr.Node, scope: Scope) -> Value:
        """The value of any expression."""
        ...

    def apply(
        self,
        name: str,
        values: Sequence[Value],
        scope: Scope,
        node: sexpr.Composite,
        *,
        folds: bool = True,
    ) -> Value:
        """An elementwise function of values; of constants a constant, unless `folds` is false."""
        ...

    def level(self, values: Sequence[Value], scope: Scope, node: sexpr.Node) -> tuple[tuple[Expr, ...], int]:
        """The values as nodes that have the same lambdas' axes in front, and the number of these."""
        ...

    def align(self, value: Value, depth: int, scope: Scope, node: sexpr.Node) -> Expr:
        """The value with the axes of `depth` lambdas in front."""
        ...

    def fill(self, value: Value, inner: Scope, node: sexpr.Node) -> Expr:
        """A lambda's result, one for each element that the lambda runs over."""
        ...

    def add(self, node: E) -> E:
        """The node as part of the query's graph."""
        ...


@dataclass(frozen=True, slots=True)
class Site:
    """One use of an operator: `items` are its source and its arguments."""

    lowering: Lowering
    name: str
    node: sexpr.Composite
    items: tuple[sexpr.Node, ...]
    scope: Scope


def lower_operator(site: Site) -> Value:
    """The value of the operator.

    Raises:
        UnsupportedQuery: there is no such operator.
    """
    lower = _OPERATORS.get(site.name)
    if lower is None:
        near = nearest(site.name, OPERATOR_NAMES)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        reason = "it is no operator of func_adl"
        if site.name == "Aggregate":
            reason, hint = "it runs code for each element", "; Sum, Count, Min, Max, Any and All are"
        fail(f"'{site.name:.100}' is not supported, because {reason}{hint}", site.node)
    n_items = 1 if site.name in _WITHOUT_ARGUMENT else 2
    if len(site.items) != n_items:
        needed = "a source and nothing else" if n_items == 1 else "a source and one argument"
        fail(f"{site.name} takes {needed}; it got {len(site.items)} items", site.node, QuerySyntaxError)
    return lower(site)


def _source(site: Site, node: sexpr.Node) -> Array:
    value = site.lowering.lower(node, site.scope)
    if not isinstance(value, Array):
        fail(f"{site.name} needs a collection, not {describe(value)}", node, QueryTypeError)
    return value


def _lambda(site: Site) -> tuple[str, sexpr.Node]:
    """The parameter and the body of the lambda that an operator takes."""
    function = site.items[1]
    if isinstance(function, sexpr.Constant) and isinstance(function.value, str) and site.node.kind == "call":
        function = read_lambda(function.value, function.position)
    if not isinstance(function, sexpr.Composite) or function.kind != "lambda":
        fail(f"the argument of {site.name} must be a lambda", function)
    names, body = lambda_parts(function)
    if len(names) != 1:
        problem = f"the lambda of {site.name} must have one parameter, not {len(names)}"
        fail(problem, function, QuerySyntaxError)
    return names[0], body


def _enter(site: Site) -> tuple[Array, Scope, sexpr.Node]:
    """The collection that a lambda runs over, and the scope and node of the lambda's body."""
    name, body = _lambda(site)
    source = _source(site, site.items[0])
    # Only a body that looks at inner variables makes us repeat an outer collection for each of them.
    depth = max(source.scope, depth_needed(body, site.scope.names))
    expr = site.lowering.align(source, depth, site.scope, site.items[0])
    variable = Array(expr, depth + 1)
    inner = Scope((*site.scope.axes[:depth], expr), {**site.scope.names, name: variable})
    return Array(expr, depth), inner, body


def _call(site: Site, function: str, source: Array, *, axis: int, n: int | None = None) -> Array:
    options = (("axis", axis),) if n is None else (("axis", axis), ("n", n))
    call = Call(function, (source.expr,), options, origin=origin_of(site.name, site.node))
    return Array(site.lowering.add(call), source.scope)


def _selected(site: Site) -> Array:
    """The lambda's results, in the place of the elements that it runs over."""
    source, inner, body = _enter(site)
    return Array(site.lowering.fill(site.lowering.lower(body, inner), inner, site.node), source.scope)


def _select(site: Site) -> Value:
    """As `_selected`; over a dict, list or tuple the lambda's parameter is that one value."""
    structure = None
    if isinstance(site.items[0], sexpr.Composite) and site.items[0].kind in {"list", "dict"}:
        structure = site.lowering.lower(site.items[0], site.scope)
    if not isinstance(structure, Structure):
        return _selected(site)
    name, body = _lambda(site)
    result = site.lowering.lower(body, Scope(site.scope.axes, {**site.scope.names, name: structure}))
    if not isinstance(result, Structure) or not result.values:
        return result
    # func_adl_uproot takes the result for one of a loop over what the structure holds.
    values, depth = site.lowering.level(result.values, site.scope, site.node)
    limit = None if len(values) == 1 else depth + 1
    zipped = Zip(result.names, values, limit, origin=origin_of("Select", site.node))
    return Array(site.lowering.add(zipped), depth)


def _select_many(site: Site) -> Array:
    selected = _selected(site)
    return _call(site, "flatten", selected, axis=selected.scope + 1)


def _where(site: Site) -> Array:
    source, inner, body = _enter(site)
    predicate = site.lowering.lower(body, inner)
    if isinstance(predicate, Structure):
        fail("the predicate of Where must be one condition", body, QueryTypeError)
    condition = site.lowering.fill(predicate, inner, site.node)
    mask = Mask(source.expr, condition, origin=origin_of("Where", site.node))
    return Array(site.lowering.add(mask), source.scope)


def _quantifier(site: Site) -> Array:
    found = _selected(site)
    return _call(site, site.name.lower(), found, axis=found.scope)


def _reduction(site: Site) -> Array:
    source = _source(site, site.items[0])
    return _call(site, REDUCTIONS[site.name], source, axis=source.scope)


def _sort(site: Site) -> Array:
    source, inner, body = _enter(site)
    key = site.lowering.fill(site.lowering.lower(body, inner), inner, site.node)
    options = (("ascending", site.name == "OrderBy"), ("axis", source.scope), ("stable", True))
    origin = origin_of(site.name, site.node)
    order = site.lowering.add(Call("argsort", (key,), options, origin=origin))
    return Array(site.lowering.add(Index(source.expr, (order,), origin=origin)), source.scope)


def _whole_number(site: Site) -> int:
    value = site.lowering.lower(site.items[1], site.scope)
    if not isinstance(value, Constant) or not isinstance(value.value, int) or isinstance(value.value, bool):
        fail(f"the argument of {site.name} must be a whole number", site.items[1])
    return value.value


def _element(site: Site) -> Array:
    match site.name:
        case "First":
            index = 0
        case "Last":
            index = -1
        case _:
            index = _whole_number(site)
    source = _source(site, site.items[0])
    picks: tuple[IndexItem, ...] = (*(Span() for _ in range(source.scope)), index)
    picked = Index(source.expr, picks, origin=origin_of(site.name, site.node))
    return Array(site.lowering.add(picked), source.scope)


def _zip(site: Site) -> Array:
    source = site.lowering.lower(site.items[0], site.scope)
    if not isinstance(source, Structure) or not source.values:
        fail("Zip needs a dict, list or tuple of collections", site.items[0])
    values, depth = site.lowering.level(source.values, site.scope, site.node)
    zipped = Zip(source.names, values, depth + 1, origin=origin_of("Zip", site.node))
    return Array(site.lowering.add(zipped), depth)


def _concatenate(site: Site) -> Array:
    sources = [_source(site, item) for item in site.items]
    values, depth = site.lowering.level(sources, site.scope, site.node)
    joined = Call("concatenate", values, (("axis", depth),), origin=origin_of("Concat", site.node))
    return Array(site.lowering.add(joined), depth)


def _choose(site: Site) -> Array:
    source = _source(site, site.items[0])
    n = _whole_number(site)
    if n < 1:
        fail("Choose takes at least 1 element", site.items[1])
    return _call(site, "choose", source, axis=source.scope, n=n)


def _contains(site: Site) -> Value:
    source, value = (site.lowering.lower(item, site.scope) for item in site.items)
    for candidates, wanted in ((source, value), (value, source)):
        if isinstance(candidates, Structure) and candidates.values:
            return _is_one_of(site, candidates, wanted)
    if not isinstance(source, Array):
        fail(f"Contains needs a collection, not {describe(source)}", site.items[0], QueryTypeError)
    # The axis that is searched is the source's own; a value of an inner loop is looked up in each.
    values, depth = site.lowering.level((source, value), site.scope, site.node)
    found = Call("contains", values, (("axis", depth),), origin=origin_of("Contains", site.node))
    return Array(site.lowering.add(found), depth)


def _is_one_of(site: Site, candidates: Structure, wanted: Value) -> Value:
    lowering, scope, node = site.lowering, site.scope, site.node
    result: Value | None = None
    for candidate in candidates.values:
        found = lowering.apply("equal", [candidate, wanted], scope, node)
        result = found if result is None else lowering.apply("logical_or", [result, found], scope, node)
    return result if result is not None else Constant(value=False)


_OPERATORS: Mapping[str, Callable[[Site], Value]] = {
    "Select": _select,
    "SelectMany": _select_many,
    "Where": _where,
    "Any": _quantifier,
    "All": _quantifier,
    "OrderBy": _sort,
    "OrderByDescending": _sort,
    "First": _element,
    "Last": _element,
    "ElementAt": _element,
    "Zip": _zip,
    "Concat": _concatenate,
    "Choose": _choose,
    "Contains": _contains,
    **dict.fromkeys(REDUCTIONS, _reduction),
}
OPERATOR_NAMES = tuple(_OPERATORS)
_WITHOUT_ARGUMENT = frozenset({"First", "Last", "Zip", *REDUCTIONS})
