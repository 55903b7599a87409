"""func_adl queries in their text form (generator `uproot`) to the nodes of `ir`.

A lambda is not a function here: its parameter is bound to the columnar value of what it runs over, and its
body is lowered once, for all elements together. Each lambda adds one axis, so a value carries its `scope`:
how many of the enclosing lambdas' axes its array has in front. A value of an outer lambda that holds lists
of its own is repeated along the axes of the inner ones (`Align`); numbers broadcast by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

from servicex_server.errors import QuerySyntaxError, QueryTypeError, UnknownName, UnsupportedQuery
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
    Literal,
    Origin,
    Rename,
    Table,
    Zip,
)
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.builtin import NUMPY_CONSTANTS, lower_builtin, lower_numpy
from servicex_server.plan.parse.collection import OPERATOR_NAMES, Site, lower_operator
from servicex_server.plan.parse.fold import check_size, fold, is_foldable
from servicex_server.plan.parse.method import lower_method
from servicex_server.plan.parse.value import (
    Array,
    Constant,
    Numpy,
    Scope,
    Structure,
    Value,
    describe,
    fail,
    lambda_parts,
    origin_of,
)
from servicex_server.plan.pattern import nearest
from servicex_server.plan.plan import ExpressionQuery

UNARY_OPERATORS = {"+": "positive", "-": "negative", "not": "logical_not", "~": "invert"}
BINARY_OPERATORS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "**": "power",
    "//": "floor_divide", "&": "bitwise_and", "|": "bitwise_or", "^": "bitwise_xor", "<<": "left_shift",
    ">>": "right_shift", "and": "logical_and", "or": "logical_or", "==": "equal", "!=": "not_equal",
    "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
RESULT_WRAPPERS = frozenset(
    {
        "ResultTTree", "ResultParquet", "ResultAwkwardArray", "ResultPandasDF",
        "AsROOTTTree", "AsParquetFiles", "AsAwkwardArray", "AsPandasDF",
    }
)  # fmt: skip
NUMPY_NAMES = frozenset({"np", "numpy"})


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
                reason = "functions are no values: call it, or give it to an operator such as Select"
                return fail(f"a lambda is not supported here, because {reason}", node)
            case sexpr.Composite(kind=kind, items=items):
                return lower_operator(Site(self, kind, node, items, scope))

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
                fail("a dict must be two lists, of keys and of values", node, QuerySyntaxError)
        names = [key.value for key in keys if isinstance(key, sexpr.Constant) and isinstance(key.value, str)]
        if len(names) != len(keys) or len(set(names)) != len(names):
            fail("the keys of a dict must be different strings", node)
        if len(names) != len(values):
            fail(f"a dict has {len(names)} keys but {len(values)} values", node, QuerySyntaxError)
        return Structure(tuple(names), tuple(self.lower(value, scope) for value in values))

    def _attribute(self, node: sexpr.Composite, scope: Scope) -> Value:
        source, name = self._two_items(node)
        if not isinstance(name, sexpr.Constant) or not isinstance(name.value, str):
            fail("the name of an attribute must be a string", node, QuerySyntaxError)
        return self._field(self.lower(source, scope), name.value, node)

    def _field(self, value: Value, name: str, node: sexpr.Node) -> Value:
        match value:
            case Array(expr=expr, scope=depth):
                return Array(self.add(Field(expr, name, origin=Origin(f"'{name}'", node.position))), depth)
            case Structure(names=names, values=values) if names is not None:
                if name in names:
                    return values[names.index(name)]
                return fail(
                    f"the dict has no key '{name}'; its keys are {', '.join(names)}", node, QueryTypeError
                )
            case Numpy() if name in NUMPY_CONSTANTS:
                return Constant(NUMPY_CONSTANTS[name])
            case _:
                return fail(f"'{name}' cannot be taken from {describe(value)}", node)

    def _subscript(self, node: sexpr.Composite, scope: Scope) -> Value:
        source, index = (self.lower(item, scope) for item in self._two_items(node))
        match source, index:
            case _, Constant(value=str(name)):
                return self._field(source, name, node)
            case Structure(values=values), Constant(value=int(number)):
                if not -len(values) <= number < len(values):
                    fail(f"there is no item {number}: the list has {len(values)}", node, QueryTypeError)
                return values[number]
            case Array(expr=expr, scope=depth), Constant(value=int(number)) if not isinstance(number, bool):
                return Array(self.add(FieldAt(expr, number, origin=origin_of(f"[{number}]", node))), depth)
            case Array(expr=expr, scope=depth), Structure(names=None, values=values) if values:
                return Array(self.add(self._several(expr, values, node)), depth)
            case Array(scope=depth), Array():
                (left, right), _ = self.level((source, index), scope, node)
                return Array(self.add(Index(left, (right,), origin=origin_of("[…]", node))), depth)
            case _:
                return fail(f"{describe(source)} cannot be subscripted with {describe(index)}", node)

    def _several(self, source: Expr, values: Sequence[Value], node: sexpr.Composite) -> Call:
        """Some of the fields of records."""
        names = [item.value for item in values if isinstance(item, Constant) and isinstance(item.value, str)]
        if len(names) != len(values) or len(set(names)) != len(names):
            fail("a list in a subscript must be of different names of fields", node)
        return Call("fields", (source,), (("names", tuple(names)),), origin=origin_of("[[…]]", node))

    def _operator(self, node: sexpr.Composite, scope: Scope) -> Value:
        if len(node.items) == 1 and node.kind in UNARY_OPERATORS:
            return self.apply(UNARY_OPERATORS[node.kind], [self.lower(node.items[0], scope)], scope, node)
        if node.kind not in BINARY_OPERATORS or len(node.items) != 2:
            n_needed = 2 if node.kind in BINARY_OPERATORS else 1
            fail(f"'{node.kind}' takes {n_needed} operands, not {len(node.items)}", node, QuerySyntaxError)
        # Long chains (`a or b or c …`) nest on one side; walking them in a loop keeps the recursion flat.
        chain: list[sexpr.Composite] = [node]
        while _is_binary(chain[-1].items[0]):
            chain.append(chain[-1].items[0])  # type: ignore[arg-type]  # checked by _is_binary
        result = self.lower(chain[-1].items[0], scope)
        for link in reversed(chain):
            right = self._right_chain(link, scope)
            result = self.apply(BINARY_OPERATORS[link.kind], [result, right], scope, link)
        return result

    def _right_chain(self, node: sexpr.Composite, scope: Scope) -> Value:
        """The right operand; where it is itself a long chain to the right, from its end backwards."""
        chain = [node]
        while _is_binary(chain[-1].items[1]):
            chain.append(chain[-1].items[1])  # type: ignore[arg-type]  # checked by _is_binary
        result = self.lower(chain[-1].items[1], scope)
        for link in reversed(chain[1:]):
            left = self.lower(link.items[0], scope)
            result = self.apply(BINARY_OPERATORS[link.kind], [left, result], scope, link)
        return result

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
        symbol = node.kind if node.kind in BINARY_OPERATORS or node.kind in UNARY_OPERATORS else name
        constants = [value.value for value in values if isinstance(value, Constant)]
        if len(constants) == len(values) and folds and is_foldable(name):
            return Constant(fold(name, constants, symbol))
        operands, depth = self.level(values, scope, node)
        return Array(self.add(Apply(name, operands, origin=origin_of(f"'{symbol}'", node))), depth)

    def _conditional(self, node: sexpr.Composite, scope: Scope) -> Value:
        if len(node.items) != 3:
            fail("'if' takes a condition and two values", node, QuerySyntaxError)
        values = [self.lower(item, scope) for item in node.items]
        if isinstance(values[0], Constant):
            return values[1] if values[0].value else values[2]
        (condition, *branches), depth = self.level(values, scope, node)
        origin = origin_of("'if'", node)
        then, otherwise = (
            self.add(Broadcast(branch, condition, None, origin=origin))
            if isinstance(branch, Literal)
            else branch
            for branch in branches
        )
        return Array(self.add(Choice(condition, then, otherwise, origin=origin)), depth)

    # -- calls -------------------------------------------------------------------------------------------

    def _call(self, node: sexpr.Composite, scope: Scope) -> Value:
        if not node.items:
            fail("a call needs something to call", node, QuerySyntaxError)
        target, arguments = node.items[0], node.items[1:]
        match target:
            case sexpr.Name(name=name):
                return self._call_name(name, node, arguments, scope)
            case sexpr.Composite(kind="lambda"):
                return self._call_lambda(target, arguments, scope)
            case sexpr.Composite(kind="attr", items=(source, sexpr.Constant(value=str(name)))):
                if name in OPERATOR_NAMES:
                    return lower_operator(Site(self, name, node, (source, *arguments), scope))
                if isinstance(source, sexpr.Name) and source.name in NUMPY_NAMES:
                    return lower_numpy(Site(self, name, node, arguments, scope))
                return lower_method(Site(self, name, node, (source, *arguments), scope))
            case _:
                reason = "only functions, methods and lambdas can be called"
                return fail(f"this call is not supported, because {reason}", target)

    def _call_name(
        self, name: str, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope
    ) -> Value:
        if name == "EventDataset":
            return self._dataset(node, arguments)
        if name in OPERATOR_NAMES or name == "Aggregate":
            return lower_operator(Site(self, name, node, arguments, scope))
        if name == "MetaData" and arguments:
            return self.lower(arguments[0], scope)
        if name in RESULT_WRAPPERS and arguments:
            return self._wrapper(name, node, arguments, scope)
        return lower_builtin(Site(self, name, node, arguments, scope))

    def _call_lambda(self, target: sexpr.Composite, arguments: tuple[sexpr.Node, ...], scope: Scope) -> Value:
        names, body = lambda_parts(target)
        if len(names) != len(arguments):
            fail(
                f"a lambda of {len(names)} parameters is called with {len(arguments)}",
                target,
                QuerySyntaxError,
            )
        values = (self.lower(argument, scope) for argument in arguments)
        return self.lower(body, Scope(scope.axes, {**scope.names, **dict(zip(names, values, strict=True))}))

    def _dataset(self, node: sexpr.Composite, arguments: tuple[sexpr.Node, ...]) -> Array:
        if len(arguments) > 2:
            fail(f"EventDataset takes at most two arguments, not {len(arguments)}", node)
        tree: object = None
        if len(arguments) == 2:
            if not isinstance(arguments[1], sexpr.Constant) or not isinstance(arguments[1].value, str | None):
                fail("the tree name of EventDataset must be a string", arguments[1])
            tree = arguments[1].value
        if self.has_table and tree != self.tree:
            fail("the query reads two different trees", node)
        self.tree = tree if isinstance(tree, str) else None
        self.has_table = True
        return Array(self.add(Table()), 0)

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
        return Array(self.add(Rename(value.expr, columns, origin=origin_of(name, node))), value.scope)

    # -- axes --------------------------------------------------------------------------------------------

    def level(self, values: Sequence[Value], scope: Scope, node: sexpr.Node) -> tuple[tuple[Expr, ...], int]:
        """The values as nodes that have the same lambdas' axes in front, and the number of these."""
        depth = max((value.scope for value in values if isinstance(value, Array)), default=0)
        return tuple(self.align(value, depth, scope, node) for value in values), depth

    def align(self, value: Value, depth: int, scope: Scope, node: sexpr.Node) -> Expr:
        match value:
            case Array(expr=expr, scope=start):
                for axis in range(start, depth):
                    expr = self.add(
                        Align(expr, scope.axes[axis], axis, origin=origin_of("the inner loop", node))
                    )
                return expr
            case Constant(value=constant):
                return self.add(Literal(constant, origin=origin_of(repr(constant), node)))
            case Structure():
                return self._zip_structure(value, depth, scope, node)
            case Numpy():
                return fail("'np' is not a value", node)

    def _zip_structure(self, value: Structure, depth: int, scope: Scope, node: sexpr.Node) -> Expr:
        if not value.values:
            fail("an empty dict, list or tuple has no columns", node)
        values = tuple(self.align(item, depth, scope, node) for item in value.values)
        limit = None if len(values) == 1 else max(depth, 1)
        return self.add(Zip(value.names, values, limit, origin=origin_of(describe(value), node)))

    def fill(self, value: Value, inner: Scope, node: sexpr.Node) -> Expr:
        """The lambda's result, one for each element that the lambda runs over."""
        depth = len(inner.axes)
        if isinstance(value, Structure):
            filled = tuple(self.fill(item, inner, node) for item in value.values)
            if not filled:
                fail("an empty dict, list or tuple has no columns", node)
            limit = None if len(filled) == 1 else depth
            return self.add(Zip(value.names, filled, limit, origin=origin_of(describe(value), node)))
        expr = self.align(value, depth, inner, node)
        if isinstance(value, Constant) or (isinstance(value, Array) and value.scope < depth):
            expr = self.add(
                Broadcast(expr, inner.axes[-1], depth, origin=origin_of("the lambda's result", node))
            )
        return expr

    def _two_items(self, node: sexpr.Composite) -> tuple[sexpr.Node, sexpr.Node]:
        if len(node.items) != 2:
            fail(f"'{node.kind}' takes two items, not {len(node.items)}", node, QuerySyntaxError)
        return node.items[0], node.items[1]

    def add(self, node: E) -> E:
        return self._graph.add(node)


def _is_binary(node: sexpr.Node) -> bool:
    return isinstance(node, sexpr.Composite) and node.kind in BINARY_OPERATORS and len(node.items) == 2
