"""The reader of s-expressions: the same trees as qastle, within bounds."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

import pytest
import qastle
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.parse import sexpr
from servicex_server.plan.parse.sexpr import Composite, Constant, Name, read


def shape(node: sexpr.Node) -> object:
    """The tree without positions."""
    match node:
        case Composite(kind=kind, items=items):
            return (kind, *map(shape, items))
        case Constant(value=value):
            return ("constant", type(value).__name__, repr(value))
        case Name(name=name):
            return ("name", name)


def shape_of_qastle(node: Any) -> object:
    """The same of qastle's tree, which is a Python syntax tree."""
    match node:
        case ast.List(elts=items):
            return ("list", *map(shape_of_qastle, items))
        case ast.Attribute(value=value, attr=name):
            return ("attr", shape_of_qastle(value), ("constant", "str", repr(name)))
        case ast.Call(func=func, args=args):
            return ("call", shape_of_qastle(func), *map(shape_of_qastle, args))
        case ast.Name(id=name):
            return ("name", name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return ("constant", type(value).__name__, repr(-value))
        case ast.Constant(value=value):
            return ("constant", type(value).__name__, repr(value))
        case _:
            raise AssertionError(ast.dump(node))


def read_by_qastle(text: str) -> object:
    return shape_of_qastle(qastle.unwrap_ast(qastle.text_ast_to_python_ast(text)))


def write(tree: Any) -> str:
    match tree:
        case ("list" | "call", *items):
            return f"({tree[0]} {' '.join(map(write, items))})"
        case ("attr", source, name):
            return f"(attr {write(source)} {name!r})"
        case ("name", name):
            return str(name)
        case _:
            return repr(tree)


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True).filter(
    lambda name: name not in {"True", "False", "None"} and not __import__("keyword").iskeyword(name)
)
constants = st.one_of(
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=8),
    st.booleans(),
    st.none(),
)
leaves = st.one_of(constants, names.map(lambda name: ("name", name)))
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda items: ("list", *items)),
        st.tuples(inner, st.lists(inner, max_size=2)).map(lambda pair: ("call", pair[0], *pair[1])),
        st.tuples(inner, names).map(lambda pair: ("attr", *pair)),
    ),
    max_leaves=8,
)


@given(trees)
def test_reads_the_same_tree_as_qastle(tree: object) -> None:
    text = write(tree)
    assert shape(read(text)) == read_by_qastle(text)


@pytest.mark.parametrize(
    "text",
    [
        "1", "-1", "+1", "1.", "1.5", ".5", "1e3", "1E-3", "-2.5e+10", "007.5", "00",
        "'a'", '"a"', r"'it\'s'", r'"\"quoted\""', r"'\n\t\\'", r"'\x41\u00e9\U0001F600\101'", r"'\q'",
        r"'\N{GREEK SMALL LETTER MU}'", "'µ'", "''", "True", "None", "_x1", " \n ( list\t1 2 )\r\n", "(list)",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:invalid escape sequence")
def test_reads_atoms_as_qastle_does(text: str) -> None:
    assert shape(read(text)) == read_by_qastle(text)


def test_keeps_the_place_of_every_node() -> None:
    node = read("(+ (attr e 'x')  12)")
    assert isinstance(node, Composite)
    assert [item.position for item in node.items] == [3, 17]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("(list 1", "'(list' is never closed"),
        ("(list 1))", "')' closes nothing"),
        ("1 2", "more than one"),
        ("(list 'a", "string is never closed"),
        ("(list @)", "unexpected character '@'"),
        ("()", "must be followed by a word"),
        ("(list 1'a')", "white space is missing"),
        ("lambda", "cannot be a name"),
        ("012", "must not begin with 0"),
        ("'a\nb'", "line breaks"),
        (r"'\x4'", "incomplete"),
        (r"'\N{NO SUCH THING}'", "no character is named"),
    ],
)
def test_says_what_is_wrong_and_where(text: str, problem: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        read(text)
    assert problem in caught.value.message


def test_error_carries_its_position() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        read("(list 1 @)")
    assert caught.value.position == 8


@pytest.mark.parametrize(
    "text",
    [
        "(list " * 100_000,
        "(list " * 500 + "1" + ")" * 500,
        "(list " + "1 " * 50_000 + ")",
        "'" + "a" * (1 << 20) + "'",
        "9" * 1000,
        "'" * 99_999,
        "(" * 99_999,
        "\\" * 1000,
        "(list 'a" + "\\" * 99_999,
        "\0",
    ],
    ids=lambda text: f"{text[:10]!r}x{len(text)}",
)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(QuerySyntaxError):
        read(text)


@given(st.text(alphabet="(){}[]'\"\\ abcdeE.+-*/0123456789_\n", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(QuerySyntaxError):
        read(text)
