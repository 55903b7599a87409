"""What has happened to a request, and what happens to it now."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from servicex_server.api.context import Caller, Context
from servicex_server.api.events import stream_events
from servicex_server.api.provenance import stream_provenance

router = APIRouter(prefix="/servicex/transformation", tags=["transformation"])

_EVENTS: dict[int | str, dict[str, object]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events, until the request ends"},
    204: {"description": "The caller knows the end already"},
}
_PROVENANCE: dict[int | str, dict[str, object]] = {
    200: {
        "content": {"application/json": {}},
        "description": "The record; docs/provenance.md tells its layout",
    }
}


@router.get("/{ref}/events", response_class=Response, responses=_EVENTS)
async def follow_request(
    ref: str, request: Request, context: Context, caller: Caller, after: str | None = None
) -> Response:
    """Each file as it ends, progress and state, as server-sent events; goes on after `Last-Event-ID`."""
    return await stream_events(request, context.services, caller, ref, after)


@router.get("/{ref}/provenance", response_class=Response, responses=_PROVENANCE)
async def get_provenance(ref: str, context: Context, caller: Caller) -> Response:
    """Where the results come from: query, software, inputs, outcomes, objects, in one JSON document."""
    return await stream_provenance(context.services, caller, ref, app_version=context.config.app_version)
