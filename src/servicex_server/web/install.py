"""Adding the pages to an application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import FastAPI, Request
from starlette.responses import Response

from servicex_server.auth import Gate
from servicex_server.model.request import Principal
from servicex_server.service.context import Services
from servicex_server.web import pages, session
from servicex_server.web.context import PageContext
from servicex_server.web.rendering import render


def install_pages(
    app: FastAPI,
    *,
    services: Services,
    gate: Gate,
    app_version: str,
    base_url: Callable[[Request], str],
    stream_events: Callable[[Request, Services, Principal, str, str | None], Awaitable[Response]],
) -> Callable[[Request, int, str], Response]:
    """Adds the pages' routes to `app`; answers with what shows an error to a browser."""
    app.state.pages = PageContext(
        services=services,
        gate=gate,
        app_version=app_version,
        base_url=base_url,
        stream_events=stream_events,
    )
    app.include_router(pages.router)
    app.include_router(session.router)
    return show_error


def show_error(request: Request, status: int, message: str) -> Response:
    """The page for an error; for a page that needs a sign-in, the form."""
    if status == HTTPStatus.UNAUTHORIZED and request.url.path.startswith(pages.PRIVATE):
        return session.sign_in_form(session.local_target(request.url.path, request.url.query), status=status)
    return render("error.html", status=status, code=status, phrase=HTTPStatus(status).phrase, message=message)
