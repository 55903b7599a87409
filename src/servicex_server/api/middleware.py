"""What is evened out before a request reaches its route: slashes, HEAD, body size, response headers, time."""

from __future__ import annotations

import asyncio
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicex_server.api.errors import error_response

_BUCKET_PATH = re.compile(
    r"/[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}(/|$)"
)


def is_bucket_path(path: str) -> bool:
    """Whether the path lies in a request's bucket, where every byte of it counts in a signature."""
    return _BUCKET_PATH.match(path) is not None


class PlainPaths:
    """Takes `//servicex/transformation/` for `/servicex/transformation`, without a redirect.

    The official client glues paths to its endpoint as it is and follows no redirects. HEAD becomes a GET
    whose body is left out. Bucket paths stay untouched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_bucket_path(scope["path"]):
            await self._app(scope, receive, send)
            return
        plain = dict(scope)
        plain["path"] = re.sub(r"/+", "/", scope["path"]).rstrip("/") or "/"
        if scope.get("raw_path") is not None:
            plain["raw_path"] = re.sub(rb"/+", b"/", scope["raw_path"]).rstrip(b"/") or b"/"
        # The one GET that changes something is not done for somebody who only wants to look, and one that
        # goes on for hours is not worth it.
        if scope["method"] != "HEAD" or plain["path"].endswith(("/cancel", "/events")):
            await self._app(plain, receive, send)
            return
        plain["method"] = "GET"

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app(plain, receive, send_head)


class BodyLimit:
    """Answers 413 to a body beyond the bound, before or while it comes in."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._text = f"the request body is larger than the {max_bytes} bytes allowed"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if not announced.isdecimal():
            await error_response(400, "Content-Length is not a number")(scope, receive, send)
            return
        if len(announced) > 18 or int(announced) > self._max_bytes:
            await error_response(413, self._text, {"Connection": "close"})(scope, receive, send)
            return
        so_far = 0

        async def count() -> Message:
            nonlocal so_far
            message = await receive()
            so_far += len(message.get("body", b""))
            if so_far > self._max_bytes:
                raise HTTPException(413, self._text, {"Connection": "close"})
            return message

        await self._app(scope, count, send)


class ResponseHeaders:
    """Tells browsers not to guess types and nobody to keep answers that may hold secrets."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_bucket = is_bucket_path(scope["path"])

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                if not is_bucket:
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, add)


class AnswerInTime:
    """Answers 503 rather than nothing: the client gives up after 5 s, except on submits and `/results`.

    What is streamed for long has other callers.
    """

    def __init__(self, app: ASGIApp, within_s: float) -> None:
        self._app = app
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_patient(scope):
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            async with asyncio.timeout(self._within_s):
                await self._app(scope, receive, watch)
        except TimeoutError:
            if has_started:
                raise
            text = "the server is busy and could not answer in time; try again"
            await error_response(503, text, {"Retry-After": "2"})(scope, receive, send)


def _is_patient(scope: Scope) -> bool:
    path: str = scope["path"]
    is_submit = scope["method"] == "POST" and path == "/servicex/transformation"
    return is_submit or is_bucket_path(path) or path.endswith(("/results", "/events", "/provenance"))
