"""ListObjects V1 and V2: one page of a bucket.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from servicex_server.api.s3.document import Element, format_time, render
from servicex_server.api.s3.refusal import invalid_argument
from servicex_server.api.s3.request import S3Request
from servicex_server.model.bucket import BucketObject, Buckets
from servicex_server.model.ids import RequestId

MAX_KEYS = 1000

_INTEGER = re.compile(r"[0-9]{1,10}")
_OWNER: Element = ("Owner", [("ID", "servicex"), ("DisplayName", "servicex")])
_LAST = "\U0010ffff"
"""The last character in the order of UTF-8 bytes."""


@dataclass(frozen=True, slots=True)
class Page:
    """What stands on one page.

    Attributes:
        last: the key or common prefix to go on after.
    """

    objects: tuple[BucketObject, ...]
    prefixes: tuple[str, ...]
    is_truncated: bool
    last: str | None


async def read_page(
    buckets: Buckets, bucket: RequestId, *, prefix: str, delimiter: str, after: str | None, limit: int
) -> Page:
    """Up to `limit` objects and common prefixes that come after `after`.

    Keys that share what follows `prefix` up to the next `delimiter` are one common prefix.
    A page that ended with a common prefix is gone on with after all of its keys.
    """
    objects: list[BucketObject] = []
    prefixes: list[str] = []
    last: str | None = None
    done = after if after is not None and _common_prefix(after, prefix, delimiter) == after else None
    cursor = after if done is None else done + _LAST
    while limit:
        asked = limit - len(objects) - len(prefixes) + 1
        batch = await buckets.list_objects(bucket, prefix=prefix, after=cursor, limit=asked)
        for found in batch:
            cursor = found.key
            common = _common_prefix(found.key, prefix, delimiter)
            if common is not None and common == done:
                continue
            if len(objects) + len(prefixes) == limit:
                return Page(tuple(objects), tuple(prefixes), is_truncated=True, last=last)
            if common is None:
                objects.append(found)
                last = found.key
                continue
            prefixes.append(common)
            last = done = common
            # One question skips all other keys of the common prefix, however many they are.
            cursor = common + _LAST
            break
        else:
            if len(batch) < asked:
                break
    return Page(tuple(objects), tuple(prefixes), is_truncated=False, last=last)


def _common_prefix(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter or not key.startswith(prefix):
        return None
    end = key.find(delimiter, len(prefix))
    return None if end < 0 else key[: end + len(delimiter)]


async def list_v1(buckets: Buckets, bucket: RequestId, request: S3Request) -> bytes:
    """The answer to ListObjects.

    Raises:
        Refusal: a parameter is not valid.
    """
    asked = _read_question(request)
    marker = request.find_parameter("marker") or ""
    page = await read_page(
        buckets,
        bucket,
        prefix=asked.prefix,
        delimiter=asked.delimiter,
        after=marker or None,
        limit=asked.limit,
    )
    head: list[Element] = [
        ("Name", bucket),
        ("Prefix", asked.encode(asked.prefix)),
        ("Marker", asked.encode(marker)),
        *_page_elements(asked, page),
    ]
    if page.is_truncated and page.last is not None:
        head.append(("NextMarker", asked.encode(page.last)))
    return render("ListBucketResult", head + _entries(asked, page, has_owner=True))


async def list_v2(buckets: Buckets, bucket: RequestId, request: S3Request) -> bytes:
    """The answer to ListObjectsV2.

    Raises:
        Refusal: a parameter is not valid.
    """
    asked = _read_question(request)
    token = request.find_parameter("continuation-token")
    start_after = request.find_parameter("start-after") or ""
    after = _read_token(token) if token else start_after or None
    page = await read_page(
        buckets, bucket, prefix=asked.prefix, delimiter=asked.delimiter, after=after, limit=asked.limit
    )
    head: list[Element] = [
        ("Name", bucket),
        ("Prefix", asked.encode(asked.prefix)),
        *_page_elements(asked, page),
        ("KeyCount", str(len(page.objects) + len(page.prefixes))),
    ]
    if token:
        head.append(("ContinuationToken", token))
    if start_after:
        head.append(("StartAfter", asked.encode(start_after)))
    if page.is_truncated and page.last is not None:
        head.append(("NextContinuationToken", _make_token(page.last)))
    has_owner = request.find_parameter("fetch-owner") == "true"
    return render("ListBucketResult", head + _entries(asked, page, has_owner=has_owner))


@dataclass(frozen=True, slots=True)
class _Question:
    """What both versions of the listing ask."""

    prefix: str
    delimiter: str
    limit: int
    is_url_encoded: bool

    @property
    def encode(self) -> Callable[[str], str]:
        return quote if self.is_url_encoded else str


def _read_question(request: S3Request) -> _Question:
    limit = request.find_parameter("max-keys") or str(MAX_KEYS)
    if not _INTEGER.fullmatch(limit):
        message = "max-keys is a number of at least 0."
        raise invalid_argument(message)
    encoding = request.find_parameter("encoding-type") or ""
    if encoding not in {"", "url"}:
        message = "encoding-type can only be url."
        raise invalid_argument(message)
    return _Question(
        prefix=request.find_parameter("prefix") or "",
        delimiter=request.find_parameter("delimiter") or "",
        limit=min(int(limit), MAX_KEYS),
        is_url_encoded=encoding == "url",
    )


def _page_elements(asked: _Question, page: Page) -> list[Element]:
    elements: list[Element] = [
        ("MaxKeys", str(asked.limit)),
        ("IsTruncated", "true" if page.is_truncated else "false"),
    ]
    if asked.delimiter:
        elements.append(("Delimiter", asked.encode(asked.delimiter)))
    if asked.is_url_encoded:
        elements.append(("EncodingType", "url"))
    return elements


def _entries(asked: _Question, page: Page, *, has_owner: bool) -> list[Element]:
    contents: list[Element] = [
        (
            "Contents",
            [
                ("Key", asked.encode(found.key)),
                ("LastModified", format_time(found.modified)),
                ("ETag", f'"{found.etag}"'),
                ("Size", str(found.size_bytes)),
                *((_OWNER,) if has_owner else ()),
                ("StorageClass", "STANDARD"),
            ],
        )
        for found in page.objects
    ]
    prefixes: list[Element] = [
        ("CommonPrefixes", [("Prefix", asked.encode(prefix))]) for prefix in page.prefixes
    ]
    return contents + prefixes


def _make_token(last: str) -> str:
    return base64.urlsafe_b64encode(last.encode()).decode()


def _read_token(token: str) -> str:
    message = "The continuation token provided is incorrect."
    try:
        last = base64.b64decode(token.encode(), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise invalid_argument(message) from error
    if "\0" in last:
        raise invalid_argument(message)
    return last
