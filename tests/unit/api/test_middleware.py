"""Slashes, HEAD, body sizes, headers and time, before any route is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicex_server.api.errors import ErrorBoundary, install_handlers
from servicex_server.api.middleware import AnswerInTime, BodyLimit, PlainPaths, ResponseHeaders

BUCKET = "9f1b2c3d-0000-4000-8000-0123456789ab"


async def tell_path(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked for."""
    content = {"path": scope["path"], "raw": scope["raw_path"].decode(), "method": scope["method"]}
    await JSONResponse(content)(scope, receive, send)


def http_for(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("/servicex", "/servicex"),
        ("//servicex", "/servicex"),
        ("///servicex//transformation///", "/servicex/transformation"),
        ("/transformation-request//7/results?status=failure", "/transformation-request/7/results"),
        ("/", "/"),
        ("///", "/"),
        (f"/{BUCKET}/a//b/", f"/{BUCKET}/a//b/"),
        (f"/{BUCKET}//", f"/{BUCKET}//"),
        (f"/{BUCKET}", f"/{BUCKET}"),
    ],
)
async def test_slashes_are_evened_out_except_in_buckets(sent: str, seen: str) -> None:
    async with http_for(PlainPaths(tell_path)) as http:
        answer = (await http.get(f"http://127.0.0.1{sent}")).json()
    assert answer["path"] == answer["raw"] == seen


async def test_head_is_a_get_without_body_except_in_buckets() -> None:
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        sent.append(message)

    async def nothing() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {"type": "http", "method": "HEAD", "path": "/x", "raw_path": b"/x", "headers": []}
    await PlainPaths(tell_path)(scope, nothing, collect)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"content-length"] != b"0"
    assert sent[1]["body"] == b""

    sent.clear()
    bucket = {**scope, "path": f"/{BUCKET}/k", "raw_path": f"/{BUCKET}/k".encode()}
    await PlainPaths(tell_path)(bucket, nothing, collect)
    assert b'"HEAD"' in sent[1]["body"]


def build_app(*middleware: Middleware) -> FastAPI:
    app = FastAPI(middleware=[*middleware, Middleware(ErrorBoundary)], openapi_url=None)
    install_handlers(app)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.get("/never")
    async def never() -> None:
        await asyncio.Event().wait()

    @app.get("/never/results")
    async def patient() -> str:
        await asyncio.sleep(0)
        return "done"

    @app.get("/broken")
    async def broken() -> None:
        message = "secret detail"
        raise RuntimeError(message)

    @app.get("/plain")
    async def plain() -> Response:
        return Response("x", headers={"Cache-Control": "max-age=1"})

    return app


async def pieces(n_bytes: int) -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for _ in range(n_bytes // 10):
        yield b"0123456789"


async def test_body_within_the_bound_passes() -> None:
    async with http_for(build_app(Middleware(BodyLimit, max_bytes=100))) as http:
        assert (await http.post("/length", content=b"x" * 100)).json() == 100
        assert (await http.post("/length", content=pieces(100))).json() == 100


async def test_body_beyond_the_bound_is_refused_announced_or_not() -> None:
    async with http_for(build_app(Middleware(BodyLimit, max_bytes=100))) as http:
        announced = await http.post("/length", content=b"x" * 101)
        streamed = await http.post("/length", content=pieces(1000))
        absurd = await http.post("/length", content=b"", headers={"Content-Length": "9" * 5000})
    for answer in (announced, streamed, absurd):
        assert answer.status_code == 413
        assert "100 bytes" in answer.json()["message"]


async def test_endless_body_is_not_read_to_its_end() -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 10
            yield b"0123456789"

    async with http_for(build_app(Middleware(BodyLimit, max_bytes=100))) as http:
        answer = await http.post("/length", content=endless())
    assert answer.status_code == 413
    assert read <= 120


async def test_content_length_must_be_a_number() -> None:
    async with http_for(build_app(Middleware(BodyLimit, max_bytes=100))) as http:
        answer = await http.post("/length", content=b"", headers={"Content-Length": "-1"})
    assert answer.status_code == 400
    assert "message" in answer.json()


async def test_stuck_route_is_answered_503() -> None:
    async with http_for(build_app(Middleware(AnswerInTime, within_s=0.01))) as http:
        answer = await http.get("/never")
        patient = await http.get("/never/results")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert "busy" in answer.json()["message"]
    assert patient.status_code == 200


async def test_defect_is_answered_with_a_reference_that_the_log_has(caplog: pytest.LogCaptureFixture) -> None:
    async with http_for(build_app()) as http:
        answer = await http.get("/broken")
    assert answer.status_code == 500
    message = answer.json()["message"]
    assert "secret detail" not in message
    reference = message.rsplit(maxsplit=1)[1]
    assert reference in caplog.text
    assert "secret detail" in caplog.text


async def test_answers_are_not_kept_or_guessed_at() -> None:
    async with http_for(build_app(Middleware(ResponseHeaders))) as http:
        broken = await http.get("/broken")
        plain = await http.get("/plain")
    assert broken.headers["X-Content-Type-Options"] == "nosniff"
    assert broken.headers["Cache-Control"] == "no-store"
    assert plain.headers["Cache-Control"] == "max-age=1"
