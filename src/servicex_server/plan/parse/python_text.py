"""Lambdas given as Python text inside a func_adl query, as old clients sent them.

    (call Select (call EventDataset) 'lambda e: e.MET_pt')

Python's own parser reads the text, which is never compiled or run; each kind of syntax node that has a
counterpart in the text form becomes that, everything else is refused by name.
"""

from __future__ import annotations

import ast
from typing import NoReturn

from servicex_server.errors import QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.expression import read_python

_OPERATORS: dict[type[ast.AST], str] = {
    ast.UAdd: "+", ast.USub: "-", ast.Not: "not", ast.Invert: "~",
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Mod: "%", ast.Pow: "**", ast.FloorDiv: "//",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
    ast.And: "and", ast.Or: "or",
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


def read_lambda(text: str, position: int) -> sexpr.Node:
    """The lambda in the text form.

    Args:
        text: Python source of one expression.
        position: where the text stands in the query; all errors name this place.

    Raises:
        QuerySyntaxError: it is no Python expression.
        UnsupportedQuery: it uses syntax that queries do not have.
    """
    try:
        return _Reader(position).read(read_python(text))
    except QuerySyntaxError as error:
        message = f"{error.message} (at character {position + 1} of the query)"
        raise QuerySyntaxError(message, position=position) from error
    except RecursionError as error:
        message = f"a lambda is nested too deeply (at character {position + 1} of the query)"
        raise QuerySyntaxError(message, position=position) from error


class _Reader:
    """Turns syntax nodes of one text into nodes of the query."""

    def __init__(self, position: int) -> None:
        self._position = position

    def read(self, node: ast.expr) -> sexpr.Node:
        """The node's counterpart."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return sexpr.Constant(value, self._position)
            case ast.Name(id=name):
                return sexpr.Name(name, self._position)
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._made("list", *map(self.read, items))
            case ast.Dict(keys=keys, values=values):
                names = [self._refuse("'**'") if key is None else self.read(key) for key in keys]
                return self._made(
                    "dict", self._made("list", *names), self._made("list", *map(self.read, values))
                )
            case ast.Attribute(value=value, attr=name):
                return self._made("attr", self.read(value), sexpr.Constant(name, self._position))
            case ast.Subscript(value=value, slice=index):
                return self._made("subscript", self.read(value), self.read(index))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._made("if", self.read(test), self.read(body), self.read(orelse))
            case ast.Call(func=target, args=arguments, keywords=[]):
                return self._made("call", self.read(target), *map(self.read, arguments))
            case ast.Lambda(args=ast.arguments(args=names), body=body) if _is_plain(node.args):
                parameters = [sexpr.Name(name.arg, self._position) for name in names]
                return self._made("lambda", self._made("list", *parameters), self.read(body))
            case _:
                return self._operation(node)

    def _operation(self, node: ast.expr) -> sexpr.Node:
        match node:
            case ast.UnaryOp(op=op, operand=operand):
                return self._made(_OPERATORS[type(op)], self.read(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._made(_OPERATORS[type(op)], self.read(left), self.read(right))
            case ast.BoolOp(op=op, values=[first, *others]):
                result = self.read(first)
                for other in others:
                    result = self._made(_OPERATORS[type(op)], result, self.read(other))
                return result
            case ast.Compare():
                return self._comparison(node)
            case ast.Call():
                return self._refuse("an argument given by name")
            case _:
                return self._refuse(f"the syntax {type(node).__name__}")

    def _comparison(self, node: ast.Compare) -> sexpr.Node:
        """Comparisons, chained ones joined by `&`; `in` asks whether a collection contains a value."""
        results: list[sexpr.Node] = []
        for left, op, right in zip((node.left, *node.comparators), node.ops, node.comparators, strict=False):
            one, two = self.read(left), self.read(right)
            match op:
                case ast.In():
                    results.append(self._made("Contains", two, one))
                case ast.NotIn():
                    results.append(self._made("not", self._made("Contains", two, one)))
                case ast.Is() | ast.IsNot():
                    self._refuse("'is'")
                case _:
                    results.append(self._made(_OPERATORS[type(op)], one, two))
        result = results[0]
        for other in results[1:]:
            result = self._made("&", result, other)
        return result

    def _made(self, kind: str, *items: sexpr.Node) -> sexpr.Composite:
        return sexpr.Composite(kind, items, self._position)

    def _refuse(self, construct: str) -> NoReturn:
        reason = "queries have no counterpart of it"
        place = f"at character {self._position + 1} of the query"
        message = f"{construct} in a lambda is not supported, because {reason} ({place})"
        raise UnsupportedQuery(message)


def _is_plain(arguments: ast.arguments) -> bool:
    return not (
        arguments.posonlyargs
        or arguments.vararg
        or arguments.kwonlyargs
        or arguments.kwarg
        or arguments.defaults
    )
