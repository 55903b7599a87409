"""Conditions, byte ranges and headers of one object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from servicex_server.api.s3.refusal import invalid_argument, invalid_range, precondition_failed
from servicex_server.api.s3.request import S3Request
from servicex_server.model.bucket import BucketObject

_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)
_PRINTABLE = re.compile(r"[\x20-\x7e]*")

# Query parameter of a signed request -> header of the answer.
_OVERRIDES = {
    "response-cache-control": "cache-control",
    "response-content-disposition": "content-disposition",
    "response-content-encoding": "content-encoding",
    "response-content-language": "content-language",
    "response-content-type": "content-type",
    "response-expires": "expires",
}


@dataclass(frozen=True, slots=True)
class Extent:
    """The bytes `[start, stop)` of an object that an answer carries."""

    start: int
    stop: int
    is_partial: bool


def is_unmodified(request: S3Request, found: BucketObject) -> bool:
    """Whether the client's copy is still good, so that 304 answers it.

    Raises:
        Refusal: the client wants another version of the object (412).
    """
    wanted = request.find_header("if-match")
    if wanted is not None:
        if not _has_tag(wanted, found.etag):
            raise precondition_failed()
    elif (moment := _find_time(request, "if-unmodified-since")) is not None and _modified(found) > moment:
        raise precondition_failed()
    known = request.find_header("if-none-match")
    if known is not None:
        return _has_tag(known, found.etag)
    moment = _find_time(request, "if-modified-since")
    return moment is not None and _modified(found) <= moment


def find_extent(request: S3Request, found: BucketObject) -> Extent:
    """What the Range header asks for: one range, or else the whole object, as S3 takes it.

    Raises:
        Refusal: the range lies outside the object (416).
    """
    whole = Extent(0, found.size_bytes, is_partial=False)
    match = _RANGE.fullmatch((request.find_header("range") or "").strip())
    if match is None or not _is_range_wanted(request, found):
        return whole
    first, last = match.groups()
    if not first and not last:
        return whole
    if not first:
        start, stop = max(0, found.size_bytes - int(last)), found.size_bytes
    else:
        start = int(first)
        stop = min(int(last) + 1, found.size_bytes) if last else found.size_bytes
        if last and int(last) < start:
            return whole
    if start >= stop:
        raise invalid_range(found.size_bytes)
    return Extent(start, stop, is_partial=True)


def object_headers(request: S3Request, found: BucketObject, extent: Extent) -> Mapping[str, str]:
    """The answer's headers.

    Raises:
        Refusal: an asked override cannot stand in a header.
    """
    headers = {
        "content-type": "application/octet-stream",
        "content-length": str(extent.stop - extent.start),
        "etag": f'"{found.etag}"',
        "last-modified": format_datetime(_modified(found), usegmt=True),
        "accept-ranges": "bytes",
        # Results hold what users chose; opened in a browser they must not act in this server's name.
        "content-security-policy": "sandbox; default-src 'none'",
        "x-content-type-options": "nosniff",
    }
    if extent.is_partial:
        headers["content-range"] = f"bytes {extent.start}-{extent.stop - 1}/{found.size_bytes}"
    for name, header in _OVERRIDES.items():
        value = request.find_parameter(name)
        if value is None:
            continue
        if not _PRINTABLE.fullmatch(value):
            message = f"{name} has characters that cannot stand in a header."
            raise invalid_argument(message)
        headers[header] = value
    return headers


def _is_range_wanted(request: S3Request, found: BucketObject) -> bool:
    condition = request.find_header("if-range")
    if condition is None:
        return True
    if condition.lstrip().startswith(('"', "W/")):
        return condition.strip() == f'"{found.etag}"'
    moment = _find_time(request, "if-range")
    return moment is not None and _modified(found) == moment


def _has_tag(header: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")}
    return "*" in tags or etag in tags


def _find_time(request: S3Request, header: str) -> datetime | None:
    """The header's time; one that cannot be read counts as not given, as HTTP has it."""
    text = request.find_header(header)
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _modified(found: BucketObject) -> datetime:
    return found.modified.astimezone(UTC).replace(microsecond=0)
