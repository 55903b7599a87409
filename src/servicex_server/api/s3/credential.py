"""Which signature a request carries: SigV4 or SigV2, in the Authorization header or in the query.

Only the form is read and the time checked here; whether the signature is right, `signature` says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

from servicex_server.api.s3.refusal import (
    access_denied,
    invalid_argument,
    malformed_authorization,
    malformed_query_authorization,
    time_too_skewed,
)
from servicex_server.api.s3.request import S3Request

MAX_SKEW = timedelta(minutes=15)
MAX_V4_EXPIRY_S = 7 * 24 * 3600

_V4 = "AWS4-HMAC-SHA256"
_V4_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^\s,]+)\s*")
_V4_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_V4_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_V2_SIGNATURE = re.compile(r"[A-Za-z0-9+/]{27}=")
_ACCESS_KEY = re.compile(r"[\x21-\x2e\x30-\x7e]{1,128}")
_V4_SCOPE = re.compile(r"([\x21-\x2e\x30-\x7e]{1,128})/([0-9]{8})/([A-Za-z0-9-]{1,64})/s3/aws4_request")
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_DIGITS = re.compile(r"[0-9]{1,12}")


class Place(Enum):
    """Where the signature stands."""

    HEADER = "header"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class V4Credential:
    """A SigV4 signature as received.

    Attributes:
        timestamp: the signed time as text, such as 20261122T101500Z.
        signed_headers: lower-case names, sorted.
    """

    place: Place
    access_key: str
    signature: str
    timestamp: str
    region: str
    signed_headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class V2Credential:
    """A SigV2 signature as received.

    Attributes:
        date: what stands for the date in the signed text: the Date header, the expiry, or nothing.
    """

    place: Place
    access_key: str
    signature: str
    date: str


Credential = V4Credential | V2Credential


def is_signed(request: S3Request) -> bool:
    """Whether the request claims an S3 signature at all, right or wrong."""
    return _has_signed_header(request) or _has_signed_query(request)


def read_credential(request: S3Request, now: datetime) -> Credential:
    """Reads the one signature of a request and checks that its time is due.

    Raises:
        Refusal: there is none, more than one, a malformed one, or its time is wrong.
    """
    in_header, in_query = _has_signed_header(request), _has_signed_query(request)
    if in_header and in_query:
        message = "A request is signed either in its headers or in its query, not in both."
        raise invalid_argument(message)
    if in_header:
        return _read_header(request, now)
    if request.has_parameter("X-Amz-Algorithm"):
        return _read_v4_query(request, now)
    if in_query:
        return _read_v2_query(request, now)
    raise access_denied()


def _has_signed_header(request: S3Request) -> bool:
    # Another scheme (a bearer token for the API) is not for us; the query may still be signed.
    return (request.find_header("authorization") or "").startswith((_V4, "AWS "))


def _has_signed_query(request: S3Request) -> bool:
    return request.has_parameter("X-Amz-Algorithm") or request.has_parameter("AWSAccessKeyId")


def _read_header(request: S3Request, now: datetime) -> Credential:
    values = request.headers["authorization"]
    if len(values) != 1:
        message = "There is more than one Authorization header."
        raise malformed_authorization(message)
    scheme, _, rest = values[0].partition(" ")
    if scheme == _V4:
        return _read_v4_header(request, rest, now)
    access_key, _, signature = rest.strip().partition(":")
    if scheme != "AWS" or not _ACCESS_KEY.fullmatch(access_key) or not _V2_SIGNATURE.fullmatch(signature):
        message = (
            "An Authorization header has the form 'AWS AccessKeyId:Signature' or that of AWS4-HMAC-SHA256."
        )
        raise malformed_authorization(message)
    _check_skew(_read_time(request), now)
    # A request that has x-amz-date signs that and leaves the place of the date empty.
    date = "" if "x-amz-date" in request.headers else request.find_header("date") or ""
    return V2Credential(Place.HEADER, access_key, signature, date)


def _read_v4_header(request: S3Request, text: str, now: datetime) -> V4Credential:
    fields: dict[str, str] = {}
    for piece in text.split(","):
        match = _V4_FIELD.fullmatch(piece)
        if match is None or match[1] in fields:
            message = (
                "The Authorization header has the fields Credential, SignedHeaders and Signature, each once."
            )
            raise malformed_authorization(message)
        fields[match[1]] = match[2]
    missing = {"Credential", "SignedHeaders", "Signature"} - fields.keys()
    if missing:
        message = f"The Authorization header lacks {', '.join(sorted(missing))}."
        raise malformed_authorization(message)
    moment = _read_time(request)
    _check_skew(moment, now)
    return _build_v4(
        Place.HEADER,
        fields["Credential"],
        fields["SignedHeaders"],
        fields["Signature"],
        f"{moment:%Y%m%dT%H%M%SZ}",
    )


def _read_v4_query(request: S3Request, now: datetime) -> V4Credential:
    names = ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature")
    found = {name: request.find_parameter(f"X-Amz-{name}") for name in names}
    given = {name: value for name, value in found.items() if value is not None}
    if given.keys() != found.keys():
        message = (
            "A signed query has X-Amz-Algorithm, -Credential, -Date, -Expires, -SignedHeaders and -Signature."
        )
        raise malformed_query_authorization(message)
    if given["Algorithm"] != _V4:
        message = f"X-Amz-Algorithm only supports {_V4}."
        raise malformed_query_authorization(message)
    moment = _parse_basic_time(given["Date"])
    if moment is None:
        message = "X-Amz-Date has the form 20261122T101500Z."
        raise malformed_query_authorization(message)
    if not _DIGITS.fullmatch(given["Expires"]) or not 1 <= int(given["Expires"]) <= MAX_V4_EXPIRY_S:
        message = f"X-Amz-Expires is a number of seconds from 1 to {MAX_V4_EXPIRY_S} (a week)."
        raise malformed_query_authorization(message)
    credential = _build_v4(
        Place.QUERY, given["Credential"], given["SignedHeaders"], given["Signature"], given["Date"]
    )
    if moment > now + MAX_SKEW:
        message = "Request is not valid yet"
        raise access_denied(message)
    if now - moment > timedelta(seconds=int(given["Expires"])):
        message = "Request has expired"
        raise access_denied(message)
    return credential


def _build_v4(place: Place, scope: str, signed_headers: str, signature: str, timestamp: str) -> V4Credential:
    malformed = malformed_authorization if place is Place.HEADER else malformed_query_authorization
    match = _V4_SCOPE.fullmatch(scope)
    if match is None:
        message = "The credential has the form <access key>/<date>/<region>/s3/aws4_request."
        raise malformed(message)
    access_key, date, region = match.groups()
    if date != timestamp[:8]:
        message = "The date of the credential scope is not that of the request."
        raise malformed(message)
    names = tuple(sorted(set(signed_headers.split(";"))))
    if not all(_HEADER_NAME.fullmatch(name) for name in names) or "host" not in names:
        message = "The signed headers are lower-case names joined by ';', among them host."
        raise malformed(message)
    if not _V4_SIGNATURE.fullmatch(signature):
        message = "The signature has 64 lower-case hexadecimal digits."
        raise malformed(message)
    return V4Credential(place, access_key, signature, timestamp, region, names)


def _read_v2_query(request: S3Request, now: datetime) -> V2Credential:
    access_key = request.find_parameter("AWSAccessKeyId") or ""
    # Base64 has no spaces, but a '+' that was not percent-encoded reads as one.
    signature = (request.find_parameter("Signature") or "").replace(" ", "+")
    expires = request.find_parameter("Expires") or ""
    if not _ACCESS_KEY.fullmatch(access_key) or not _V2_SIGNATURE.fullmatch(signature):
        message = "A signed query has AWSAccessKeyId, Signature and Expires."
        raise access_denied(message)
    if not _DIGITS.fullmatch(expires):
        message = "Expires is a time in seconds since 1970."
        raise access_denied(message)
    if now.timestamp() > int(expires):
        message = "Request has expired"
        raise access_denied(message)
    return V2Credential(Place.QUERY, access_key, signature, expires)


def _read_time(request: S3Request) -> datetime:
    """When the request was signed, by `x-amz-date` or else `Date`."""
    text = request.find_header("x-amz-date") or request.find_header("date")
    moment = (_parse_basic_time(text) or _parse_mail_time(text)) if text else None
    if moment is None:
        message = "A signed request has an x-amz-date (or Date) header with a valid time."
        raise access_denied(message)
    return moment


def _parse_basic_time(text: str) -> datetime | None:
    if not _V4_TIME.fullmatch(text):
        return None
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def _parse_mail_time(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _check_skew(moment: datetime, now: datetime) -> None:
    if abs(moment - now) > MAX_SKEW:
        raise time_too_skewed()
