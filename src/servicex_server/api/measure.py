"""How many requests come, and how long their answers take."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicex_server.api.middleware import is_bucket_path
from servicex_server.telemetry.metrics import HTTP_SECONDS

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_SEEN = "servicex.route"


class Measured:
    """Outermost: times every answer, whoever gives it.

    Scopes are copied on the way in, so what `NoteRoute` finds out inside comes back in a list that all share.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen: list[str] = []
        scope[_SEEN] = seen
        method = scope["method"] if scope["method"] in _METHODS else "other"
        started_s = time.perf_counter()
        status, seconds = "broken", 0.0

        async def watch(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = str(message["status"]), time.perf_counter() - started_s
            await send(message)

        try:
            await self._app(scope, receive, watch)
        finally:
            route = seen[0] if seen else "none"
            HTTP_SECONDS.labels(route, method, status).observe(
                seconds if status != "broken" else time.perf_counter() - started_s
            )


class NoteRoute:
    """Innermost: notes the template of the route that was taken."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            route = _template(scope)
            if route is not None:
                note_route(scope, route)


def note_route(scope: Scope, template: str) -> None:
    """Notes the route of an answer that is given without taking it."""
    seen: list[str] | None = scope.get(_SEEN)
    if seen is not None:
        seen.append(template)


def _template(scope: Scope) -> str | None:
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return "/{bucket}" if is_bucket_path(scope["path"]) else None
