"""The formula of a cut, in ROOT's syntax, to the nodes of `ir`.

Parsed by precedence climbing, with C's precedences. Where ROOT, C and Python would read a text differently
it is refused, with the parentheses to write. Arithmetic keeps numpy's types, as func_adl queries do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NoReturn

from servicex_server.errors import QueryError, QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.ir import (
    Apply,
    Broadcast,
    Call,
    Choice,
    Expr,
    Field,
    Graph,
    Index,
    Literal,
    OptionValue,
    Origin,
    Scalar,
    Span,
)
from servicex_server.plan.parse.fold import check_size, fold, is_foldable
from servicex_server.plan.pattern import nearest

MAX_TEXT = 64 * 1024
MAX_NESTING = 100
MAX_POSITION = 1_000
"""Largest x in `array[x]`: rows are padded up to it."""

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    |(?P<name>[A-Za-z_]\w*(?:::[A-Za-z_]\w*)*(?:\.[A-Za-z_]\w*)*\$?)
    |(?P<symbol>&&|\|\||==|!=|<=|>=|\*\*|<<|>>|[-+*/%^&|<>!()\[\],?:])""",
    re.VERBOSE | re.ASCII,
)

_NOT_LEVEL = 3
_COMPARISONS = {
    "==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal",
}  # fmt: skip
_EQUALITIES = frozenset({"==", "!="})
_LOGIC = {"||": "logical_or", "&&": "logical_and"}
_BITS = {"|": "bitwise_or", "&": "bitwise_and"}
_ARITHMETIC = {
    "<<": "left_shift", ">>": "right_shift", "+": "add", "-": "subtract", "*": "multiply", "/": "divide",
    "%": "remainder",
}  # fmt: skip
_POWER = frozenset({"**", "^"})
_LEVELS: Mapping[str, int] = MappingProxyType(
    {
        "||": 1, "&&": 2, "|": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7, "<<": 8,
        ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
    }
)  # fmt: skip

_SQRT = "sqrt"
_ELEMENTWISE: Mapping[str, str] = MappingProxyType(
    {
        "abs": "absolute", "fabs": "absolute", "exp": "exp", "log": "log", "log10": "log10", "log2": "log2",
        "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin", "acos": "arccos", "atan": "arctan",
        "atan2": "arctan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "asinh": "arcsinh",
        "acosh": "arccosh", "atanh": "arctanh", "pow": "power", "hypot": "hypot", "min": "minimum",
        "max": "maximum", "floor": "floor", "ceil": "ceil", "sq": "square",
        "TMath::Abs": "absolute", "TMath::Exp": "exp", "TMath::Log": "log", "TMath::Log10": "log10",
        "TMath::Log2": "log2", "TMath::Sin": "sin", "TMath::Cos": "cos", "TMath::Tan": "tan",
        "TMath::ASin": "arcsin", "TMath::ACos": "arccos", "TMath::ATan": "arctan",
        "TMath::ATan2": "arctan2", "TMath::SinH": "sinh", "TMath::CosH": "cosh", "TMath::TanH": "tanh",
        "TMath::Power": "power", "TMath::Hypot": "hypot", "TMath::Min": "minimum", "TMath::Max": "maximum",
        "TMath::Floor": "floor", "TMath::Ceil": "ceil", "TMath::Sq": "square",
    }
)  # fmt: skip
"""Functions of numbers, by their names in ROOT's formulas."""
_TWO_OPERANDS = frozenset({"arctan2", "power", "hypot", "minimum", "maximum"})
_CONSTANTS = {"TMath::Pi": math.pi, "TMath::E": math.e, "TMath::TwoPi": 2 * math.pi}
_REDUCTIONS = {"Sum$": "sum", "Max$": "max", "Min$": "min", "Length$": "num"}
_ALTERNATIVE = "Alt$"
FUNCTIONS = (_SQRT, "TMath::Sqrt", *_ELEMENTWISE, *_CONSTANTS, *_REDUCTIONS, _ALTERNATIVE)
"""Everything that a cut may call."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which text a cut stands in, for messages; `is_query` if its offsets are those of the query."""

    text: str
    is_query: bool = False


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


@dataclass(frozen=True, slots=True)
class _Term:
    """A part of the formula.

    Attributes:
        is_column: it is the name of a column and nothing else.
        is_condition: its values are truth values.
        may_lack: rows whose array is too short for an `array[n]` have no value.
        comparison: the operator, if it is a comparison that no parentheses enclose.
        compared: the right side of that comparison.
    """

    expr: Expr
    is_column: bool = False
    is_condition: bool = False
    may_lack: bool = False
    comparison: str | None = None
    compared: Expr | None = None


def field_of(graph: Graph, rows: Expr, name: str, origin: Origin) -> Expr:
    """The column of that name, with a field of a field for each dot."""
    for part in name.split("."):
        rows = graph.add(Field(rows, part, origin=origin))
    return rows


