"""The one place where errors become HTTP: status codes, the body `{"message": …}`, and what is logged.

The official client shows `message` to its user; it asks for a new token after a 401 only, drops a remembered
request after a 404 only, and takes a 400 for the user's own mistake.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from servicex_server.api.text import to_message
from servicex_server.errors import (
    Busy,
    Conflict,
    InvalidRequest,
    LimitReached,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    ServicexError,
    StoreFull,
)

logger = logging.getLogger(__name__)

STATUS_OF: Mapping[type[ServicexError], int] = {
    InvalidRequest: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    NotFound: 404,
    # As the official server: a request that is (not) finished yet.
    Conflict: 400,
    LimitReached: 429,
    Busy: 503,
    StoreFull: 507,
}

_BUSY_RETRY_S = "2"


ErrorPage = Callable[[Request, int, str], Response]
"""Shows an error, given its status and message, to a person with a browser."""


def status_of(error: ServicexError) -> int:
    """The HTTP status of an error; 500 for those that no caller can cause."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind]
    return 500


def error_response(status: int, text: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The body that every error has."""
    return JSONResponse({"message": to_message(text)}, status, headers=dict(headers or {}))


def install_handlers(app: FastAPI, error_page: ErrorPage | None = None) -> None:
    """Makes every error that leaves a handler an answer in the one shape (a page for a browser)."""
    app.state.error_page = error_page
    app.add_exception_handler(ServicexError, _on_servicex_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)


def _answer(request: Request, status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    page: ErrorPage | None = request.app.state.error_page
    if page is not None and "text/html" in request.headers.get("accept", ""):
        response = page(request, status, text)
        response.headers.update(headers or {})
        return response
    return error_response(status, text, headers)


async def _on_servicex_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServicexError)  # noqa: S101  registered for this class only
    status = status_of(error)
    if status == 500:
        return _answer(request, 500, _log_defect(error))
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    elif status == 503:
        headers["Retry-After"] = _BUSY_RETRY_S
    return _answer(request, status, error.message, headers)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    text = str(error.detail)
    if error.status_code == 404:
        text = f"no such page: {request.method} {request.url.path}; GET /docs lists what there is"
    elif error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        text = f"{request.method} is not possible on {request.url.path}; allowed: {allowed}"
    return _answer(request, error.status_code, text, error.headers)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class only
    wrong = "; ".join(f"{'.'.join(map(str, part['loc'][1:]))}: {part['msg']}" for part in error.errors())
    return _answer(request, 400, f"the request is malformed: {wrong}")


async def _on_disconnect(request: Request, error: Exception) -> Response:
    # Nobody reads this answer.
    logger.debug("caller of %s left before its body was read", request.url.path, exc_info=error)
    return error_response(400, "the request ended early")


def _log_defect(error: Exception) -> str:
    reference = uuid.uuid4().hex[:12]
    logger.error("internal error, reference %s", reference, exc_info=error)
    return f"internal error, reference {reference}"


class ErrorBoundary:
    """Innermost middleware: an unexpected exception is logged under a reference and answered with it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watch(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            text = _log_defect(error)
            if has_started:
                # The only honest signal left is to break the connection off.
                raise
            await error_response(500, text)(scope, receive, send)
