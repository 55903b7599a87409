"""From the long-lived token to a short-lived one."""

from __future__ import annotations

from fastapi import APIRouter, Request

from servicex_server.api.context import Context
from servicex_server.api.schemas import AccessToken

router = APIRouter(tags=["access"])


@router.post("/token/refresh")
async def refresh_token(request: Request, context: Context) -> AccessToken:
    """A new access token for the holder of the long-lived token in the Authorization header."""
    return AccessToken(access_token=await context.gate.refresh(request.headers.get("authorization")))