def lower_cut(text: str, graph: Graph, table: Expr, place: Place) -> Expr:
    """The cut as one condition per row (or per element, where it looks at lists); or a constant.

    A column alone, as the whole cut or beside `&&` and `||`, means `column > 0`, as in `tcut_to_qastle`;
    other numbers mean `!= 0`. Rows that have no value, for want of an array's element, do not pass.

    Raises:
        QuerySyntaxError: the text does not parse; names the place.
        UnsupportedQuery: it uses what we do not execute.
    """
    return _Parser(text, graph, table, place).cut()


class _Parser:
    def __init__(self, text: str, graph: Graph, table: Expr, place: Place) -> None:
        self._place = place
        self._graph = graph
        self._table = table
        self._tokens = self._split(text)
        self._next = 0
        self._depth = 0

    # -- tokens ------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[_Token]:
        if len(text) > MAX_TEXT:
            message = f"the cut is longer than {MAX_TEXT} characters"
            raise QuerySyntaxError(message)
        tokens = []
        position = 0
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                self._fail(_explain(text[position]), position)
            kind = str(found.lastgroup)
            if kind != "space":
                tokens.append(_Token(kind, found.group(), position))
            position = found.end()
        tokens.append(_Token("end", "", len(text)))
        return tokens

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _skip(self, symbol: str) -> bool:
        if self._token.kind == "symbol" and self._token.text == symbol:
            self._next += 1
            return True
        return False

    def _expect(self, symbol: str, after: str) -> None:
        if not self._skip(symbol):
            self._fail(f"'{symbol}' is missing {after}; there is {_show(self._token)}", self._token.position)

    def _fail(self, problem: str, position: int, kind: type[QueryError] = QuerySyntaxError) -> NoReturn:
        message = f"{problem} (at character {position + 1} {self._place.text})"
        if kind is QuerySyntaxError:
            raise QuerySyntaxError(message, position=position if self._place.is_query else None)
        raise kind(message)

    # -- grammar -----------------------------------------------------------------------------------------

    def cut(self) -> Expr:
        term = self._formula()
        if self._token.kind != "end":
            hint = {"and": "; write '&&'", "or": "; write '||'"}.get(self._token.text, "")
            self._fail(f"{_show(self._token)} does not continue the cut{hint}", self._token.position)
        term = self._condition(term, "the cut", 0)
        if isinstance(term.expr, Literal):
            return self._graph.add(Literal(bool(term.expr.value), origin=term.expr.origin))
        if not term.is_condition:
            term = self._apply("not_equal", "the cut", 0, term, self._literal(0))
        if term.may_lack:
            return self._call("fill_none", term.expr, self._origin("the cut", 0), axis=-1, value=False)
        return term.expr

    def _formula(self) -> _Term:
        """Any formula: `condition ? value : value`, or one without `?`."""
        self._enter()
        term = self._binary(1)
        position = self._token.position
        if self._skip("?"):
            then = self._formula()
            self._expect(":", "after the value that '?' chooses")
            term = self._choose(term, then, self._formula(), position)
        self._depth -= 1
        return term

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail(f"the cut is nested more than {MAX_NESTING} deep", self._token.position)

    def _binary(self, lowest: int) -> _Term:
        """A formula of operators that bind at least as strongly as `lowest`."""
        left = self._unary()
        while self._token.kind == "symbol" and _LEVELS.get(self._token.text, 0) >= lowest:
            operator = self._take()
            self._enter()
            right = self._binary(_LEVELS[operator.text] + 1)
            self._depth -= 1
            left = self._operate(operator, left, right)
        return left

    def _unary(self) -> _Term:
        token = self._token
        if token.kind == "name" and token.text == "not":
            return self._prefixed(lambda: self._binary(_NOT_LEVEL), "logical_not")
        if token.kind != "symbol" or token.text not in {"!", "-", "+"}:
            return self._power()
        if token.text == "!":
            return self._prefixed(self._unary, "equal", self._literal(0))
        return self._prefixed(self._unary, "negative" if token.text == "-" else "positive")

    def _prefixed(self, operand: Callable[[], _Term], function: str, *more: _Term) -> _Term:
        token = self._take()
        self._enter()
        term = operand()
        self._depth -= 1
        result = self._apply(function, token.text, token.position, term, *more)
        return replace(result, is_condition=function in {"logical_not", "equal"})

    def _power(self) -> _Term:
        base = self._primary()
        token = self._token
        if token.kind != "symbol" or token.text not in _POWER:
            return base
        self._next += 1
        self._enter()
        # As in mathematics: from the right, and with a sign in the exponent.
        exponent = self._unary()
        self._depth -= 1
        return self._apply("power", token.text, token.position, base, exponent)

    def _primary(self) -> _Term:
        token = self._take()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "name":
            if self._skip("("):
                return self._function(token)
            return self._column(token)
        if token.text == "(":
            term = self._formula()
            self._expect(")", f"for the '(' at character {token.position + 1}")
            return replace(term, comparison=None, compared=None)
        wanted = "a number, a column, a function or '(' is needed"
        return self._fail(f"{wanted}, not {_show(token)}", token.position)

    def _number(self, token: _Token) -> _Term:
        following = self._token
        if following.kind in {"name", "number"} and following.position == token.position + len(token.text):
            self._fail(f"'{token.text}{following.text:.50}' is neither a number nor a name", token.position)
        if token.text[:2] in {"0x", "0X"}:
            return self._literal(int(token.text[:20], 16) if len(token.text) <= 20 else 1 << 64)
        if token.text.isdigit():
            # Longer ones do not fit in 64 bits; converting them would take long.
            return self._literal(int(token.text) if len(token.text) <= 20 else 1 << 64)
        return self._literal(float(token.text))

    def _column(self, token: _Token) -> _Term:
        if "$" in token.text or "::" in token.text:
            self._unknown_function(token)
        column = field_of(self._graph, self._table, token.text, self._origin(token.text, token.position))
        if not self._skip("["):
            return _Term(column, is_column=True)
        index = self._take()
        if index.kind != "number" or not index.text.isdigit() or not self._skip("]"):
            problem = f"'{token.text:.50}[…]' takes one whole number from 0 to {MAX_POSITION}"
            self._fail(problem, index.position, UnsupportedQuery)
        if len(index.text) > 6 or int(index.text) > MAX_POSITION:
            self._fail(f"'[{index.text:.20}]' is beyond {MAX_POSITION}", index.position, UnsupportedQuery)
        position = int(index.text)
        padded = self._call(
            "pad_none", column, self._origin(token.text, token.position), axis=1, target=position + 1
        )
        origin = self._origin(f"{token.text}[{position}]", token.position)
        item = Index(padded, (Span(), position), origin=origin)
        return _Term(self._graph.add(item), may_lack=True)

    # -- functions ---------------------------------------------------------------------------------------

    def _function(self, token: _Token) -> _Term:
        if token.text not in FUNCTIONS:
            self._unknown_function(token)
        arguments = self._arguments(token)
        n_needed = 1
        if token.text in _CONSTANTS:
            n_needed = 0
        elif token.text == _ALTERNATIVE or _ELEMENTWISE.get(token.text) in _TWO_OPERANDS:
            n_needed = 2
        if len(arguments) != n_needed:
            problem = f"'{token.text}' takes {n_needed} arguments, not {len(arguments)}"
            self._fail(problem, token.position)
        return self._call_function(token, arguments)

    def _call_function(self, token: _Token, arguments: list[_Term]) -> _Term:
        name = token.text
        if name in _CONSTANTS:
            return self._literal(_CONSTANTS[name])
        if name in _ELEMENTWISE:
            return self._apply(_ELEMENTWISE[name], name, token.position, *arguments)
        if name in _REDUCTIONS:
            return self._reduce(token, arguments[0])
        if name == _ALTERNATIVE:
            return self._alternative(token, *arguments)
        # As a power, as `tcut_to_qastle` writes it: numpy's sqrt of an int8 has no more than 11 bits.
        return self._apply("power", name, token.position, arguments[0], self._literal(0.5))

    def _arguments(self, token: _Token) -> list[_Term]:
        if self._skip(")"):
            return []
        arguments = [self._formula()]
        while self._skip(","):
            arguments.append(self._formula())
        self._expect(")", f"after the arguments of '{token.text}'")
        return arguments

    def _unknown_function(self, token: _Token) -> NoReturn:
        if token.text.endswith((".size", ".length")):
            hint = f"; write Length$({token.text.rpartition('.')[0]})"
        else:
            near = nearest(token.text, FUNCTIONS)
            hint = f"; nearest: {', '.join(near)}" if near else f"; there are {', '.join(FUNCTIONS[:12])}, …"
        kind = "function" if self._tokens[self._next - 1].text == "(" else "function or variable"
        self._fail(f"there is no {kind} '{token.text:.100}'{hint}", token.position, UnsupportedQuery)

    def _reduce(self, token: _Token, argument: _Term) -> _Term:
        if argument.may_lack or isinstance(argument.expr, Literal):
            problem = f"'{token.text}' takes a formula of arrays, not of single elements or constants"
            self._fail(problem, token.position, UnsupportedQuery)
        value = self._call(
            _REDUCTIONS[token.text], argument.expr, self._origin(token.text, token.position), axis=1
        )
        if token.text in {"Max$", "Min$"}:
            # What ROOT gives for an empty array.
            value = self._call("fill_none", value, self._origin(token.text, token.position), axis=-1, value=0)
        return _Term(value)

    def _alternative(self, token: _Token, primary: _Term, alternate: _Term) -> _Term:
        if not isinstance(alternate.expr, Literal):
            self._fail("the second argument of 'Alt$' must be a number", token.position, UnsupportedQuery)
        if not primary.may_lack:
            return primary
        filled = self._call(
            "fill_none",
            primary.expr,
            self._origin(token.text, token.position),
            axis=-1,
            value=alternate.expr.value,
        )
        return _Term(filled)

    # -- operators ---------------------------------------------------------------------------------------

    def _operate(self, operator: _Token, left: _Term, right: _Term) -> _Term:
        text = operator.text
        if text in _LOGIC:
            operands = (self._condition(term, text, operator.position) for term in (left, right))
            result = self._apply(_LOGIC[text], text, operator.position, *operands)
            return replace(result, is_condition=True)
        if text in _COMPARISONS:
            return self._compare(operator, left, right)
        if text in _BITS:
            if left.comparison or right.comparison:
                odd = left.comparison or right.comparison
                hint = f"put parentheses around one of them, or write '{text}{text}'"
                self._fail(f"'{text}' beside '{odd}' can be read in two ways: {hint}", operator.position)
            return self._apply(_BITS[text], text, operator.position, left, right)
        return self._apply(_ARITHMETIC[text], text, operator.position, left, right)

    def _condition(self, term: _Term, symbol: str, position: int) -> _Term:
        """The term where a truth value is needed."""
        if not term.is_column:
            return term
        greater = self._apply("greater", symbol, position, term, self._literal(0))
        return replace(greater, is_condition=True)

    def _compare(self, operator: _Token, left: _Term, right: _Term) -> _Term:
        text = operator.text
        chained = left.comparison or right.comparison
        if chained and (text in _EQUALITIES or chained in _EQUALITIES or right.comparison):
            problem = f"'{text}' beside '{chained}' needs parentheses around one of them"
            self._fail(problem, operator.position)
        result = left
        if left.comparison and left.compared is not None:
            # a < b < c, which everybody means as a < b && b < c
            right_part = self._apply(
                _COMPARISONS[text], text, operator.position, replace(left, expr=left.compared), right
            )
            result = self._apply("logical_and", text, operator.position, left, right_part)
        else:
            result = self._apply(_COMPARISONS[text], text, operator.position, left, right)
        return replace(result, is_condition=True, comparison=text, compared=right.expr)

    def _choose(self, condition: _Term, then: _Term, otherwise: _Term, position: int) -> _Term:
        may_lack = condition.may_lack or then.may_lack or otherwise.may_lack
        if isinstance(condition.expr, Literal):
            return replace(then if condition.expr.value else otherwise, comparison=None, compared=None)
        if not condition.is_condition:
            condition = self._apply("not_equal", "?", position, condition, self._literal(0))
        origin = self._origin("?", position)
        branches = [
            self._graph.add(Broadcast(term.expr, condition.expr, None, origin=origin))
            if isinstance(term.expr, Literal)
            else term.expr
            for term in (then, otherwise)
        ]
        choice = self._graph.add(Choice(condition.expr, branches[0], branches[1], origin=origin))
        return _Term(choice, is_condition=then.is_condition and otherwise.is_condition, may_lack=may_lack)

    # -- nodes -------------------------------------------------------------------------------------------

    def _apply(self, function: str, symbol: str, position: int, *operands: _Term) -> _Term:
        expressions = tuple(term.expr for term in operands)
        constants = [expr.value for expr in expressions if isinstance(expr, Literal)]
        if len(constants) == len(operands) and is_foldable(function):
            return self._literal(fold(function, constants, symbol))
        node = Apply(function, expressions, origin=self._origin(symbol, position))
        return _Term(self._graph.add(node), may_lack=any(term.may_lack for term in operands))

    def _literal(self, value: Scalar) -> _Term:
        return _Term(self._graph.add(Literal(check_size(value), origin=Origin(repr(value)[:50]))))

    def _origin(self, construct: str, position: int) -> Origin:
        return Origin(f"'{construct}'", position if self._place.is_query else None)

    def _call(self, function: str, argument: Expr, origin: Origin, **options: OptionValue) -> Expr:
        return self._graph.add(Call(function, (argument,), tuple(sorted(options.items())), origin=origin))


def _show(token: _Token) -> str:
    return "the end of the cut" if token.kind == "end" else f"'{token.text:.50}'"


def _explain(character: str) -> str:
    """Why a character cannot stand in a cut."""
    match character:
        case "=":
            return "'=' is no operator of a cut; write '=='"
        case '"' | "'":
            return "text cannot be compared in a cut"
        case "@":
            return "'@' is not supported; Length$(array) tells the length of an array"
        case _:
            return f"{character!r} cannot stand in a cut"
