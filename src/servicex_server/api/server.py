"""The HTTP application: routes, checks in front, errors behind."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from fastapi import APIRouter, FastAPI, Request
from starlette.middleware import Middleware
from starlette.responses import Response

from servicex_server.api.config import ApiConfig
from servicex_server.api.context import ApiContext
from servicex_server.api.errors import ErrorBoundary, ErrorPage, install_handlers
from servicex_server.api.events import stream_events
from servicex_server.api.guard import Guard, HostRule
from servicex_server.api.measure import Measured, NoteRoute
from servicex_server.api.middleware import AnswerInTime, BodyLimit, PlainPaths, ResponseHeaders
from servicex_server.api.ready import ReadyMade
from servicex_server.api.routes import dataset, history, info, token, transformation
from servicex_server.api.s3 import build_root_route, build_router
from servicex_server.api.schemas import Message
from servicex_server.auth import Gate
from servicex_server.model.request import Principal
from servicex_server.service.bucket import RequestBuckets
from servicex_server.service.context import Services
from servicex_server.service.principal import find_principal, list_principals

ROUTERS: tuple[APIRouter, ...] = (
    token.router,
    info.router,
    transformation.router,
    history.router,
    dataset.router,
)

DESCRIPTION = """Filtered columns from LHC data sets. The routes are those of the official ServiceX server;
every error is an object with a `message`. Results are read from the S3-compatible endpoint on the same port,
with the key pair that a request's status carries."""


class InstallPages(Protocol):
    """Adds the web pages to an application; answers with the page that shows errors."""

    def __call__(
        self,
        app: FastAPI,
        *,
        services: Services,
        gate: Gate,
        app_version: str,
        base_url: Callable[[Request], str],
        stream_events: Callable[[Request, Services, Principal, str, str | None], Awaitable[Response]],
    ) -> ErrorPage: ...


def build_app(services: Services, config: ApiConfig, *, install_pages: InstallPages | None = None) -> FastAPI:
    """The application that serves the public API and the S3 read endpoint.

    Args:
        services: what the use cases work with; opened and closed by the caller.
        config: how the server presents itself.
        install_pages: `web.install_pages`, for a server with pages (and `/docs`).
    """
    gate = Gate(
        config.access_tokens,
        is_open=not config.auth_enabled,
        find_by_token=partial(find_principal, services.db),
        find_by_name=partial(_find_by_name, services),
    )
    context = ApiContext(services=services, config=config, gate=gate)
    app = FastAPI(
        title="ServiceX server",
        version=config.app_version,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        middleware=_middleware(config, services),
        responses={"default": {"model": Message, "description": "What is wrong"}},
    )
    app.state.api = context
    buckets = RequestBuckets(services)
    app.router.routes.append(
        build_root_route(buckets, services.store, region=config.region, public_host=config.public_host)
    )
    for router in ROUTERS:
        app.include_router(router)
    error_page = None
    if install_pages is not None:
        error_page = install_pages(
            app,
            services=services,
            gate=gate,
            app_version=config.app_version,
            base_url=context.base_url,
            stream_events=stream_events,
        )
    app.include_router(
        build_router(buckets, services.store, region=config.region, public_host=config.public_host)
    )
    install_handlers(app, error_page)
    return app


def end_waits(app: FastAPI) -> None:
    """Ends event streams and held answers of an application that is about to stop.

    They would else be waited for, and those that last too long be cut off: a caller whose submit is answered
    with an error asks again, and has two requests.
    """
    context: ApiContext = app.state.api
    context.services.streams.close()
    context.services.notifier.dismiss()


def _middleware(config: ApiConfig, services: Services) -> list[Middleware]:
    """What a request passes on its way in, in this order."""
    return [
        Middleware(Measured),
        Middleware(ResponseHeaders),
        Middleware(Guard, rule=HostRule.from_names(config.allowed_hosts, config.public_host)),
        Middleware(PlainPaths),
        # Other servers' commits are unknown here.
        Middleware(ReadyMade, version=lambda: services.db.version if services.hints is None else None),
        Middleware(BodyLimit, max_bytes=config.max_body_bytes),
        Middleware(AnswerInTime, within_s=config.answer_within_s),
        Middleware(NoteRoute),
        Middleware(ErrorBoundary),
    ]


async def _find_by_name(services: Services, name: str) -> Principal | None:
    principals = await list_principals(services.db)
    return next((principal for principal in principals if principal.name == name), None)
