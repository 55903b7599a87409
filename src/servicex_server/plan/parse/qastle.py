"""func_adl queries in their text form (generator `uproot`) to the nodes of `ir`.

A lambda is not a function here: its parameter is bound to the columnar value of what it runs over, and its
body is lowered once, for all elements together. Each lambda adds one axis, so a value carries its `scope`:
how many of the enclosing lambdas' axes its array has in front. A value of an outer lambda that holds lists
of its own is repeated along the axes of the inner ones (`Align`); numbers broadcast by themselves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from servicex_server.errors import QueryError, QuerySyntaxError, QueryTypeError, UnknownName, UnsupportedQuery
from servicex_server.plan import function
from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    E,
    Expr,
    Field,
    FieldAt,
    Graph,
    Index,
    IndexItem,
    Literal,
    Mask,
    Origin,
    Rename,
    Span,
    Table,
    Zip,
)
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.fold import check_size, fold, is_foldable
from servicex_server.plan.pattern import nearest
from servicex_server.plan.plan import ExpressionQuery

UNARY_OPERATORS = {"+": "positive", "-": "negative", "not": "logical_not", "~": "invert"}
BINARY_OPERATORS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "**": "power",
    "//": "floor_divide", "&": "bitwise_and", "|": "bitwise_or", "^": "bitwise_xor", "<<": "left_shift",
    ">>": "right_shift", "and": "logical_and", "or": "logical_or", "==": "equal", "!=": "not_equal",
    "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
REDUCTIONS = {"Count": "num", "Sum": "sum", "Min": "min", "Max": "max"}
QUERY_METHODS = (
    "Where", "Select", "SelectMany", "First", "Last", "ElementAt", "Contains", "Count", "Max", "Min", "Sum", "All",
    "Any", "Concat", "Zip", "OrderBy", "OrderByDescending", "Choose",
)  # fmt: skip
RESULT_WRAPPERS = frozenset(
    {
        "ResultTTree", "ResultParquet", "ResultAwkwardArray", "ResultPandasDF", "AsROOTTTree", "AsParquetFiles",
        "AsAwkwardArray", "AsPandasDF",
    }
)  # fmt: skip
NUMPY_NAMES = frozenset({"np", "numpy"})
NUMPY_CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "nan": math.nan}


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
    """A dict, or (names None) a list or tuple."""

    names: tuple[str, ...] | None
    values: tuple[Value, ...]


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


def lower_query(node: sexpr.Node, tree_name: str | None) -> ExpressionQuery:
    """The query as an expression over one tree.

    Args:
        node: the parsed text.
        tree_name: the tree if the query itself names none.
    """
    lowering = _Lowering()
    try:
        value = lowering.lower(node, Scope())
    except RecursionError as error:
        message = "the query is nested too deeply"
        raise QuerySyntaxError(message) from error
    if not isinstance(value, Array) or not lowering.has_table:
        message = "the query does not say what to read: it must begin with EventDataset()"
        raise UnsupportedQuery(message)
    return ExpressionQuery(lowering.tree or tree_name, value.expr)


def _fail(problem: str, node: sexpr.Node, kind: type[QueryError] = UnsupportedQuery) -> NoReturn:
    message = f"{problem} (at character {node.position + 1} of the query)"
    if kind is QuerySyntaxError:
        raise QuerySyntaxError(message, position=node.position)
    raise kind(message)


class _Lowering:
    """Lowers one query; holds its graph and the tree that it reads."""

    def __init__(self) -> None:
        self._graph = Graph()
        self.tree: str | None = None
        self.has_table = False

    def lower(self, node: sexpr.Node, scope: Scope) -> Value:
        """The value of any expression."""
        match node:
            case sexpr.Constant(value=value):
                return Constant(check_size(value))
            case sexpr.Name():
                return self._name(node, scope)
            case sexpr.Composite(kind="list", items=items):
                return Structure(None, tuple(self.lower(item, scope) for item in items))
            case sexpr.Composite(kind="dict"):
                return self._dict(node, scope)
            case sexpr.Composite(kind="attr"):
                return self._attribute(node, scope)
            case sexpr.Composite(kind="subscript"):
                return self._subscript(node, scope)
            case sexpr.Composite(kind="if"):
                return self._conditional(node, scope)
            case sexpr.Composite(kind="call"):
                return self._call(node, scope)
            case sexpr.Composite(kind=kind) if kind in UNARY_OPERATORS or kind in BINARY_OPERATORS:
                return self._operator(node, scope)
            case sexpr.Composite(kind="lambda"):
                _fail("a lambda stands where a value is needed", node)
            case sexpr.Composite(kind=kind, items=items):
                return self._method(kind, node, items, scope)

    # -- plain expressions -------------------------------------------------------------------------------

    def _name(self, node: sexpr.Name, scope: Scope) -> Value:
        if node.name in scope.names:
            return scope.names[node.name]
        if node.name in NUMPY_NAMES:
            return Numpy()
        near = nearest(node.name, tuple(scope.names))
        hint = f"; nearest: {', '.join(near)}" if near else ""
        message = f"no lambda defines '{node.name}'{hint} (at character {node.position + 1} of the query)"
        raise UnknownName(message, name=node.name, nearest=near)

    def _dict(self, node: sexpr.Composite, scope: Scope) -> Structure:
        match node.items:
            case (sexpr.Composite(kind="list", items=keys), sexpr.Composite(kind="list", items=values)):
                pass
            case _:
                _fail("a dict must be two lists, of keys and of values", node, QuerySyntaxError)
        names = [key.value for key in keys if isinstance(key, sexpr.Constant) and isinstance(key.value, str)]
        if len(names) != len(keys) or len(set(names)) != len(names):
            _fail("the keys of a dict must be different strings", node)
        if len(names) != len(values):
            _fail(f"a dict has {len(names)} keys but {len(values)} values", node, QuerySyntaxError)
        return Structure(tuple(names), tuple(self.lower(value, scope) for value in values))

    def _attribute(self, node: sexpr.Composite, scope: Scope) -> Value:
        source, name = self._two_items(node)
        if not isinstance(name, sexpr.Constant) or not isinstance(name.value, str):
            _fail("the name of an attribute must be a string", node, QuerySyntaxError)
        return self._field(self.lower(source, scope), name.value, node)

    def _field(self, value: Value, name: str, node: sexpr.Node) -> Value:
        match value:
            case Array(expr=expr, scope=depth):
                return Array(self._add(Field(expr, name, origin=Origin(f"'{name}'", node.position))), depth)
            case Structure(names=names, values=values) if names is not None:
                if name in names:
                    return values[names.index(name)]
                _fail(f"the dict has no key '{name}'; its keys are {', '.join(names)}", node, QueryTypeError)
            case Numpy() if name in NUMPY_CONSTANTS:
                return Constant(NUMPY_CONSTANTS[name])
            case _:
                _fail(f"'{name}' cannot be taken from {_describe(value)}", node)

    def _subscript(self, node: sexpr.Composite, scope: Scope) -> Value:
        source, index = (self.lower(item, scope) for item in self._two_items(node))
        match source, index:
            case _, Constant(value=str(name)):
                return self._field(source, name, node)
            case Structure(values=values), Constant(value=int(number)):
                if not -len(values) <= number < len(values):
                    _fail(f"there is no item {number}: the list has {len(values)}", node, QueryTypeError)
                return values[number]
            case Array(expr=expr, scope=depth), Constant(value=int(number)) if not isinstance(number, bool):
                return Array(self._add(FieldAt(expr, number, origin=_origin(f"[{number}]", node))), depth)
            case Array(scope=depth), Array():
                (left, right), _ = self._level((source, index), scope, node)
                return Array(self._add(Index(left, (right,), origin=_origin("[…]", node))), depth)
            case _:
                _fail(f"{_describe(source)} cannot be subscripted with {_describe(index)}", node)

    def _operator(self, node: sexpr.Composite, scope: Scope) -> Value:
        if len(node.items) == 1 and node.kind in UNARY_OPERATORS:
            return self._apply(UNARY_OPERATORS[node.kind], [self.lower(node.items[0], scope)], scope, node)
        if node.kind not in BINARY_OPERATORS or len(node.items) != 2:
            n_needed = 2 if node.kind in BINARY_OPERATORS else 1
            _fail(f"'{node.kind}' takes {n_needed} operands, not {len(node.items)}", node, QuerySyntaxError)
        name = BINARY_OPERATORS[node.kind]
        # Long chains (`a or b or c …`) nest on one side; walking them in a loop keeps the recursion flat.
        chain: list[sexpr.Composite] = [node]
        while _is_binary(chain[-1].items[0]):
            chain.append(chain[-1].items[0])  # type: ignore[arg-type]  # checked by _is_binary
        result = self.lower(chain[-1].items[0], scope)
        for link in reversed(chain):
            right = self._right_chain(link, scope)
            result = self._apply(BINARY_OPERATORS[link.kind], [result, right], scope, link)
        del name
        return result

    def _right_chain(self, node: sexpr.Composite, scope: Scope) -> Value:
        """The right operand; where it is itself a long chain to the right, from its end backwards."""
        chain = [node]
        while _is_binary(chain[-1].items[1]):
            chain.append(chain[-1].items[1])  # type: ignore[arg-type]  # checked by _is_binary
        result = self.lower(chain[-1].items[1], scope)
        for link in reversed(chain[1:]):
            left = self.lower(link.items[0], scope)
            result = self._apply(BINARY_OPERATORS[link.kind], [left, result], scope, link)
        return result

    def _apply(self, name: str, values: Sequence[Value], scope: Scope, node: sexpr.Composite) -> Value:
        symbol = node.kind if node.kind != "call" else name
        constants = [value.value for value in values if isinstance(value, Constant)]
        if len(constants) == len(values) and is_foldable(name):
            return Constant(fold(name, constants, symbol))
        operands, depth = self._level(values, scope, node)
        return Array(self._add(Apply(name, operands, origin=_origin(f"'{symbol}'", node))), depth)

    def _conditional(self, node: sexpr.Composite, scope: Scope) -> Value:
        if len(node.items) != 3:
            _fail("'if' takes a condition and two values", node, QuerySyntaxError)
        values = [self.lower(item, scope) for item in node.items]
        if isinstance(values[0], Constant):
            return values[1] if values[0].value else values[2]
        (condition, *branches), depth = self._level(values, scope, node)
        origin = _origin("'if'", node)
        then, otherwise = (
            self._add(Broadcast(branch, condition, None, origin=origin))
            if isinstance(branch, Literal)
            else branch
            for branch in branches
        )
        return Array(self._add(Choice(condition, then, otherwise, origin=origin)), depth)

    # -- calls -------------------------------------------------------------------------------------------

    def _call(self, node: sexpr.Composite, scope: Scope) -> Value:
        if not node.items:
            _fail("a call needs something to call", node, QuerySyntaxError)
        target, arguments = node.items[0], node.items[1:]
        match target:
            case sexpr.Name(name=name):
                return self._call_name(name, node, arguments, scope)
            case sexpr.Composite(kind="lambda"):
                return self._call_lambda(target, arguments, scope)
            case sexpr.Composite(kind="attr", items=(source, sexpr.Constant(value=str(name)))):
                if name in QUERY_METHODS:
                    return self._method(name, node, (source, *arguments), scope)
                if isinstance(source, sexpr.Name) and source.name in NUMPY_NAMES:
                    return self._call_numpy(name, node, arguments, scope)
                _fail(f"the method '{name}' is not supported", target)
            case _:
                _fail("this cannot be called", target)

    def _call_name(
        self, name: str, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope
    ) -> Value:
        if name == "EventDataset":
            return self._dataset(node, arguments)
        if name in QUERY_METHODS or name == "Aggregate":
            return self._method(name, node, arguments, scope)
        if name == "MetaData" and arguments:
            return self.lower(arguments[0], scope)
        if name in RESULT_WRAPPERS and arguments:
            return self._wrapper(name, node, arguments, scope)
        if name == "abs":
            return self._call_numpy(name, node, arguments, scope)
        known = (*QUERY_METHODS, "abs", "EventDataset")
        near = nearest(name, known)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        _fail(f"the function '{name}' is not supported{hint}", node)

    def _call_lambda(self, target: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope) -> Value:
        names, body = _lambda_parts(target)
        if len(names) != len(arguments):
            _fail(
                f"a lambda of {len(names)} parameters is called with {len(arguments)}",
                target,
                QuerySyntaxError,
            )
        values = (self.lower(argument, scope) for argument in arguments)
        return self.lower(body, Scope(scope.axes, {**scope.names, **dict(zip(names, values, strict=True))}))

    def _call_numpy(
        self, name: str, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope
    ) -> Value:
        elementwise = function.NUMPY_FUNCTIONS.get(name)
        if elementwise is None:
            near = nearest(name, tuple(function.NUMPY_FUNCTIONS))
            hint = f"; nearest: {', '.join(near)}" if near else ""
            _fail(f"the function 'np.{name}' is not supported{hint}", node)
        n_operands = function.arity_of(elementwise)
        if len(arguments) != n_operands:
            _fail(f"'{name}' takes {n_operands} arguments, not {len(arguments)}", node, QuerySyntaxError)
        return self._apply(elementwise, [self.lower(item, scope) for item in arguments], scope, node)

    def _dataset(self, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...]) -> Array:
        if len(arguments) > 2:
            _fail(f"EventDataset takes at most two arguments, not {len(arguments)}", node)
        tree: object = None
        if len(arguments) == 2:
            if not isinstance(arguments[1], sexpr.Constant) or not isinstance(arguments[1].value, str | None):
                _fail("the tree name of EventDataset must be a string", arguments[1])
            tree = arguments[1].value
        if self.has_table and tree != self.tree:
            _fail("the query reads two different trees", node)
        self.tree = tree if isinstance(tree, str) else None
        self.has_table = True
        return Array(self._add(Table()), 0)

    def _wrapper(
        self, name: str, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope
    ) -> Value:
        value = self.lower(arguments[0], scope)
        if not isinstance(value, Array) or len(arguments) < 2:
            return value
        match self.lower(arguments[1], scope):
            case Constant(value=str(column)):
                columns: tuple[str, ...] = (column,)
            case Structure(values=values):
                columns = tuple(
                    item.value
                    for item in values
                    if isinstance(item, Constant) and isinstance(item.value, str)
                )
            case _:
                columns = ()
        if not columns:
            return value
        return Array(self._add(Rename(value.expr, columns, origin=_origin(name, node))), value.scope)

    # -- collections -------------------------------------------------------------------------------------

    def _method(self, name: str, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Value:
        lower = _METHODS.get(name)
        if lower is None:
            near = nearest(name, QUERY_METHODS)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            if name == "Aggregate":
                hint = "; Sum, Count, Min, Max, Any and All are"
            _fail(f"'{name}' is not supported{hint}", node)
        n_items = 2 if name in _TWO_ITEM_METHODS else 1
        if len(items) != n_items:
            needed = "nothing" if n_items == 1 else "one argument"
            _fail(f"{name} takes a source and {needed}; it got {len(items)} items", node, QuerySyntaxError)
        return lower(self, node, items, scope)

    def _source(self, node: sexpr.Node, name: str, scope: Scope) -> Array:
        value = self.lower(node, scope)
        if not isinstance(value, Array):
            _fail(f"{name} needs a collection, not {_describe(value)}", node, QueryTypeError)
        return value

    def _enter(
        self, name: str, items: tuple[sexpr.Node, ...], scope: Scope
    ) -> tuple[Array, Scope, sexpr.Node]:
        """The collection that a lambda runs over, and the scope and node of the lambda's body."""
        if not isinstance(items[1], sexpr.Composite) or items[1].kind != "lambda":
            _fail(f"the argument of {name} must be a lambda", items[1])
        names, body = _lambda_parts(items[1])
        if len(names) != 1:
            _fail(
                f"the lambda of {name} must have one parameter, not {len(names)}", items[1], QuerySyntaxError
            )
        source = self._source(items[0], name, scope)
        # Only a body that looks at inner variables makes us repeat an outer collection for each of them.
        depth = max(source.scope, _depth_needed(body, scope.names))
        expr = self._align(source, depth, scope, items[0])
        inner = Scope((*scope.axes[:depth], expr), {**scope.names, names[0]: Array(expr, depth + 1)})
        return Array(expr, depth), inner, body

    def _select(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source, inner, body = self._enter("Select", items, scope)
        return Array(self._fill(self.lower(body, inner), inner, node), source.scope)

    def _select_many(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        selected = self._select(node, items, scope)
        return self._call_array("flatten", "SelectMany", selected, node, axis=selected.scope + 1)

    def _where(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source, inner, body = self._enter("Where", items, scope)
        predicate = self.lower(body, inner)
        if isinstance(predicate, Structure):
            _fail("the predicate of Where must be one condition", body, QueryTypeError)
        condition = self._fill(predicate, inner, node)
        return Array(self._add(Mask(source.expr, condition, origin=_origin("Where", node))), source.scope)

    def _quantifier(
        self, name: str, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope
    ) -> Array:
        source, inner, body = self._enter(name, items, scope)
        predicate = Array(self._fill(self.lower(body, inner), inner, node), source.scope)
        return self._call_array(name.lower(), name, predicate, node, axis=source.scope)

    def _any(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._quantifier("Any", node, items, scope)

    def _all(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._quantifier("All", node, items, scope)

    def _reduce(self, name: str, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source = self._source(items[0], name, scope)
        return self._call_array(REDUCTIONS[name], name, source, node, axis=source.scope)

    def _order(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._sort("OrderBy", node, items, scope)

    def _order_descending(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._sort("OrderByDescending", node, items, scope)

    def _sort(self, name: str, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source, inner, body = self._enter(name, items, scope)
        key = self._fill(self.lower(body, inner), inner, node)
        options = (("ascending", name == "OrderBy"), ("axis", source.scope), ("stable", True))
        origin = _origin(name, node)
        order = self._add(Call("argsort", (key,), options, origin=origin))
        return Array(self._add(Index(source.expr, (order,), origin=origin)), source.scope)

    def _first(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._element("First", 0, node, items, scope)

    def _last(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        return self._element("Last", -1, node, items, scope)

    def _element_at(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        index = self.lower(items[1], scope)
        if (
            not isinstance(index, Constant)
            or not isinstance(index.value, int)
            or isinstance(index.value, bool)
        ):
            _fail("the index of ElementAt must be a whole number", items[1])
        return self._element("ElementAt", index.value, node, items, scope)

    def _element(
        self, name: str, index: int, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope
    ) -> Array:
        source = self._source(items[0], name, scope)
        picks: tuple[IndexItem, ...] = (*(Span() for _ in range(source.scope)), index)
        return Array(self._add(Index(source.expr, picks, origin=_origin(name, node))), source.scope)

    def _zip(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source = self.lower(items[0], scope)
        if not isinstance(source, Structure) or not source.values:
            _fail("Zip needs a dict, list or tuple of collections", items[0])
        values, depth = self._level(source.values, scope, node)
        return Array(self._add(Zip(source.names, values, depth + 1, origin=_origin("Zip", node))), depth)

    def _concatenate(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        sources = [self._source(item, "Concat", scope) for item in items]
        values, depth = self._level(sources, scope, node)
        options = (("axis", depth),)
        return Array(self._add(Call("concatenate", values, options, origin=_origin("Concat", node))), depth)

    def _choose(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Array:
        source = self._source(items[0], "Choose", scope)
        count = self.lower(items[1], scope)
        if not isinstance(count, Constant) or not isinstance(count.value, int) or count.value < 1:
            _fail("the number of Choose must be a whole number above 0", items[1])
        return self._call_array("choose", "Choose", source, node, axis=source.scope, n=count.value)

    def _contains(self, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope) -> Value:
        source, value = (self.lower(item, scope) for item in items)
        for candidates, wanted in ((source, value), (value, source)):
            if isinstance(candidates, Structure) and candidates.values:
                found = [self._apply("equal", [item, wanted], scope, node) for item in candidates.values]
                result = found[0]
                for other in found[1:]:
                    result = self._apply("logical_or", [result, other], scope, node)
                return result
        if not isinstance(source, Array):
            _fail(f"Contains needs a collection, not {_describe(source)}", items[0], QueryTypeError)
        (left, right), depth = self._level((source, value), scope, node)
        options = (("axis", depth),)
        return Array(
            self._add(Call("contains", (left, right), options, origin=_origin("Contains", node))), depth
        )

    # -- axes --------------------------------------------------------------------------------------------

    def _level(self, values: Sequence[Value], scope: Scope, node: sexpr.Node) -> tuple[tuple[Expr, ...], int]:
        """The values as nodes that have the same lambdas' axes in front, and the number of these."""
        depth = max((value.scope for value in values if isinstance(value, Array)), default=0)
        return tuple(self._align(value, depth, scope, node) for value in values), depth

    def _align(self, value: Value, depth: int, scope: Scope, node: sexpr.Node) -> Expr:
        match value:
            case Array(expr=expr, scope=start):
                for axis in range(start, depth):
                    expr = self._add(
                        Align(expr, scope.axes[axis], axis, origin=_origin("the inner loop", node))
                    )
                return expr
            case Constant(value=constant):
                return self._add(Literal(constant, origin=_origin(repr(constant), node)))
            case Structure():
                return self._zip_structure(value, depth, scope, node)
            case Numpy():
                _fail("'np' is not a value", node)

    def _zip_structure(self, value: Structure, depth: int, scope: Scope, node: sexpr.Node) -> Expr:
        if not value.values:
            _fail("an empty dict, list or tuple has no columns", node)
        values = tuple(self._align(item, depth, scope, node) for item in value.values)
        limit = None if len(values) == 1 else max(depth, 1)
        return self._add(Zip(value.names, values, limit, origin=_origin(_describe(value), node)))

    def _fill(self, value: Value, inner: Scope, node: sexpr.Node) -> Expr:
        """The lambda's result, one for each element that the lambda runs over."""
        depth = len(inner.axes)
        if isinstance(value, Structure):
            filled = tuple(self._fill(item, inner, node) for item in value.values)
            if not filled:
                _fail("an empty dict, list or tuple has no columns", node)
            limit = None if len(filled) == 1 else depth
            return self._add(Zip(value.names, filled, limit, origin=_origin(_describe(value), node)))
        expr = self._align(value, depth, inner, node)
        if isinstance(value, Constant) or (isinstance(value, Array) and value.scope < depth):
            expr = self._add(
                Broadcast(expr, inner.axes[-1], depth, origin=_origin("the lambda's result", node))
            )
        return expr

    def _call_array(
        self, name: str, shown: str, source: Array, node: sexpr.Node, **options: bool | int
    ) -> Array:
        call = Call(name, (source.expr,), tuple(sorted(options.items())), origin=_origin(shown, node))
        return Array(self._add(call), source.scope)

    def _two_items(self, node: sexpr.Composite) -> tuple[sexpr.Node, sexpr.Node]:
        if len(node.items) != 2:
            _fail(f"'{node.kind}' takes two items, not {len(node.items)}", node, QuerySyntaxError)
        return node.items[0], node.items[1]

    def _add(self, node: E) -> E:
        return self._graph.add(node)


_Method = Callable[[_Lowering, sexpr.Composite, tuple[sexpr.Node, ...], Scope], Value]


def _reduction(name: str) -> _Method:
    def lower(
        lowering: _Lowering, node: sexpr.Composite, items: tuple[sexpr.Node, ...], scope: Scope
    ) -> Value:
        return lowering._reduce(name, node, items, scope)

    return lower


_METHODS: Mapping[str, _Method] = {
    "Select": _Lowering._select,
    "SelectMany": _Lowering._select_many,
    "Where": _Lowering._where,
    "Any": _Lowering._any,
    "All": _Lowering._all,
    "OrderBy": _Lowering._order,
    "OrderByDescending": _Lowering._order_descending,
    "First": _Lowering._first,
    "Last": _Lowering._last,
    "ElementAt": _Lowering._element_at,
    "Zip": _Lowering._zip,
    "Concat": _Lowering._concatenate,
    "Choose": _Lowering._choose,
    "Contains": _Lowering._contains,
    **{name: _reduction(name) for name in REDUCTIONS},
}
_TWO_ITEM_METHODS = frozenset(_METHODS) - frozenset(REDUCTIONS) - {"First", "Last", "Zip"}


def _origin(construct: str, node: sexpr.Node) -> Origin:
    return Origin(construct, node.position)


def _describe(value: Value) -> str:
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


def _is_binary(node: sexpr.Node) -> bool:
    return isinstance(node, sexpr.Composite) and node.kind in BINARY_OPERATORS and len(node.items) == 2


def _lambda_parts(node: sexpr.Composite) -> tuple[tuple[str, ...], sexpr.Node]:
    match node.items:
        case (sexpr.Composite(kind="list", items=parameters), body):
            names = tuple(item.name for item in parameters if isinstance(item, sexpr.Name))
            if len(names) == len(parameters) and len(set(names)) == len(names):
                return names, body
    _fail("a lambda is a list of different names and one expression", node, QuerySyntaxError)


def _depth_needed(node: sexpr.Node, names: Mapping[str, Value]) -> int:
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
