"""What the pages' handlers may ask for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from servicex_server.auth import Gate
from servicex_server.errors import NotAuthenticated
from servicex_server.model.request import Principal
from servicex_server.service.context import Services

COOKIE = "servicex_session"


@dataclass(frozen=True, slots=True)
class PageContext:
    """Bundle of what install_pages was given."""

    services: Services
    gate: Gate
    app_version: str
    base_url: Callable[[Request], str]
    stream_events: Callable[[Request, Services, Principal, str, str | None], Awaitable[Response]]

    async def visitor(self, request: Request) -> Principal:
        """Who looks at the page: by the browser's session, or by an Authorization header for `curl`.

        Raises:
            NotAuthenticated: nobody that the server knows.
        """
        authorization = request.headers.get("authorization")
        if authorization is not None:
            return await self.gate.authenticate(authorization)
        return await self.gate.authenticate_session(request.cookies.get(COOKIE))

    async def visitor_if_known(self, request: Request) -> Principal | None:
        """Who looks at a page that is open to everybody."""
        try:
            return await self.visitor(request)
        except NotAuthenticated:
            return None


# Asynchronous although it waits for nothing: the framework would run a plain function in a thread.
async def page_context(request: Request) -> PageContext:
    """The bundle that install_pages put aside."""
    context: PageContext = request.app.state.pages
    return context


Context = Annotated[PageContext, Depends(page_context)]


async def visitor(request: Request, context: Context) -> Principal:
    """Who looks at the page, or NotAuthenticated (which a browser sees as the sign-in form)."""
    return await context.visitor(request)


async def visitor_if_known(request: Request, context: Context) -> Principal | None:
    """Who looks at the page, or None."""
    return await context.visitor_if_known(request)


Visitor = Annotated[Principal, Depends(visitor)]
MaybeVisitor = Annotated[Principal | None, Depends(visitor_if_known)]
