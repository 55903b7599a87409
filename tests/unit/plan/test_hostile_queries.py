"""Queries made to do harm: refused or bounded, with an error in one line, in both languages."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import awkward as ak
import numpy as np
import pytest

from servicex_server.errors import QueryError, ResourceExhausted, UnknownName
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import evaluate, from_awkward

COLUMNS = {
    "x": ak.Array(np.arange(3.0)),
    "n": ak.Array(np.arange(3)),
    "list": ak.Array([list(range(100))] * 3),
    "a" * 300 + "!": ak.Array(np.arange(3)),
}
FILE = MemoryFile(
    (MemoryTree("t", {name: from_awkward(item.type.content) for name, item in COLUMNS.items()}),)
)


def run(codegen: str, text: str) -> ak.Array:
    (output,) = bind(parse(codegen, text), FILE).outputs
    return evaluate(output, {name: COLUMNS[name] for name in output.columns}, max_bytes=1 << 24)


def run_raw(**entry: Any) -> ak.Array:
    return run("uproot-raw", json.dumps([{"treename": "t", **entry}]))


def of_row(body: str) -> str:
    return f"(Select (call EventDataset 'f' 't') (lambda (list e) {body}))"


def wrapped(pattern: str, times: int, body: str = "(attr e 'x')") -> str:
    for _ in range(times):
        body = pattern.replace("_", body, 1)
    return body


REFUSED = {
    "deep": wrapped("(not _)", 5_000),
    "open": "(" * 100_000,
    "deep lists": wrapped("(list _)", 390),
    "deep conditions": wrapped("(if (> (attr e 'x') 1) _ 2)", 390),
    "long text": f"(== (attr e 'x') '{'a' * (2 << 20)}')",
    "long number": f"(+ (attr e 'x') {'9' * 5_000})",
    "wide": f"(list {'1 ' * 30_000})",
    "power": "(* (attr e 'x') (** 10 (** 10 10)))",
    "power of powers": "(* (attr e 'x') (** 9 (** 9 (** 9 9))))",
    "shift": "(+ (attr e 'n') (<< 1 (<< 1 60)))",
    "complex": "(* (attr e 'x') (** -1 0.5))",
    "text times number": "(* 'a' 1000000000)",
    "doubling tuples": wrapped("(call (lambda (list y) (list y y)) _)", 60),
    "doubling dicts": wrapped("(call (lambda (list y) (dict (list 'a' 'b') (list y y))) _)", 60),
    "calling itself": "(call (lambda (list f) (call f f)) (lambda (list f) (call f f)))",
    "element far away": "(ElementAt (attr e 'list') 1000000000000)",
    "element beyond": "(ElementAt (attr e 'list') 1000000000000000000000000000)",
    "element negative": "(ElementAt (attr e 'list') -1000000000000)",
    "choose very many": "(Choose (attr e 'list') 1000000000)",
    "choose none": "(Choose (attr e 'list') 0)",
    "class": "(attr (attr e 'x') '__class__')",
    "subclasses": "(call (attr (attr (attr e 'x') '__class__') '__subclasses__'))",
    "class by getattr": "(call getattr (attr e 'x') '__class__')",
    "class by subscript": "(subscript (attr e 'x') '__class__')",
    "globals": "(attr (attr np 'sqrt') '__globals__')",
    "numpy loads": "(call (attr np 'load') 'file')",
    "numpy by getattr": "(call getattr np 'load')",
    "eval": "(call eval '1')",
    "import": "(call __import__ 'os')",
    "builtins": "(attr __builtins__ 'open')",
    "files": "(call open 'file')",
    "method of a text": "(call (attr 'a' 'format') (attr e 'x'))",
    "long integer by name": f"(* (attr e 'x') (call int '{'9' * 300}'))",
    "text for int": f"(* (attr e 'x') (call int '{'9' * 5_000}'))",
    "lambda text, deep": f"(call Select (attr e 'list') 'lambda y: {'(' * 500}y{')' * 500}')",
    "lambda text, signs": f"(call Select (attr e 'list') 'lambda y: {'-' * 5_000}y')",
    "lambda text, power": "(call Select (attr e 'list') 'lambda y: y * 10**10**10')",
    "lambda text, long": f"(call Select (attr e 'list') 'lambda y: {'y+' * 50_000}y')",
    "lambda text, statement": "(call Select (attr e 'list') 'import os')",
    "lambda text, assignment": "(call Select (attr e 'list') 'lambda y: (z := y)')",
    "lambda text, dunder": "(call Select (attr e 'list') 'lambda y: y.__class__')",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_func_adl_refuses(name: str) -> None:
    with pytest.raises((QueryError, ResourceExhausted)) as caught:
        run("uproot", of_row(REFUSED[name]))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1_000


EXPLOSIONS = {
    "choose": "(Choose (attr e 'list') 20)",
    "loops": wrapped("(Select (attr e 'list') (lambda (list y) _))", 6, "y"),
    "pairs of pairs": wrapped("(Choose _ 2)", 4, "(attr e 'list')"),
    "concatenations": wrapped("(call (lambda (list y) (Concat y y)) _)", 40, "(attr e 'list')"),
}


@pytest.mark.parametrize("name", EXPLOSIONS)
def test_func_adl_bounds_what_grows(name: str) -> None:
    with pytest.raises((QueryError, ResourceExhausted)):
        run("uproot", of_row(EXPLOSIONS[name]))


def test_func_adl_bounds_rows_that_double_with_each_step() -> None:
    body = wrapped("(Select _ (lambda (list y) (list y y)))", 60, of_row("(attr e 'x')"))
    with pytest.raises(QueryError, match="more than 20000 columns"):
        run("uproot", body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("(* (attr e 'x') 1e400)", np.inf),
        ("(* (attr e 'x') -1e400)", -np.inf),
        ("(+ (attr e 'x') 1e-400)", 1.0),
    ],
)
def test_numbers_beyond_floats_are_infinite_or_zero_as_in_python(body: str, value: float) -> None:
    assert run("uproot", of_row(body))[1] == value


RAW_REFUSED = {
    "deep": "(" * 5_000 + "x" + ")" * 5_000,
    "deep subscripts": "x" + "[0]" * 5_000,
    "signs": "-" * 60_000 + "x",
    "power": "x * 10**10**10",
    "shift": "n + (1 << (1 << 60))",
    "number": "x + " + "9" * 5_000,
    "class": "x.__class__",
    "subclasses": "x.__class__.__subclasses__()",
    "class by subscript": "x['__class__']",
    "get": "get('__class__')",
    "getter's globals": "get.__globals__",
    "function's globals": "sqrt.__globals__",
    "eval": "eval('1')",
    "import": "__import__('os')",
    "lambda": "(lambda: 0)()",
    "comprehension": "[y for y in x]",
    "assignment": "(y := x)",
    "format": "'{0.__class__}'.format(x)",
    "f-string": "f'{x}'",
    "text": "x == '" + "a" * 70_000 + "'",
    "combinations": "combinations(list, 10)",
    "very many combinations": "combinations(list, 1000000000)",
    "product": "cartesian([list, list, list, list, list])",
    "padding": "pad_none(list, 1000000000000)",
    "element": "list[:, 10**18]",
    "slice without steps": "list[:, ::0]",
    "slice beyond": "list[:, 10**30:]",
    "fields": "combinations(list, 2, fields=['a', 'a'])",
    "combined combinations": "combinations(combinations(combinations(list, 40), 40), 40)",
}


@pytest.mark.parametrize("name", RAW_REFUSED)
def test_uproot_raw_refuses(name: str) -> None:
    with pytest.raises((QueryError, ResourceExhausted)) as caught:
        run_raw(expressions=[RAW_REFUSED[name]])
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 1_000


@pytest.mark.parametrize("pattern", ["/(a+)+$/", "/(a|a)*$/", "/(a|aa)+$/", "/(.*)*$/", "/((a*)*)*b/"])
def test_patterns_that_backtrack_for_ever_elsewhere_are_matched_at_once(pattern: str) -> None:
    with contextlib.suppress(UnknownName):
        run_raw(filter_name=pattern)


@pytest.mark.parametrize("pattern", ["/(a{1,500}){1,500}/", "/" + "(" * 400 + ")" * 400 + "/", "/(?=a)\\1/"])
def test_patterns_that_would_grow_are_refused(pattern: str) -> None:
    with pytest.raises(QueryError):
        run_raw(filter_name=pattern)


def test_aliases_that_double_are_computed_once_each() -> None:
    aliases = {f"a{i + 1}": f"a{i} + a{i}" for i in range(40)} | {"a0": "x"}
    assert run_raw(expressions=["a40"], aliases=aliases)["a40"][1] == 2.0**40
