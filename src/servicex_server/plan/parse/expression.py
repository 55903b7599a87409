"""uproot's expression language (Python syntax) to the nodes of `ir`.

The text goes through the standard library's parser and is never compiled or run: each kind of syntax node
that we know becomes a node of ours, everything else is refused by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import NoReturn

from servicex_server.errors import QueryError, QuerySyntaxError, QueryTypeError, UnsupportedQuery
from servicex_server.plan.function import (
    FUNCTIONS,
    LANGUAGE_FUNCTIONS,
    Function,
    Kind,
    Parameter,
    arity_of,
)
from servicex_server.plan.ir import (
    Apply,
    Call,
    Choice,
    E,
    Expr,
    Field,
    Graph,
    Index,
    IndexItem,
    Literal,
    NewAxis,
    OptionValue,
    Origin,
    Rest,
    Span,
    Table,
)
from servicex_server.plan.parse.fold import check_size, fold, is_foldable
from servicex_server.plan.pattern import nearest
from servicex_server.plan.plan import Formula

MAX_TEXT = 64 * 1024
MAX_NESTING = 100
MAX_OPERATOR_RUN = 100

_UNARY: dict[type[ast.unaryop], tuple[str, str]] = {
    ast.UAdd: ("positive", "+"),
    ast.USub: ("negative", "-"),
    ast.Invert: ("invert", "~"),
}
_BINARY: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("add", "+"),
    ast.Sub: ("subtract", "-"),
    ast.Mult: ("multiply", "*"),
    ast.Div: ("divide", "/"),
    ast.FloorDiv: ("floor_divide", "//"),
    ast.Mod: ("remainder", "%"),
    ast.Pow: ("power", "**"),
    ast.LShift: ("left_shift", "<<"),
    ast.RShift: ("right_shift", ">>"),
    ast.BitAnd: ("bitwise_and", "&"),
    ast.BitOr: ("bitwise_or", "|"),
    ast.BitXor: ("bitwise_xor", "^"),
}
_COMPARE: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Eq: ("equal", "=="),
    ast.NotEq: ("not_equal", "!="),
    ast.Lt: ("less", "<"),
    ast.LtE: ("less_equal", "<="),
    ast.Gt: ("greater", ">"),
    ast.GtE: ("greater_equal", ">="),
}
_CONSTRUCTS = {
    "BoolOp": "'and'/'or' (write & or |, with parentheses around comparisons)",
    "IfExp": "'… if … else …' (write where(condition, then, otherwise))",
    "Lambda": "a lambda",
    "ListComp": "a comprehension",
    "SetComp": "a comprehension",
    "DictComp": "a comprehension",
    "GeneratorExp": "a comprehension",
    "JoinedStr": "an f-string",
    "NamedExpr": "':='",
    "Await": "await",
    "Yield": "yield",
    "Starred": "'*'",
    "Dict": "a dict outside of cartesian() and zip()",
}
_GETTER = "get"


def read_formula(text: str, *, uses_event_axis: bool) -> Formula:
    """The text as an expression, or as a mere name if it is no expression.

    Args:
        text: Python syntax with names of columns and aliases.
        uses_event_axis: whether functions work within each row unless told otherwise.

    Raises:
        UnsupportedQuery: it is an expression, but uses something that we do not execute.
    """
    try:
        tree = read_python(text)
    except QuerySyntaxError as problem:
        # It may still be the name of a column ("Electrons#0", "1stJet"); only the file can tell.
        return Formula(text, None, problem)
    lowering = _Lowering(text, uses_event_axis=uses_event_axis)
    try:
        return Formula(text, lowering.expression(tree))
    except RecursionError as error:
        message = f"the expression '{text:.100}' is nested too deeply"
        raise QuerySyntaxError(message) from error


def read_python(text: str) -> ast.expr:
    """The syntax tree of a Python expression that is neither too long nor nested too deeply.

    Raises:
        QuerySyntaxError: it is, or it is no expression.
    """
    problem = _find_problem(text)
    if problem is None:
        try:
            return ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else str(error)
            problem = f"'{text:.200}' is neither a branch nor an expression: {reason}"
            if "&&" in text or "||" in text:
                problem += (
                    "; in Python, AND and OR are & and |, each comparison in parentheses, "
                    "as in '(nMuon >= 1) & (MET_pt > 20)'"
                )
        except (RecursionError, MemoryError):
            problem = f"the expression '{text:.100}' is nested too deeply"
    raise QuerySyntaxError(problem)


def _find_problem(text: str) -> str | None:
    """What is wrong with a text before Python's parser may see it."""
    if len(text) > MAX_TEXT:
        return f"an expression is longer than {MAX_TEXT} characters"
    bare = re.sub(r"'[^'\\\n]*'|\"[^\"\\\n]*\"", "", text)
    if "#" in bare:
        return f"'{text:.200}' is not a branch, and expressions must not hold comments"
    if "\\" in text:
        return f"'{text:.200}' is not a branch, and expressions must not hold backslashes"
    depth = 0
    for char in bare:
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_NESTING:
            return f"an expression is nested more than {MAX_NESTING} deep"
    if re.search(rf"(?:[-+~][ \t]*){{{MAX_OPERATOR_RUN}}}|(?:\bnot\s+){{{MAX_OPERATOR_RUN}}}", bare):
        return "an expression has too many signs in a row"
    if re.search(r"[0-9_]{400}", bare):
        return "a number is too long"
    return None


