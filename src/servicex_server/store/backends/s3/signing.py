"""Signature Version 4 of botocore for what obstore does not sign: parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from servicex_server.store.backends.s3.credential import S3Credential

LONGEST_S = 7 * 86400
"""No S3 server takes a signature that is to last longer."""


def sign_url(
    method: str,
    url: str,
    parameters: Mapping[str, str],
    *,
    credential: S3Credential,
    region: str,
    expires_s: int,
) -> str:
    """`url` with the parameters and a signature that lasts `expires_s` seconds, for whoever has it."""
    from botocore.auth import S3SigV4QueryAuth  # noqa: PLC0415  slow, and seldom needed
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415

    request = AWSRequest(method=method, url=url, params=dict(parameters))
    S3SigV4QueryAuth(_keys(credential), "s3", region, expires=expires_s).add_auth(request)
    return str(request.url)


def sign_headers(method: str, url: str, *, credential: S3Credential, region: str) -> dict[str, str]:
    """Headers that sign a call without a body; the URL, which HTTP libraries log, stays harmless."""
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415  slow, and seldom needed
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415

    request = AWSRequest(method=method, url=url)
    S3SigV4Auth(_keys(credential), "s3", region).add_auth(request)
    return dict(request.headers.items())


def disposition(filename: str) -> str:
    """The header that makes a browser save what it gets as `filename`, whatever characters that has."""
    plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\%' else "_" for c in filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _keys(credential: S3Credential) -> Any:
    from botocore.credentials import Credentials  # noqa: PLC0415  slow, and seldom needed

    return Credentials(credential.access_key_id, credential.secret_access_key, credential.session_token)
