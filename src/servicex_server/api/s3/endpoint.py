"""The endpoint's operations, as an ASGI application over buckets and a store."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from servicex_server.api.s3.access import find_signer
from servicex_server.api.s3.content import find_extent, is_unmodified, object_headers
from servicex_server.api.s3.document import Element, render
from servicex_server.api.s3.listing import list_v1, list_v2
from servicex_server.api.s3.refusal import (
    Refusal,
    access_denied,
    internal_error,
    invalid_argument,
    method_not_allowed,
    no_such_bucket,
    no_such_key,
    not_implemented,
    slow_down,
)
from servicex_server.api.s3.request import S3Request, read_request
from servicex_server.api.s3.transfer import Head, send_pieces
from servicex_server.errors import Busy, NotFound, ServicexError
from servicex_server.model.bucket import BucketKey, BucketObject, Buckets
from servicex_server.model.ids import RequestId
from servicex_server.store.protocol import Store

_DEFAULT_REGION = "us-east-1"
_XML = "application/xml"
_READING = frozenset({"GET", "HEAD"})

# Parameters that select another operation than reading an object or listing a bucket.
_OTHER_OPERATIONS = frozenset(
    {
        *("accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "inventory"),
        *("intelligent-tiering", "legal-hold", "lifecycle", "logging", "metrics", "notification"),
        *("object-lock", "ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock"),
        *("replication", "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent"),
        *("uploadId", "uploads", "versionId", "versioning", "versions", "website"),
    }
)

logger = logging.getLogger(__name__)


class S3Endpoint:
    """Answers S3 requests for the root, for buckets and for objects.

    Args:
        region: what GetBucketLocation tells; clients may sign for any region.
        clock: the present time, timezone-aware.
        public_host: the host (and port) that clients see, if a proxy in between rewrites the Host header.
    """

    def __init__(
        self,
        buckets: Buckets,
        store: Store,
        *,
        region: str,
        clock: Callable[[], datetime],
        public_host: str | None = None,
    ) -> None:
        self._buckets = buckets
        self._store = store
        self._region = region
        self._clock = clock
        self._public_host = public_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = secrets.token_hex(8).upper()
        if _has_body(scope):
            send = _closing(send)
        try:
            await self._answer(scope, receive, send, request_id)
        except Refusal as refusal:
            await _refuse(refusal, request_id)(scope, receive, send)
        except Busy:
            await _refuse(slow_down(), request_id)(scope, receive, send)
        except ServicexError:
            logger.exception("bucket.read: request %s failed", request_id)
            await _refuse(internal_error(), request_id)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        request = read_request(scope)
        key = await find_signer(request, self._buckets, now=self._clock(), public_host=self._public_host)
        if request.bucket and request.bucket != key.bucket:
            raise access_denied()
        if request.method not in _READING:
            raise method_not_allowed() if request.method in {"POST", "PATCH"} else access_denied()
        _check_operation(request)
        if request.key:
            await self._read_object(request, key.bucket, request_id, (scope, receive, send))
            return
        body = await self._describe(request, key)
        response = Response(body, media_type=_XML, headers={"x-amz-request-id": request_id})
        response.headers["x-amz-bucket-region"] = self._region
        await response(scope, receive, send)

    async def _describe(self, request: S3Request, key: BucketKey) -> bytes:
        """The document about a bucket, or about all of them."""
        if not request.bucket:
            return _list_buckets(key.bucket)
        if not await self._buckets.exists(key.bucket):
            raise no_such_bucket()
        if request.method == "HEAD":
            return b""
        if request.has_parameter("location"):
            return self._locate()
        version = request.find_parameter("list-type")
        if version is None:
            return await list_v1(self._buckets, key.bucket, request)
        if version != "2":
            message = "list-type can only be 2."
            raise invalid_argument(message)
        return await list_v2(self._buckets, key.bucket, request)

    def _locate(self) -> bytes:
        # S3's oldest region has no name here.
        return render("LocationConstraint", "" if self._region == _DEFAULT_REGION else self._region)

    async def _read_object(
        self, request: S3Request, bucket: RequestId, request_id: str, channel: tuple[Scope, Receive, Send]
    ) -> None:
        scope, receive, send = channel
        found = await self._buckets.find_object(bucket, request.key)
        if found is None:
            raise no_such_key() if await self._buckets.exists(bucket) else no_such_bucket()
        if is_unmodified(request, found):
            headers = {"etag": f'"{found.etag}"', "x-amz-request-id": request_id}
            await Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)(scope, receive, send)
            return
        extent = find_extent(request, found)
        headers = {**object_headers(request, found, extent), "x-amz-request-id": request_id}
        status = HTTPStatus.PARTIAL_CONTENT if extent.is_partial else HTTPStatus.OK
        if request.method == "HEAD":
            if await self._store.head(found.store_key) is None:
                raise _lost(found)
            await Response(status_code=status, headers=headers)(scope, receive, send)
            return
        async with aclosing(self._store.stream(found.store_key, extent.start, extent.stop)) as pieces:
            try:
                first = await anext(pieces, b"")
            except NotFound as error:
                raise _lost(found) from error
            head = Head(status, headers, extent.stop - extent.start)
            await send_pieces(head, first, pieces, receive, send)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in scope["headers"]
    )


def _closing(send: Send) -> Send:
    """Ends the connection with the answer.

    Bodies are not read here. A client that waits for `100 Continue` will not send its body after a
    refusal either, and then its next request would be taken for that body.
    """

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return send_and_close


def _check_operation(request: S3Request) -> None:
    for parameter in request.parameters:
        if parameter.name in _OTHER_OPERATIONS:
            raise not_implemented(parameter.name)


def _lost(found: BucketObject) -> Refusal:
    logger.error("object.lost: the store lacks %s, which the database lists", found.store_key)
    return no_such_key()


def _list_buckets(bucket: RequestId) -> bytes:
    children: list[Element] = [
        ("Owner", [("ID", "servicex"), ("DisplayName", "servicex")]),
        ("Buckets", [("Bucket", [("Name", bucket)])]),
    ]
    return render("ListAllMyBucketsResult", children)


def _refuse(refusal: Refusal, request_id: str) -> Response:
    children: list[Element] = [
        ("Code", refusal.code),
        ("Message", refusal.message),
        ("RequestId", request_id),
    ]
    body = render("Error", children, namespace=None)
    headers = {"x-amz-request-id": request_id}
    if refusal.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = "GET, HEAD"
    # HEAD has no body, which the server underneath sees to.
    return Response(body, status_code=refusal.status, media_type=_XML, headers=headers)
