"""Polls are answered with ready-made bytes, which are never old and never hide a change."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge import Edge
from servicex_server.api.ready import ReadyMade

POLL = "/servicex/transformation/7"


class Maker:
    """An application that counts how often it had to answer; `version` and `now_s` are a test's to set."""

    def __init__(self) -> None:
        self.version: int | None = 1
        self.now_s = 100.0
        self.made = 0
        self.response: Callable[[], Response] = lambda: JSONResponse({"made": self.made})
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])
        self._ready = ReadyMade(app, lambda: self.version, lambda: self.now_s)

    async def _answer(self, _: Request) -> Response:
        self.made += 1
        return self.response()

    def http(self, **headers: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self._ready)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=headers)


async def made(http: httpx.AsyncClient, url: str = POLL) -> int:
    number: int = (await http.get(url)).json()["made"]
    return number


async def test_the_same_poll_gets_the_same_bytes_for_a_moment() -> None:
    maker = Maker()
    http = maker.http(Authorization="Bearer ann")
    first = await http.get(POLL)
    maker.now_s += 0.19
    second = await http.get(POLL)
    assert (second.content, second.headers) == (first.content, first.headers)
    maker.now_s += 0.02
    assert await made(http) == 2


async def test_a_commit_makes_answers_anew() -> None:
    maker = Maker()
    http = maker.http()
    assert await made(http) == 1
    maker.version = None  # a commit is on its way
    assert [await made(http), await made(http)] == [2, 3]
    maker.version = 2
    assert [await made(http), await made(http)] == [4, 4]


async def test_what_changed_while_an_answer_was_made_is_not_hidden() -> None:
    maker = Maker()

    def change() -> Response:
        maker.version = 2
        return JSONResponse({"made": maker.made})

    maker.response = change
    assert [await made(maker.http()), await made(maker.http())] == [1, 2]


async def test_an_answer_belongs_to_who_asked_and_how() -> None:
    maker = Maker()
    ann, bob = maker.http(Authorization="Bearer ann"), maker.http(Authorization="Bearer bob")
    assert [await made(ann), await made(bob), await made(ann), await made(bob)] == [1, 2, 1, 2]
    assert await made(maker.http()) == 3
    assert await made(maker.http(Authorization="Bearer ann", Host="other")) == 4
    assert await made(ann, f"{POLL}/status") == 5
    assert await made(ann, f"{POLL}/status?details=1") == 6
    assert await made(ann, f"{POLL}/status?details=1") == 7


@pytest.mark.parametrize("url", [f"{POLL}/results", f"{POLL}/cancel", "/servicex/transformation", "/x"])
async def test_other_calls_are_made_each_time(url: str) -> None:
    maker = Maker()
    assert [await made(maker.http(), url), await made(maker.http(), url)] == [1, 2]


async def test_neither_refusals_nor_large_answers_are_kept() -> None:
    maker = Maker()
    for response in (JSONResponse({}, 404), JSONResponse({"text": "x" * 100_000})):
        before = maker.made
        maker.response = lambda response=response: response  # type: ignore[misc]  # mypy sees no default
        await maker.http().get(POLL)
        await maker.http().get(POLL)
        assert maker.made == before + 2
    posted = maker.made
    await maker.http().post(POLL)
    await maker.http().post(POLL)
    assert maker.made == posted + 2


async def test_memory_is_bounded() -> None:
    maker = Maker()
    http = maker.http()
    for number in range(300):
        await http.get(f"/servicex/transformation/{number}")
    assert await made(http, "/servicex/transformation/0") == 301


async def test_polls_of_a_request_see_every_change_at_once(edge: Edge) -> None:
    request_id = await edge.submit("broken.root")
    status = await edge.finish(request_id)
    http, url = edge.http(), f"/servicex/transformation/{request_id}"
    assert [(await http.get(url)).json() for _ in range(3)] == [status] * 3
    assert (await edge.http("bob").get(url)).status_code == 403
    assert (await http.post(f"{url}/retry")).status_code == 200
    assert (await edge.finish(request_id))["finish-time"] != status["finish-time"]
    assert (await http.delete(url)).status_code == 200
    assert (await http.get(url)).status_code == 404
