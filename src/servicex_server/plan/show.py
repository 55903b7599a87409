"""An expression in words that its user recognises, as for a line of a cut flow. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    Column,
    Expr,
    Field,
    Index,
    Literal,
    Mask,
    NewAxis,
    Span,
    in_order,
)

MAX_CHARACTERS = 300

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "true_divide": "/", "floor_divide": "//",
    "remainder": "%", "power": "**", "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
    "equal": "==", "not_equal": "!=", "logical_and": "and", "logical_or": "or", "bitwise_and": "&",
    "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
}  # fmt: skip
_PREFIX = {"negative": "-", "positive": "+", "invert": "~", "logical_not": "not "}


def show(expression: Expr, row_conditions: Collection[Expr] = ()) -> str:
    """The expression as a line of text, shortened where it is long.

    Args:
        row_conditions: conditions under which rows are here at all; they are not told again.
    """
    texts: dict[Expr, str] = {}
    for node in in_order(expression):
        if isinstance(node, Mask) and node.predicate in row_conditions:
            texts[node] = texts[node.source]
        else:
            texts[node] = _shorten(_show(node, texts))
    return _bare(texts[expression])


def _show(node: Expr, texts: Mapping[Expr, str]) -> str:
    match node:
        case Column(name=name):
            return name
        case Literal(value=value):
            return repr(value)
        case Field(source=source, name=name):
            return f"{texts[source]}.{name}"
        case Apply(function=function, operands=(left, right)) if function in _INFIX:
            return f"({texts[left]} {_INFIX[function]} {texts[right]})"
        case Apply(function=function, operands=(only,)) if function in _PREFIX:
            return f"{_PREFIX[function]}{texts[only]}"
        case Apply(function=function, operands=operands):
            return f"{function}({', '.join(_bare(texts[operand]) for operand in operands)})"
        case Choice(condition=condition, then=then, otherwise=otherwise):
            return f"({texts[then]} if {texts[condition]} else {texts[otherwise]})"
        case Align(source=source) | Broadcast(source=source):
            return texts[source]
        case Call(function="from_regular", arguments=(source,)):
            return texts[source]
        case Call(function=function, arguments=arguments):
            return f"{function}({', '.join(_bare(texts[argument]) for argument in arguments)})"
        case _:
            return _show_selection(node, texts)


def _show_selection(node: Expr, texts: Mapping[Expr, str]) -> str:
    match node:
        case Mask(source=source, predicate=predicate):
            return f"{texts[source]}[{_bare(texts[predicate])}]"
        case Index(source=source, items=items):
            return f"{texts[source]}[{', '.join(_item(item, texts) for item in items)}]"
        case _:
            return type(node).__name__.lower()


def _item(item: object, texts: Mapping[Expr, str]) -> str:
    match item:
        case Expr():
            return texts[item]
        case Span(start=start, stop=stop, step=None):
            return f"{_edge(start)}:{_edge(stop)}"
        case Span(start=start, stop=stop, step=step):
            return f"{_edge(start)}:{_edge(stop)}:{step}"
        case NewAxis():
            return "None"
        case int():
            return str(item)
        case _:
            return "..."


def _edge(value: int | None) -> str:
    return "" if value is None else str(value)


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS - 1]}…"


def _bare(text: str) -> str:
    """The text without the brackets around all of it, where there are such."""
    if not text.startswith("("):
        return text
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if not depth:
            return text[1:-1] if place == len(text) - 1 else text
    return text
