"""Routes that are called hundreds of times a second."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from servicex_server.api.context import api_context, caller_of


class DirectRoute(APIRoute):
    """Calls `endpoint(request, context, caller)` itself, with what its annotations ask for.

    The framework finds out anew for each call what that is, which takes a while. For the documentation of
    the API nothing is different.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            context = await api_context(request)
            response: Response = await endpoint(request, context, await caller_of(request, context))
            return response

        return handle
