"""python queries: what can be said about the code without running it."""

from __future__ import annotations

import base64

import pytest

from servicex_server.errors import QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.parse.python import MAX_SOURCE_BYTES
from servicex_server.plan.schema import MemoryFile

SOURCE = """
def run_query(file_path):
    import uproot
    return uproot.open(file_path)["Events"].arrays(["é"])
"""


def source_of(text: str) -> str:
    script = parse("python", text).script
    assert script is not None
    return script.source


def encode(source: str) -> str:
    return base64.b64encode(source.encode()).decode()


def test_takes_source_and_its_base64() -> None:
    assert source_of(SOURCE) == SOURCE
    assert source_of(encode(SOURCE)) == SOURCE
    folded = "\n".join(encode(SOURCE)[start : start + 40] for start in range(0, len(encode(SOURCE)), 40))
    assert source_of(f"  {folded}\n") == SOURCE
    assert source_of(SOURCE.replace("\n", "\r\n")) == SOURCE
    assert parse("python", SOURCE).canonical() == parse("python", encode(SOURCE)).canonical()


@pytest.mark.parametrize(
    "source",
    [
        "def run_query(file_path, n=3, *args, key=1, **more): pass",
        "def run_query(*paths): pass",
        "run_query = lambda path: 1",
        "run_query: object = print",
        "from math import sqrt as run_query",
        "try:\n    import numba\nexcept ImportError:\n    def run_query(path): pass",
        "if True:\n    x = 1\nelse:\n    def run_query(path): pass",
        "import re\nre.compile('\\d')\ndef run_query(path): return '\\d'",
    ],
)
def test_takes_any_way_to_define_the_function(source: str) -> None:
    assert source_of(source) == source


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (
            "def run_query(path)\n    pass",
            "not valid Python: expected ':' (line 1 of the code: def run_query",
        ),
        ("def f(x):\n  pass\n\ndef run_query(path):\n  x = = 1", "(line 5 of the code: x = = 1)"),
        ("def other(path): pass", "defines no function run_query(file_path); it defines other"),
        ("x = run_query(1)", "defines no function run_query(file_path)"),
        ("class A:\n    def run_query(self): pass", "defines no function run_query(file_path)"),
        ("async def run_query(path): pass", "defines no function run_query(file_path)"),
        ("def run_query(): pass", "must take it (line 1 of the code)"),
        ("def run_query(a, b): pass", "must take it (line 1 of the code)"),
        ("def run_query(a, *, b): pass", "must take it (line 1 of the code)"),
        ("def run_query(a): '\0'", "NUL"),
        ("import os", "is source code or its base64"),
        ("/w==", "is source code or its base64"),
        ("", "the query is empty"),
    ],
)
def test_tells_what_is_wrong_with_the_code(source: str, problem: str) -> None:
    with pytest.raises(QuerySyntaxError) as raised:
        parse("python", source)
    assert problem in raised.value.message
    assert "\n" not in raised.value.message


@pytest.mark.parametrize(
    "source",
    [
        "(" * 50_000,
        "x = " + "-" * 50_000 + "1",
        "x = " + "[" * 90 + "]" * 90 + "\n" + "if x:\n" * 3,
        "x = " + "1+" * 20_000,
        "x = " + "9" * 60_000,
        "a.b" + ".c" * 30_000,
        " " * (2 * MAX_SOURCE_BYTES) + "(",
        "#" * (MAX_SOURCE_BYTES + 1),
        encode("#" * (MAX_SOURCE_BYTES + 1)),
        "A" * 1_000_000,
        "def run_query(x): '\ud800'",
    ],
)
def test_refuses_hostile_code_without_harm(source: str) -> None:
    with pytest.raises(QuerySyntaxError):
        parse("python", source)


def test_never_runs_the_code(tmp_path: object) -> None:
    harmful = "raise SystemExit\ndef run_query(path): pass"
    assert source_of(harmful) == harmful


def test_a_script_cannot_be_bound() -> None:
    with pytest.raises(UnsupportedQuery):
        bind(parse("python", SOURCE), MemoryFile(()))
