"""Patterns on names: the answers of Python's `re`, in bounded time."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.errors import QueryError, QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.parse.uproot_raw import read_queries
from servicex_server.plan.pattern import any_of, nearest
from servicex_server.plan.regex import Regex

PATTERNS = [
    "", "a", "ab", "a*", "a+b", "a?b", "a|b", "(a|b)*c", "(?:ab)+", "[abc]+", "[^a]b", "[a-c]*x", r"\d+",
    r"\w\d", r"\bab\b", "^a", "a$", "a.c", "a{2}", "a{1,2}b", "a{2,}", "a{,2}b", "a{x}", "(?!a)b*", "(?=ab)a",
    "a*?b",
    r"\.", "[]a]", "[a-]", r"[\d]+", "(?P<n>a)b", "(?i)AB", "(|a)b", "a||b", "^$", r"[\]]", "(a*)*b",
    r"\Aa\Z", "^(?!.*b).*$", r"\Ba", r"\x61+", r"[^\W\d]+", ".*_pt", "x*y*z*",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="abcx1_.-] A", max_size=8))
def test_matches_what_re_matches(pattern: str, text: str) -> None:
    assert Regex(pattern).match(text) == (re.match(pattern, text) is not None)


@given(
    pattern=st.text(alphabet="ab|()*+?[]^.{}1,$-\\d", max_size=10),
    text=st.text(alphabet="ab1]{", max_size=6),
    flags=st.sampled_from(["", "i", "s"]),
)
@pytest.mark.filterwarnings("ignore:Possible nested set", "ignore:Possible set")
def test_any_pattern_agrees_with_re_or_is_refused(pattern: str, text: str, flags: str) -> None:
    try:
        ours = Regex(pattern, flags)
    except QueryError:
        return
    try:
        theirs = re.compile(pattern, re.IGNORECASE if "i" in flags else 0)
    except re.error:
        return
    assert ours.match(text) == (theirs.match(text) is not None)


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "(a|aa)+$", "(a*)*b", ".*.*.*.*.*.*.*.*x", "(a|a?)+$", "(.*a){20}"]
)
def test_catastrophic_patterns_end_at_once(pattern: str) -> None:
    assert Regex(pattern).match("a" * 500 + "!") in {True, False}


@pytest.mark.parametrize(
    "pattern",
    [r"(a)\1", "(?<=a)b", "(?P=n)", "(?>a)", "a++", "((((a{99}){99}){99}){99})", "a" * 600,
     "(" * 100 + ")" * 100, "(?=(?=(?=a)))", "(?(1)a|b)", "(?#comment)",
     "((?=a{1600})){400}", "((?!a{40}){40}){40}", "(?=a{6000})"],
)  # fmt: skip
def test_what_could_take_for_ever_is_refused(pattern: str) -> None:
    with pytest.raises(QueryError):
        Regex(pattern)


@pytest.mark.parametrize("pattern", ["(", ")", "[a", "*a", "a)", "[b-a]", "\\", "a{3,2}", r"\y"])
def test_malformed_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(QuerySyntaxError):
        Regex(pattern)


def test_unknown_flags_are_refused() -> None:
    with pytest.raises(UnsupportedQuery, match="flags"):
        any_of(["/a/x"])


@pytest.mark.parametrize(
    ("patterns", "name", "is_matched"),
    [
        (["Muon_pt"], "Muon_pt", True),
        (["Muon_pt"], "Muon_pt2", False),
        (["Muon_*"], "Muon_pt", True),
        (["Muon_?t"], "Muon_pt", True),
        (["Muon_[pe]*"], "Muon_eta", True),
        (["muon_*"], "Muon_pt", False),
        (["/Muon/"], "Muon_pt", True),
        (["/pt/"], "Muon_pt", False),
        (["/muon_(pt|eta)$/i"], "Muon_pt", True),
        (["a", "b"], "b", True),
        ([], "a", False),
    ],
)
def test_exact_names_globs_and_regular_expressions(patterns: list[str], name: str, is_matched: bool) -> None:
    assert any_of(patterns)(name) == is_matched


@pytest.mark.parametrize("pattern", ["/a{1000}/", "/(?=a{1000})/", "*" + "a" * 499])
def test_the_patterns_of_a_list_are_bounded_together(pattern: str) -> None:
    any_of([pattern] * 5)
    with pytest.raises(UnsupportedQuery, match="all together"):
        any_of([pattern] * 50)


def test_the_patterns_of_a_query_are_bounded_together() -> None:
    part = {"treename": "Events", "filter_name": "/a{2000}/"}
    read_queries(json.dumps([part] * 4), None)
    with pytest.raises(UnsupportedQuery, match="all together"):
        read_queries(json.dumps([part] * 8), None)


def test_patterns_are_counted_and_names_are_not() -> None:
    assert any_of([f"Jet_{number}" for number in range(3_000)])("Jet_2999")
    for pattern in ("/a/", "a*"):
        any_of([pattern] * 1_000)
        with pytest.raises(UnsupportedQuery, match="more than 1,000 patterns"):
            any_of([pattern] * 1_001)


def test_no_patterns_let_everything_pass() -> None:
    assert any_of(None)("anything")


def test_nearest_names_ignore_case_and_are_few() -> None:
    candidates = [f"Muon_p{letter}" for letter in "tabcdefgh"]
    assert nearest("muon_PT", candidates)[0] == "Muon_pt"
    assert len(nearest("Muon_px", candidates)) <= 5
    assert nearest("zzz", candidates) == ()
