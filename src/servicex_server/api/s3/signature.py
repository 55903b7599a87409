"""The signature that a request should carry, recomputed by botocore from what was received.

botocore knows how to sign what a client is going to send; the small subclasses here make it sign what
has arrived: exactly the headers that the client says it signed, the path as it came, the date as it came.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import SplitResult, quote

from botocore.auth import EMPTY_SHA256_HASH, UNSIGNED_PAYLOAD, HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from servicex_server.api.s3.credential import Credential, Place, V2Credential, V4Credential
from servicex_server.api.s3.request import Parameter, S3Request

_V2_SIGNED_HEADERS = frozenset({"content-md5", "content-type"})


class _ReceivedV4(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """SigV4 over a request's signed headers and its path as they came."""

    def __init__(self, credentials: Credentials, region: str, path: str, payload: str) -> None:
        super().__init__(credentials, "s3", region)
        self._path = path
        self._payload = payload

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        return request.headers

    def payload(self, request: AWSRequest) -> str:  # noqa: ARG002 - botocore's signature
        return self._payload

    def _normalize_url_path(self, path: str) -> str:  # noqa: ARG002 - botocore's signature
        return self._path


class _ReceivedV2(HmacV1Auth):  # type: ignore[misc]  # botocore has no types
    """SigV2 with the date (or expiry) that came."""

    def __init__(self, credentials: Credentials, date: str) -> None:
        super().__init__(credentials)
        self._date = date

    def _get_date(self) -> str:
        return self._date


def is_right(
    request: S3Request, credential: Credential, secret_key: str, *, hosts: Iterable[str] = ()
) -> bool:
    """Whether the credential's signature was made with `secret_key` over this request.

    Args:
        hosts: host names to try besides the received one, for proxies that rewrite it.
    """
    credentials = Credentials(credential.access_key, secret_key)
    return any(
        hmac.compare_digest(_sign(request, credential, credentials, reading), credential.signature)
        for reading in _readings(request, credential, hosts)
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """One way of spelling what was asked; `host` is None for the received one."""

    method: str
    path: str
    host: str | None = None


def _readings(request: S3Request, credential: Credential, hosts: Iterable[str]) -> Iterator[_Reading]:
    """What the client may have signed, likeliest first.

    Clients percent-encode more or less, and HTTP libraries respell what they are given (`%3A` as `:`);
    all of these decode to the path that is served. SigV2 wants a bucket to end with '/' also where the
    URL does not. Whoever was allowed GET by a presigned URL may HEAD.
    """
    paths = [request.canonical_path, request.raw_path]
    if isinstance(credential, V2Credential) and request.bucket and not request.key:
        paths.append(request.canonical_path.rstrip("/") + "/")
    methods = [request.method]
    if request.method == "HEAD" and credential.place is Place.QUERY:
        methods.append("GET")
    for method in methods:
        for path in dict.fromkeys(paths):
            for host in (None, *hosts):
                yield _Reading(method, path, host)


def _sign(request: S3Request, credential: Credential, credentials: Credentials, reading: _Reading) -> str:
    if isinstance(credential, V4Credential):
        return _sign_v4(request, credential, credentials, reading)
    return _sign_v2(request, credential, credentials, reading)


def _sign_v4(
    request: S3Request, credential: V4Credential, credentials: Credentials, reading: _Reading
) -> str:
    in_query = credential.place is Place.QUERY
    parameters = [
        (parameter.name, parameter.value or "")
        for parameter in request.parameters
        if not (in_query and parameter.name == "X-Amz-Signature")
    ]
    # The URL only has to exist: path and query are given apart, as no URL parser may reinterpret them.
    received = AWSRequest(method=reading.method, url="http://received/", params=parameters)
    for name in credential.signed_headers:
        is_replaced = name == "host" and reading.host is not None
        for value in (reading.host,) if is_replaced else request.headers[name]:
            received.headers.add_header(name, value)
    received.context["timestamp"] = credential.timestamp
    payload = EMPTY_SHA256_HASH
    if in_query:
        payload = request.find_parameter("X-Amz-Content-Sha256") or UNSIGNED_PAYLOAD
    signer = _ReceivedV4(credentials, credential.region, reading.path, payload)
    text = signer.string_to_sign(received, signer.canonical_request(received))
    return str(signer.signature(text, received))


def _sign_v2(
    request: S3Request, credential: V2Credential, credentials: Credentials, reading: _Reading
) -> str:
    headers = HTTPHeaders()
    for name, values in request.headers.items():
        if name in _V2_SIGNED_HEADERS or name.startswith("x-amz-"):
            for value in values:
                headers.add_header(name, value)
    query = "&".join(_quote_parameter(parameter) for parameter in request.parameters)
    signer = _ReceivedV2(credentials, credential.date)
    split = SplitResult("", "", reading.path, query, "")
    return str(
        signer.sign_string(signer.canonical_string(reading.method, split, headers, auth_path=reading.path))
    )


def _quote_parameter(parameter: Parameter) -> str:
    name = quote(parameter.name, safe="")
    return name if parameter.value is None else f"{name}={quote(parameter.value, safe='')}"
