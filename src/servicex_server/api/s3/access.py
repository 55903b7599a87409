"""Whose key signed a request, or why it is refused."""

from __future__ import annotations

import re
from datetime import datetime

from botocore.auth import EMPTY_SHA256_HASH

from servicex_server.api.s3.credential import Credential, Place, V4Credential, read_credential
from servicex_server.api.s3.refusal import (
    access_denied,
    hash_mismatch,
    invalid_access_key,
    invalid_argument,
    signature_does_not_match,
)
from servicex_server.api.s3.request import S3Request
from servicex_server.api.s3.signature import is_right
from servicex_server.model.bucket import BucketKey, Buckets

_HEX_HASH = re.compile(r"[0-9a-f]{64}")


async def find_signer(
    request: S3Request, buckets: Buckets, *, now: datetime, public_host: str | None = None
) -> BucketKey:
    """The key pair that signed the request.

    Whether the bucket exists is not asked here: a foreign key learns nothing of it.

    Raises:
        Refusal: the request is anonymous, malformed, expired, by an unknown key, or its signature is wrong.
    """
    credential = read_credential(request, now)
    if isinstance(credential, V4Credential):
        _check_signed_headers(request, credential)
    key = await buckets.find_key(credential.access_key)
    if key is None:
        raise invalid_access_key()
    hosts = () if public_host is None else (public_host,)
    if not is_right(request, credential, key.secret_key, hosts=hosts):
        raise signature_does_not_match()
    _check_payload(request, credential)
    return key


def _check_signed_headers(request: S3Request, credential: V4Credential) -> None:
    if any(name not in request.headers for name in credential.signed_headers):
        raise signature_does_not_match()
    signed = set(credential.signed_headers)
    if any(name.startswith("x-amz-") and name not in signed for name in request.headers):
        message = "There were headers present in the request which were not signed"
        raise access_denied(message)


def _check_payload(request: S3Request, credential: Credential) -> None:
    """A read has no body, so a signed hash of one has to be that of nothing."""
    if credential.place is not Place.HEADER or request.method not in {"GET", "HEAD"}:
        return
    claimed = request.find_header("x-amz-content-sha256")
    if claimed is None or claimed == EMPTY_SHA256_HASH or claimed.startswith(("UNSIGNED-", "STREAMING-")):
        return
    if _HEX_HASH.fullmatch(claimed):
        raise hash_mismatch()
    message = "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a valid sha256 value."
    raise invalid_argument(message)
