"""The routes of the endpoint, to be mounted beside the API's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.routing import Match, Route
from starlette.types import Scope

from servicex_server.api.s3.credential import is_signed
from servicex_server.api.s3.endpoint import S3Endpoint
from servicex_server.api.s3.refusal import Refusal
from servicex_server.api.s3.request import read_request
from servicex_server.model.bucket import Buckets
from servicex_server.store.protocol import Store

REGION = "us-east-1"


def read_clock() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


def build_router(
    buckets: Buckets,
    store: Store,
    *,
    region: str = REGION,
    clock: Callable[[], datetime] = read_clock,
    public_host: str | None = None,
) -> APIRouter:
    """Serves `/<bucket>` and `/<bucket>/<key>`, where a bucket is a UUID so that no API route is shadowed.

    Args:
        region: what GetBucketLocation tells; clients may sign for any region.
        clock: the present time, timezone-aware.
        public_host: the host (and port) that clients see, if a proxy in between rewrites the Host header.
    """
    endpoint = S3Endpoint(buckets, store, region=region, clock=clock, public_host=public_host)
    router = APIRouter()
    # An ASGI application as the endpoint takes every method, and keys with whatever they contain.
    for path in ("/{bucket:uuid}", "/{bucket:uuid}/{key:path}"):
        router.routes.append(Route(path, endpoint, include_in_schema=False))
    return router


def build_root_route(
    buckets: Buckets,
    store: Store,
    *,
    region: str = REGION,
    clock: Callable[[], datetime] = read_clock,
    public_host: str | None = None,
) -> Route:
    """ListBuckets at `/`, for signed requests only; every other request falls through to the next route.

    Put it into `app.router.routes` before the route that shows people `/` (`include_router` would
    make a plain route of it, which takes every request).
    """
    endpoint = S3Endpoint(buckets, store, region=region, clock=clock, public_host=public_host)
    return _SignedRoute("/", endpoint, include_in_schema=False)


class _SignedRoute(Route):
    """A route for requests that carry an S3 signature."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is Match.NONE or not _is_signed(scope):
            return Match.NONE, {}
        return match, child_scope


def _is_signed(scope: Scope) -> bool:
    try:
        return is_signed(read_request(scope))
    except Refusal:
        return False
