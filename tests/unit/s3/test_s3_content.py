"""Ranges, conditions and the sending of one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from servicex_server.api.s3.content import Extent, find_extent, is_unmodified
from servicex_server.api.s3.refusal import Refusal
from servicex_server.api.s3.request import S3Request
from servicex_server.api.s3.transfer import Head, send_pieces
from servicex_server.errors import StoreUnavailable
from servicex_server.model.bucket import BucketObject

MODIFIED = datetime(2026, 11, 22, 10, 0, 0, 500_000, tzinfo=UTC)
FOUND = BucketObject("k", 100, "tag-1", MODIFIED, "s")
SAME_TIME = format_datetime(MODIFIED, usegmt=True)


def make_request(**headers: str) -> S3Request:
    named = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    return S3Request("GET", "/b/k", "/b/k", "b", "k", (), named)


@pytest.mark.parametrize(
    ("text", "extent"),
    [
        ("bytes=0-9", Extent(0, 10, is_partial=True)),
        ("bytes=90-", Extent(90, 100, is_partial=True)),
        ("bytes=-5", Extent(95, 100, is_partial=True)),
        ("bytes=-500", Extent(0, 100, is_partial=True)),
        ("Bytes = 99-99", Extent(99, 100, is_partial=True)),
        ("bytes=0-1,5-6", Extent(0, 100, is_partial=False)),
        ("bytes=9-5", Extent(0, 100, is_partial=False)),
        ("bytes=-", Extent(0, 100, is_partial=False)),
        ("bytes=٣-٤", Extent(0, 100, is_partial=False)),
        ("bytes=0-" + "9" * 5000, Extent(0, 100, is_partial=False)),
        ("lines=0-1", Extent(0, 100, is_partial=False)),
    ],
)
def test_ranges(text: str, extent: Extent) -> None:
    assert find_extent(make_request(range=text), FOUND) == extent


@pytest.mark.parametrize("text", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_outside(text: str) -> None:
    with pytest.raises(Refusal, match="100 bytes") as caught:
        find_extent(make_request(range=text), FOUND)
    assert caught.value.status == 416


@given(st.text(max_size=20).map(lambda text: "bytes=" + text))
def test_any_range_is_within_or_refused(text: str) -> None:
    try:
        extent = find_extent(make_request(range=text), FOUND)
    except Refusal:
        return
    assert 0 <= extent.start < extent.stop <= 100


@pytest.mark.parametrize(
    ("condition", "is_partial"),
    [
        ('"tag-1"', True),
        ('"other"', False),
        ('W/"tag-1"', False),
        (SAME_TIME, True),
        ("Sun, 22 Nov 2026 09:00:00 GMT", False),
        ("soon", False),
    ],
)
def test_if_range(condition: str, *, is_partial: bool) -> None:
    assert find_extent(make_request(range="bytes=0-1", if_range=condition), FOUND).is_partial is is_partial


@pytest.mark.parametrize(
    ("headers", "unmodified"),
    [
        ({}, False),
        ({"if_none_match": '"tag-1"'}, True),
        ({"if_none_match": 'W/"x", "tag-1"'}, True),
        ({"if_none_match": "*"}, True),
        ({"if_none_match": '"x"', "if_modified_since": SAME_TIME}, False),
        ({"if_modified_since": SAME_TIME}, True),
        ({"if_modified_since": "Sun, 22 Nov 2026 09:59:59 GMT"}, False),
        ({"if_modified_since": "soon"}, False),
        ({"if_match": '"tag-1"', "if_unmodified_since": "Sun, 22 Nov 1998 09:59:59 GMT"}, False),
        ({"if_unmodified_since": SAME_TIME}, False),
    ],
)
def test_conditions(headers: dict[str, str], *, unmodified: bool) -> None:
    assert is_unmodified(make_request(**headers), FOUND) is unmodified


async def pieces(*given_pieces: bytes) -> AsyncGenerator[bytes, None]:
    for piece in given_pieces:
        yield piece


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_pieces_are_sent_in_order_and_ended() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_pieces(Head(200, {"a": "b"}, 5), b"ab", pieces(b"cd", b"e"), never, send)
    assert sent[0] == {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
    assert [message["body"] for message in sent[1:]] == [b"ab", b"cd", b"e"]
    assert [message["more_body"] for message in sent[1:]] == [True, True, False]


async def test_an_object_that_is_too_short_leaves_the_answer_open() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_pieces(Head(200, {}, 5), b"ab", pieces(), never, send)
    assert sent[-1]["more_body"] is True


async def test_a_store_that_fails_midway_leaves_the_answer_open(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def failing() -> AsyncGenerator[bytes, None]:
        yield b"cd"
        message = "the store is away"
        raise StoreUnavailable(message)

    await send_pieces(Head(200, {}, 9), b"ab", failing(), never, send)
    assert [message["body"] for message in sent[1:]] == [b"ab", b"cd"]
    assert sent[-1]["more_body"] is True
    assert "4 of 9 bytes sent, the store is away" in caplog.text


async def test_reading_stops_when_the_client_has_gone() -> None:
    gone, n_read = asyncio.Event(), 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal n_read
        while True:
            n_read += 1
            yield b"x"

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if n_read == 3:
            gone.set()
            await asyncio.Event().wait()

    await send_pieces(Head(200, {}, 1_000_000), b"x", endless(), receive, send)
    assert n_read == 3
