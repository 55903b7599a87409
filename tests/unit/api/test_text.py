"""Texts that the client can show."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.api.text import to_message

MARKUP = re.compile(r"\[[a-zA-Z/#@][^\[]*?\]")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("[jet_pt, jet_eta]", "(jet_pt, jet_eta)"),
        ("[/abs/path] [#x] [@y]", "(/abs/path) (#x) (@y)"),
        ("jets[0] and [1, 2]", "jets[0] and [1, 2]"),
        ("[[a], [b]]", "[(a), (b)]"),
        ("[a[0], b]", "(a[0], b)"),
        ("[open", "(open"),
        ("close]", "close]"),
        ("['a']", "['a']"),
        ("", ""),
    ],
)
def test_markup_becomes_plain(text: str, shown: str) -> None:
    assert to_message(text) == shown


@given(st.text(alphabet="[]a/#@0 ,'\\", max_size=60))
def test_no_markup_is_left(text: str) -> None:
    shown = to_message(text)
    assert MARKUP.search(shown) is None
    assert len(shown) == len(text)


@given(st.text(max_size=300), st.integers(2, 100))
def test_length_is_bounded(text: str, limit: int) -> None:
    assert len(to_message(text, limit)) <= limit
