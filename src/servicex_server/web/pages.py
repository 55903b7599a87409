"""The pages: the server, a request, its files, the routes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from servicex_server.errors import InvalidRequest
from servicex_server.model.kinds import FileStatus
from servicex_server.model.progress import to_event_id
from servicex_server.model.request import TransformRequest
from servicex_server.service import read
from servicex_server.web.context import Context, MaybeVisitor, PageContext, Visitor
from servicex_server.web.rendering import SECURITY_HEADERS, render

router = APIRouter(include_in_schema=False)

PRIVATE = "/transformation-request/"
PER_PAGE = 100
_RECENT = 50
_MAX_PAGE = 10**9
_MARGIN = timedelta(minutes=1)
_METHODS = ("get", "post", "put", "delete")


@dataclass(frozen=True, slots=True)
class Operation:
    """One route as the overview shows it."""

    method: str
    path: str
    summary: str
    parameters: tuple[str, ...]


@router.get("/")
async def show_server(request: Request, context: Context, visitor: MaybeVisitor) -> Response:
    """What this server is, how to use it, and one's latest requests."""
    requests = await read.list_requests(context.services, visitor) if visitor is not None else []
    return render(
        "server.html",
        version=context.app_version,
        endpoint=context.base_url(request),
        codegens=sorted(context.services.codegens.items()),
        visitor=visitor,
        is_open=context.gate.is_open,
        requests=requests[: -_RECENT - 1 : -1],
        n_requests=len(requests),
    )


@router.get(PRIVATE + "{ref}")
async def show_request(ref: str, context: Context, visitor: Visitor) -> Response:
    """One request: its state, its query, its progress."""
    transform = await read.get_request(context.services, visitor, ref)
    statistics = await read.statistics(context.services, visitor, ref)
    return render(
        "request.html",
        request=transform,
        statistics=statistics,
        is_live=not transform.state.is_terminal,
        events=_events(context, transform),
        lacks_workers=context.services.lacks_workers,
    )


@router.get(PRIVATE + "{ref}/events")
async def follow_request(
    ref: str, request: Request, context: Context, visitor: Visitor, after: str | None = None
) -> Response:
    """The events of the API, for a browser: its session opens the pages alone."""
    return await context.stream_events(request, context.services, visitor, ref, after)


@router.get(PRIVATE + "{ref}/results")
async def show_results(
    ref: str,
    context: Context,
    visitor: Visitor,
    status: str = "",
    page: Annotated[str, Query()] = "1",
) -> Response:
    """How each file ended, with the reason where it failed."""
    wanted, number = _status(status), _page(page)
    transform = await read.get_request(context.services, visitor, ref)
    n_results = await read.count_results(context.services, visitor, ref, status=wanted)
    results = await read.list_results(
        context.services,
        visitor,
        ref,
        status=wanted,
        offset=(number - 1) * PER_PAGE,
        limit=PER_PAGE,
        with_tally=True,
    )
    return render(
        "results.html",
        request=transform,
        results=results,
        n_results=n_results,
        wanted=wanted,
        statuses=list(FileStatus),
        page=number,
        n_pages=max(1, -(-n_results // PER_PAGE)),
        is_live=not transform.state.is_terminal,
        events=_events(context, transform),
        lacks_workers=context.services.lacks_workers,
    )


@router.get("/docs")
async def show_routes(request: Request, context: Context) -> Response:
    """Every route of the API, from its OpenAPI description."""
    operations = sorted(_operations(request.app.openapi()), key=lambda operation: operation.path)
    return render("routes.html", operations=operations, version=context.app_version)


@router.get("/style.css")
async def get_style() -> Response:
    """The one style sheet."""
    return _static("style.css", "text/css")


@router.get("/live.js")
async def get_script() -> Response:
    """The one script: it shows on the page what the server's events tell."""
    return _static("live.js", "text/javascript")


def _static(name: str, media_type: str) -> Response:
    text = files("servicex_server.web").joinpath("static", name).read_text(encoding="utf-8")
    headers = {**SECURITY_HEADERS, "Cache-Control": "max-age=3600"}
    return Response(text, media_type=media_type, headers=headers)


def _events(context: PageContext, transform: TransformRequest) -> str | None:
    """Where the page hears what changes after now (clocks may differ a little); None if nothing will."""
    if transform.state.is_terminal:
        return None
    after = to_event_id(context.services.clock() - _MARGIN)
    return f"{PRIVATE}{transform.id}/events?after={after}"


def _status(text: str) -> FileStatus | None:
    if not text:
        return None
    try:
        return FileStatus(text)
    except ValueError:
        message = f"status {text!r} is unknown; allowed: {', '.join(FileStatus)}"
        raise InvalidRequest(message) from None


def _page(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= number <= _MAX_PAGE:
        message = f"page {text!r} is not a number from 1 on"
        raise InvalidRequest(message)
    return number


def _operations(description: Mapping[str, Any]) -> Iterator[Operation]:
    for path, methods in description["paths"].items():
        for method in _METHODS:
            if method in methods:
                known = methods[method]
                names = tuple(p["name"] for p in known.get("parameters", ()) if p["in"] == "query")
                summary = str(known.get("description") or known.get("summary", ""))
                yield Operation(method.upper(), path, summary, names)
