"""What the server is, how to reach it, and whether it is well."""

from __future__ import annotations

import asyncio

import yaml
from fastapi import APIRouter, Request
from starlette.responses import Response

from servicex_server.api.context import Caller, Context, Here
from servicex_server.api.schemas import CAPABILITIES, Info, Message
from servicex_server.errors import Busy

router = APIRouter(tags=["server"])

_READY_WITHIN_S = 4.0


@router.get("/servicex")
async def get_info(context: Context, _caller: Caller) -> Info:
    """The server's version, its code generators and its capabilities."""
    return Info(
        app_version=context.config.app_version,
        code_gen_image=dict(context.services.codegens),
        capabilities=list(CAPABILITIES),
    )


@router.get("/.servicex", response_class=Response)
async def get_client_config(request: Request, context: Context, here: Here) -> Response:
    """A servicex.yaml for the official client; with a token only for who sent that token along."""
    token = await context.gate.holds_token(request.headers.get("authorization"))
    entry = {"endpoint": here.base_url, "name": "servicex"} | ({"token": token} if token else {})
    content = {"api_endpoints": [entry], "default_endpoint": "servicex"}
    return Response(
        yaml.safe_dump(content, sort_keys=False),
        media_type="application/yaml",
        headers={"Content-Disposition": 'attachment; filename="servicex.yaml"'},
    )


@router.get("/healthz")
async def get_health() -> Message:
    """The server is alive."""
    return Message(message="alive")


@router.get("/readyz")
async def get_readiness(context: Context) -> Message:
    """The server can take and run requests; 503 with what is missing otherwise."""
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            missing = await context.config.ready()
    except TimeoutError:
        missing = (f"the check took longer than {_READY_WITHIN_S:g} s",)
    if missing:
        text = f"not ready: {'; '.join(missing)}"
        raise Busy(text)
    return Message(message="ready")
