"""What every handler may ask for: the services, the configuration, and who is calling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from servicex_server.api.config import ApiConfig
from servicex_server.auth import Gate
from servicex_server.model.request import Principal
from servicex_server.service.context import Services

_BEARER = HTTPBearer(
    auto_error=False, description="The `token` of your servicex.yaml, or one from /token/refresh."
)


@dataclass(frozen=True, slots=True)
class ApiContext:
    """Bundle of what build_app was given."""

    services: Services
    config: ApiConfig
    gate: Gate

    def base_url(self, request: Request) -> str:
        """URL of this server as the caller sees it, without a trailing slash."""
        if self.config.public_url is not None:
            return self.config.public_url.rstrip("/")
        return f"{request.scope['scheme']}://{request.headers['host']}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a client finds this server, in the two forms the wire has."""

    base_url: str

    @property
    def host(self) -> str:
        """`host[:port]`"""
        return urlsplit(self.base_url).netloc

    @property
    def is_secured(self) -> bool:
        return self.base_url.startswith("https://")


# Asynchronous although they wait for nothing: the framework would run plain functions in threads.
async def api_context(request: Request) -> ApiContext:
    """The bundle that build_app put aside."""
    context: ApiContext = request.app.state.api
    return context


Context = Annotated[ApiContext, Depends(api_context)]


async def endpoint(request: Request, context: Context) -> Endpoint:
    """This server as the caller sees it."""
    return Endpoint(context.base_url(request))


async def caller(
    request: Request, context: Context, _documented: Annotated[object, Security(_BEARER)]
) -> Principal:
    """Who is calling, or NotAuthenticated."""
    return await caller_of(request, context)


async def caller_of(request: Request, context: ApiContext) -> Principal:
    """The same, for a route that knows its context."""
    return await context.gate.authenticate(request.headers.get("authorization"))


Caller = Annotated[Principal, Depends(caller)]
Here = Annotated[Endpoint, Depends(endpoint)]
