"""The pure parts of the RNTuple reader: encodings of pages, spans of elements, ends of lists."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.run.read.ntuple.envelope import Locator, PageListLink, parse_header, parse_page_list
from servicex_server.run.read.ntuple.offsets import Lists
from servicex_server.run.read.ntuple.page import ENCODINGS, Encoding, decode_page, page_bytes
from servicex_server.run.read.ntuple.spans import Spans, join_spans, one_span, spans_of_mask, touched_pages


def encode(encoding: Encoding, values: list[int]) -> bytes:
    """What a page with these elements holds, by the words of the specification."""
    if encoding.n_bits == 1:
        bits = "".join(str(int(value)) for value in values)
        octets = [bits[start : start + 8][::-1] for start in range(0, len(bits), 8)]
        return bytes(int(octet, 2) for octet in octets)
    if encoding.is_delta:
        values = [value - before for value, before in zip(values, [0, *values], strict=False)]
    if encoding.is_zigzag:
        values = [2 * value if value >= 0 else -2 * value - 1 for value in values]
    width = encoding.dtype.itemsize
    kind = "u" if encoding.is_zigzag else encoding.dtype.kind
    stored = np.array(values, np.dtype(f"<{kind}{width}")).tobytes()
    if encoding.is_split:
        return b"".join(stored[number::width] for number in range(width))
    return stored


@given(number=st.sampled_from(sorted(ENCODINGS)), data=st.data())
def test_a_page_is_decoded_to_what_was_encoded(number: int, data: st.DataObject) -> None:
    encoding = ENCODINGS[number]
    low, high = (0, 1) if encoding.n_bits == 1 else (-100, 100) if encoding.dtype.kind in "if" else (0, 200)
    elements = st.integers(low, high)
    if encoding.n_bits > 8 and encoding.dtype.kind in "iu":
        # Many pages hold small numbers behind a large first one.
        elements |= st.integers(0, 2 ** (encoding.n_bits - 1) - 1)
    values = data.draw(st.lists(elements, max_size=40))
    if encoding.is_index:
        values = sorted(map(abs, values))
    page = encode(encoding, values)
    assert len(page) == page_bytes(encoding, len(values))
    column = np.empty(len(values), np.int64 if encoding.is_index else encoding.dtype)
    decode_page(encoding, np.frombuffer(page, np.uint8), column)
    assert column.tolist() == values


@pytest.mark.parametrize(("number", "dtype"), [(0x11, "i2"), (0x13, "i4"), (0x15, "i8")])
def test_the_extremes_of_an_integer_survive(number: int, dtype: str) -> None:
    limits = np.iinfo(dtype)
    values = [limits.min, -1, 0, 1, limits.max]
    column = np.empty(5, dtype)
    decode_page(ENCODINGS[number], np.frombuffer(encode(ENCODINGS[number], values), np.uint8), column)
    assert column.tolist() == values


@given(mask=st.lists(st.booleans(), max_size=30), first=st.integers(0, 9))
def test_spans_of_a_mask_are_the_true_elements(mask: list[bool], first: int) -> None:
    spans = spans_of_mask(np.array(mask, np.bool_), first)
    assert elements(spans) == [first + number for number, is_kept in enumerate(mask) if is_kept]
    assert (spans.starts[1:] > spans.stops[:-1]).all()
    assert elements(spans.scale(2)) == [2 * number + part for number in elements(spans) for part in (0, 1)]


@given(
    counts=st.lists(st.integers(0, 4), max_size=12),
    mask=st.lists(st.booleans(), min_size=48, max_size=48),
)
def test_touched_pages_are_those_with_wanted_elements(counts: list[int], mask: list[bool]) -> None:
    edges = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    spans = spans_of_mask(np.array(mask[: edges[-1]], np.bool_), 0)
    page_of = np.repeat(np.arange(len(counts)), counts)
    assert touched_pages(edges, spans).tolist() == sorted(
        {int(page_of[number]) for number in elements(spans)}
    )


def elements(spans: Spans) -> list[int]:
    return [
        number
        for start, stop in zip(spans.starts.tolist(), spans.stops.tolist(), strict=True)
        for number in range(start, stop)
    ]


def lists_of(clusters: list[list[int]], spans: Spans) -> Lists:
    """Those of lists with these lengths, cluster by cluster, that are in the spans."""
    ends = np.concatenate([np.cumsum(lengths, dtype=np.int64) for lengths in clusters])
    edges = np.cumsum([0, *map(len, clusters)])
    lows = [0 if start in edges else ends[start - 1] for start in spans.starts.tolist()]
    wanted = ends[np.array(elements(spans), np.int64)]
    return Lists(spans, wanted, np.array(lows, np.int64), edges.astype(np.int64))


@given(clusters=st.lists(st.lists(st.integers(0, 3), max_size=6), min_size=1, max_size=4), data=st.data())
def test_lists_lead_to_their_items(clusters: list[list[int]], data: st.DataObject) -> None:
    lengths = [length for cluster in clusters for length in cluster]
    mask = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    lists = lists_of(clusters, spans_of_mask(np.array(mask, np.bool_), 0))
    kept = [length for length, is_kept in zip(lengths, mask, strict=True) if is_kept]
    assert lists.offsets().tolist() == [0, *np.cumsum(kept)]
    item_edges = np.cumsum([0, *(sum(cluster) for cluster in clusters)])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    expected = [item for item, number in enumerate(owner) if mask[number]]
    assert elements(lists.items(item_edges)) == expected


@pytest.mark.parametrize(
    ("ends", "items", "message"),
    [
        ([2, 1, 3], 3, "ends before it begins"),
        ([-1, 1, 3], 3, "ends before it begins"),
        ([1, 2, 4], 3, "do not end where the items"),
        ([1, 2, 2], 3, "do not end where the items"),
    ],
)
def test_lists_that_do_not_fit_their_items_are_refused(ends: list[int], items: int, message: str) -> None:
    lists = Lists(one_span(0, 3), np.array(ends), np.zeros(1, np.int64), np.array([0, 3]))
    with pytest.raises(ValueError, match=message):
        lists.items(np.array([0, items])) if lists.offsets() is not None else None


def test_a_cluster_without_lists_has_no_items() -> None:
    lists = Lists(one_span(0, 2), np.array([1, 2]), np.zeros(1, np.int64), np.array([0, 2, 2]))
    assert elements(lists.items(np.array([0, 2, 2]))) == [0, 1]
    with pytest.raises(ValueError, match="do not end where the items"):
        lists.items(np.array([0, 2, 3]))


def test_spans_that_touch_are_joined() -> None:
    spans = join_spans(np.array([0, 3, 3, 7]), np.array([3, 3, 5, 8]))
    assert (spans.starts.tolist(), spans.stops.tolist()) == ([0, 7], [5, 8])


@pytest.mark.parametrize("data", [b"", b"\1" * 7, struct.pack("<Q", 1 | 16 << 16) + bytes(8), bytes(64)])
def test_bytes_that_are_no_envelope_are_refused(data: bytes) -> None:
    with pytest.raises((ValueError, struct.error)):
        parse_header(data)
    with pytest.raises((ValueError, struct.error)):
        parse_page_list(data, PageListLink(1, len(data), Locator(0, len(data))), data)