class _Lowering:
    """Lowers one expression."""

    def __init__(self, text: str, *, uses_event_axis: bool) -> None:
        self._text = text
        self._uses_event_axis = uses_event_axis
        self._graph = Graph()
        self._table = self._graph.add(Table())

    def expression(self, node: ast.expr) -> Expr:
        """The node for any expression."""
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name() | ast.Attribute():
                return self._name(node)
            case ast.BinOp():
                return self._chain(node)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return self._apply(*_UNARY[type(op)], (self.expression(operand),))
            case ast.UnaryOp(op=ast.Not()):
                return self._refuse("'not' (write ~)", node)
            case ast.Compare():
                return self._compare(node)
            case ast.Call():
                return self._call(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.IfExp(test=ast.Constant(value=test), body=body, orelse=otherwise):
                return self.expression(body if test else otherwise)
            case ast.List() | ast.Tuple():
                return self._refuse("a list of arrays outside of concatenate() and cartesian()", node)
            case _:
                kind = type(node).__name__
                return self._refuse(_CONSTRUCTS.get(kind, f"a {kind}"), node)

    def _refuse(self, construct: str, node: ast.AST) -> NoReturn:
        self._fail(f"{construct} is not supported in an expression", node, UnsupportedQuery)

    def _fail(self, problem: str, node: ast.AST, kind: type[QueryError] = QuerySyntaxError) -> NoReturn:
        column = getattr(node, "col_offset", 0)
        message = f"{problem} (in '{self._text:.200}', at character {column + 1})"
        raise kind(message)

    def _add(self, node: E) -> E:
        return self._graph.add(node)

    def _constant(self, node: ast.Constant) -> Expr:
        if not isinstance(node.value, bool | int | float | str | None):
            self._refuse(f"a constant of type {type(node.value).__name__}", node)
        return self._add(Literal(check_size(node.value), origin=Origin(repr(node.value)[:50])))

    def _name(self, node: ast.Name | ast.Attribute) -> Expr:
        match node:
            case ast.Name(id=name):
                return self._add(Field(self._table, name, origin=Origin(f"'{name}'")))
            case ast.Attribute(value=value, attr=name):
                source = self.expression(value)
                return self._add(Field(source, name, origin=Origin(f"'.{name}'")))

    def _chain(self, node: ast.BinOp) -> Expr:
        """Operators, with long chains (`a | b | c …`) in a loop, since they nest to the left."""
        chain = [node]
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        result = self.expression(chain[-1].left)
        for link in reversed(chain):
            if type(link.op) not in _BINARY:
                self._refuse(f"the operator {type(link.op).__name__}", link)
            result = self._apply(*_BINARY[type(link.op)], (result, self.expression(link.right)))
        return result

    def _apply(self, function: str, symbol: str, operands: tuple[Expr, ...]) -> Expr:
        constants = [operand.value for operand in operands if isinstance(operand, Literal)]
        if len(constants) == len(operands) and is_foldable(function):
            return self._add(Literal(fold(function, constants, symbol)))
        return self._add(Apply(function, operands, origin=Origin(f"'{symbol}'")))

    def _compare(self, node: ast.Compare) -> Expr:
        if len(node.ops) > 1:
            binds = "& and | bind more tightly than comparisons: put each into parentheses, "
            hint = binds if "&" in self._text or "|" in self._text else ""
            self._refuse(f"a chained comparison ({hint}as in (a < b) & (b < c))", node)
        operator = _COMPARE.get(type(node.ops[0]))
        if operator is None:
            self._refuse(f"the comparison '{type(node.ops[0]).__name__}'", node)
        return self._apply(*operator, (self.expression(node.left), self.expression(node.comparators[0])))

    # -- subscripts --------------------------------------------------------------------------------------

    def _subscript(self, node: ast.Subscript) -> Expr:
        if isinstance(node.value, ast.Call):
            item = self._item_of_many(node.value, node.slice)
            if item is not None:
                return item
        source = self.expression(node.value)
        if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            name = node.slice.value
            return self._add(Field(source, name, origin=Origin(f"['{name}']")))
        names = _texts(node.slice.elts) if isinstance(node.slice, ast.List) else None
        if names:
            return self._add(Call("fields", (source,), (("names", names),), origin=Origin("[[…]]")))
        items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return self._add(Index(source, tuple(map(self._item, items)), origin=Origin("[…]")))

    def _item(self, node: ast.expr) -> IndexItem:
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                span = Span(*(self._whole_number(bound) for bound in (lower, upper, step)))
                if span.step == 0:
                    self._fail("a slice with the step 0", node)
                return span
            case ast.Constant(value=value) if value is ...:
                return Rest()
            case ast.Constant(value=None):
                return NewAxis()
            case _:
                expr = self.expression(node)
                is_position = isinstance(expr, Literal) and type(expr.value) is int
                return expr.value if is_position else expr  # type: ignore[attr-defined]  # a Literal

    def _whole_number(self, node: ast.expr | None) -> int | None:
        if node is None:
            return None
        value = self._value(node)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
            self._refuse("a slice with bounds that are not whole numbers", node)
        return value

    def _item_of_many(self, call: ast.Call, index: ast.expr) -> Expr | None:
        """One of the arrays that a function of several results gives."""
        function = FUNCTIONS.get(call.func.id) if isinstance(call.func, ast.Name) else None
        if function is None or not function.is_variadic:
            return None
        position = self._whole_number(index)
        if position is None or not -len(call.args) <= position < len(call.args):
            self._fail(f"{function.name}(…) must be followed by the number of one of its arrays", call)
        arrays = tuple(map(self.expression, call.args))
        options = self._options(function, {word.arg: word.value for word in call.keywords}, call)
        chosen = (("index", position % len(arrays)), *options)
        return self._add(Call(function.name, arrays, tuple(sorted(chosen)), origin=Origin(function.name)))

    # -- calls -------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Expr:
        if not isinstance(node.func, ast.Name):
            self._refuse("a call of anything but a function's name", node)
        name = node.func.id
        if name == _GETTER:
            return self._get(node)
        if name in FUNCTIONS:
            return self._call_array(FUNCTIONS[name], node)
        if name not in LANGUAGE_FUNCTIONS:
            near = nearest(name, (*FUNCTIONS, *LANGUAGE_FUNCTIONS))
            hint = f"; nearest: {', '.join(near)}" if near else ""
            self._fail(f"there is no function '{name}'{hint}", node, UnsupportedQuery)
        function = LANGUAGE_FUNCTIONS[name]
        n_operands = arity_of(function)
        if len(node.args) != n_operands or node.keywords:
            self._fail(f"'{name}' takes {n_operands} arguments, none by name", node)
        return self._apply(function, name, tuple(map(self.expression, node.args)))

    def _get(self, node: ast.Call) -> Expr:
        match node.args:
            case [ast.Constant(value=str(name))] if not node.keywords:
                return self._add(Field(self._table, name, origin=Origin(f"get('{name}')")))
        return self._fail("get(…) takes the name of a branch as a string", node)

    def _call_array(self, function: Function, node: ast.Call) -> Expr:
        if function.is_variadic:
            self._fail(
                f"{function.name}(…) must be followed by the number of one of its arrays, like [0]", node
            )
        given = self._match_arguments(function, node)
        arrays: list[Expr] = []
        names: tuple[str, ...] | None = None
        for parameter in function.parameters:
            if parameter.kind is not None or parameter.name not in given:
                continue
            argument = given.pop(parameter.name)
            if function.takes_collection:
                arrays, names = self._collection(function, argument)
            elif not (isinstance(argument, ast.Constant) and argument.value is None):
                arrays.append(self.expression(argument))
        if function.name == "where":
            return self._add(Choice(*arrays, origin=Origin("where")))
        options = dict(self._options(function, given, node))
        if names is not None:
            options["names"] = names
        call = Call(
            function.name,
            tuple(arrays),
            tuple(sorted(options.items())),
            origin=Origin(function.name),
        )
        return self._add(call)

    def _match_arguments(self, function: Function, node: ast.Call) -> dict[str | None, ast.expr]:
        """Arguments by the names of their parameters."""
        positional = [parameter for parameter in function.parameters if not parameter.is_keyword_only]
        if len(node.args) > len(positional):
            self._fail(f"{function.name} takes at most {len(positional)} arguments without a name", node)
        given: dict[str | None, ast.expr] = {
            parameter.name: argument for parameter, argument in zip(positional, node.args, strict=False)
        }
        for word in node.keywords:
            if word.arg in given:
                self._fail(f"{function.name} gets '{word.arg}' twice", node)
            given[word.arg] = word.value
        known = [parameter.name for parameter in function.parameters]
        for name in given:
            if name not in known:
                self._fail(f"{function.name} has no option '{name}'; it has {', '.join(known)}", node)
        for parameter in function.parameters:
            if parameter.default is ... and parameter.name not in given:
                self._fail(f"{function.name} needs '{parameter.name}'", node)
        return given

    def _collection(self, function: Function, node: ast.expr) -> tuple[list[Expr], tuple[str, ...] | None]:
        match node:
            case ast.List(elts=items) | ast.Tuple(elts=items) if items:
                return [self.expression(item) for item in items], None
            case ast.Dict(keys=keys, values=items) if items and "cartesian" in function.name:
                names = _texts(keys)
                if names is not None:
                    return [self.expression(item) for item in items], names
        return self._fail(f"{function.name} takes a list of arrays", node)

    def _options(
        self, function: Function, given: dict[str | None, ast.expr], node: ast.Call
    ) -> list[tuple[str, OptionValue]]:
        options: list[tuple[str, OptionValue]] = []
        for parameter in function.parameters:
            if parameter.kind is None:
                continue
            if parameter.name in given:
                value = self._option(function, parameter, given[parameter.name])
            elif parameter.name == "axis" and function.event_axis is not None and self._uses_event_axis:
                value = function.event_axis
            else:
                value = parameter.default  # type: ignore[assignment]  # the table's defaults are option values
            if value != parameter.default or parameter.kind is Kind.AXIS:
                options.append((parameter.name, value))
        unknown = set(given) - {parameter.name for parameter in function.parameters}
        if unknown:
            self._fail(f"{function.name} has no option '{unknown.pop()}'", node)
        return options

    def _option(self, function: Function, parameter: Parameter, node: ast.expr) -> OptionValue:
        if parameter.kind is Kind.NAMES:
            return self._names(function, parameter, node)
        value = self._value(node)
        is_int = type(value) is int
        match parameter.kind:
            case Kind.AXIS | Kind.LIMIT:
                is_right = is_int or value is None
            case Kind.INT:
                is_right = is_int
            case Kind.BOOL:
                is_right = isinstance(value, bool)
            case Kind.FLOAT:
                is_right = is_int or isinstance(value, float) or value is None
            case _:
                is_right = isinstance(value, bool | int | float | str)
        if not is_right:
            needed = parameter.kind.value.strip() if parameter.kind else "an array"
            self._fail(f"'{parameter.name}' of {function.name} must be {needed}", node, QueryTypeError)
        return value

    def _names(self, function: Function, parameter: Parameter, node: ast.expr) -> tuple[str, ...] | None:
        match node:
            case ast.Constant(value=None):
                return None
            case ast.List(elts=items) | ast.Tuple(elts=items):
                names = _texts(items)
                if names is not None:
                    return names
        return self._fail(
            f"'{parameter.name}' of {function.name} must be a list of different strings", node, QueryTypeError
        )

    def _value(self, node: ast.expr) -> bool | int | float | str | None:
        expr = self.expression(node)
        if not isinstance(expr, Literal):
            self._refuse("anything but a constant here", node)
        return expr.value


def _texts(nodes: Sequence[ast.expr | None]) -> tuple[str, ...] | None:
    """The constants' values if all are different strings."""
    texts = tuple(
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return texts if len(set(texts)) == len(nodes) else None


def read_formulas(texts: Sequence[str], *, uses_event_axis: bool) -> tuple[Formula, ...]:
    """Several texts as expressions; repeated ones once."""
    return tuple(read_formula(text, uses_event_axis=uses_event_axis) for text in dict.fromkeys(texts))
