"""Baskets: where the entries are, and what is refused."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from root_bytes import CODECS, basket_bytes
from servicex_server.run.read.basket import embedded_basket, parse_basket

CONTENT = np.arange(100, dtype=">i4").tobytes()


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("is_far", [False, True])
def test_content_and_table_are_told_apart(codec: str | None, is_far: bool) -> None:
    data = basket_bytes(CONTENT, 3, starts=[0, 40, 48], codec=codec, is_far=is_far)
    basket = parse_basket(memoryview(data))
    assert (basket.n_entries, basket.content_bytes) == (3, len(CONTENT))
    assert bytes(basket.read(48)[:48]) == CONTENT[:48]
    whole = basket.read(basket.size_bytes)
    assert basket.entry_edges(whole).tolist() == [0, 40, 48, len(CONTENT)]
    assert bytes(whole[: basket.content_bytes]) == CONTENT


@pytest.mark.parametrize("starts", [[4, 40, 48], [0, 48, 40], [0, 40, 4000], [0, 40, -4], [0, 40], None])
def test_a_table_that_makes_no_sense_is_refused(starts: list[int] | None) -> None:
    basket = parse_basket(memoryview(basket_bytes(CONTENT, 3, starts=starts)))
    with pytest.raises(ValueError, match="its table of entries"):
        basket.entry_edges(basket.read(basket.size_bytes))


def test_an_embedded_basket_is_like_any_other() -> None:
    content = np.frombuffer(CONTENT, np.uint8)
    basket = embedded_basket(2, content, np.array([0, 8]))
    assert basket.entry_edges(basket.read(basket.size_bytes)).tolist() == [0, 8, len(CONTENT)]
    with pytest.raises(ValueError, match="its table of entries"):
        embedded_basket(2, content, None).entry_edges(content)


@pytest.mark.parametrize(
    ("place", "form", "value"),
    [
        (0, ">i", 10),
        (0, ">i", -1),
        (0, ">i", 10**6),
        (6, ">i", -1),
        (6, ">i", 2**31 - 1),
        (14, ">h", 10),
        (14, ">h", -10),
        (14, ">h", 30_000),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(place: int, form: str, value: int) -> None:
    data = bytearray(basket_bytes(CONTENT, 3, codec="ZL"))
    struct.pack_into(form, data, place, value)
    with pytest.raises(ValueError, match=r"its header|compressed block"):
        parse_basket(memoryview(data))


@settings(deadline=None)
@given(cut=st.integers(0, 200), data=st.data())
def test_any_bytes_are_parsed_or_refused(cut: int, data: st.DataObject) -> None:
    raw = bytearray(basket_bytes(CONTENT, 3, starts=[0, 40, 48], codec="ZS"))
    for _ in range(3):
        raw[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    try:
        basket = parse_basket(memoryview(raw)[: len(raw) - cut])
        basket.entry_edges(basket.read(basket.size_bytes))
    except ValueError:
        return
    assert basket.n_entries >= 0
