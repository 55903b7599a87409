"""Uploads that killed workers began and never completed: invisible, and yet they take room.

obstore has no call for them, so these requests are our own. Where the access key may not list them, or
the server does not know the call, a rule of the bucket has to do it (AbortIncompleteMultipartUpload).
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import quote
from xml.etree import ElementTree as ET

import httpx

from servicex_server.errors import StoreRefused, StoreUnavailable
from servicex_server.store.backends.s3.credential import CredentialSource
from servicex_server.store.backends.s3.patience import S3Patience
from servicex_server.store.backends.s3.place import S3Place
from servicex_server.store.backends.s3.signing import sign_headers

logger = logging.getLogger(__name__)

_LISTED_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class _Upload:
    """Its full key, its id, and when it began."""

    key: str
    id: str
    begun: datetime


async def abort_unfinished(
    place: S3Place, credentials: CredentialSource, patience: S3Patience, older_than: datetime
) -> int:
    """Aborts uploads below the place's prefix that began before that time; returns how many.

    Raises:
        StoreUnavailable: the store cannot be reached.
    """
    verify = ssl.create_default_context()
    if place.ca_file is not None:
        verify.load_verify_locations(place.ca_file)
    timeout = httpx.Timeout(patience.stall_s, connect=patience.connect_s)
    n_aborted = 0
    try:
        async with httpx.AsyncClient(verify=verify, timeout=timeout) as http:
            caller = _Caller(http, place, credentials)
            async for upload in caller.list_uploads():
                if upload.begun < older_than:
                    await caller.abort(upload)
                    n_aborted += 1
    except StoreRefused as error:
        logger.warning(
            "uploads that were never completed are not looked for (%s); "
            "give the bucket a rule AbortIncompleteMultipartUpload",
            error.message,
        )
    except httpx.HTTPError as error:
        message = f"the result store {place} cannot be reached: {type(error).__name__}"
        raise StoreUnavailable(message) from error
    return n_aborted


class _Caller:
    def __init__(self, http: httpx.AsyncClient, place: S3Place, credentials: CredentialSource) -> None:
        self._http = http
        self._place = place
        self._credentials = credentials

    async def list_uploads(self) -> AsyncIterator[_Upload]:
        prefix = f"{self._place.prefix}/" if self._place.prefix else ""
        page = {"uploads": "", "max-uploads": str(_LISTED_AT_ONCE), "prefix": prefix}
        markers: dict[str, str] = {}
        while True:
            document = await self._list(page | markers)
            for node in _children(document, "Upload"):
                upload = _Upload(_text(node, "Key"), _text(node, "UploadId"), _time(_text(node, "Initiated")))
                # Not every server heeds the prefix.
                if upload.key.startswith(prefix):
                    yield upload
            following = {
                "key-marker": _text(document, "NextKeyMarker"),
                "upload-id-marker": _text(document, "NextUploadIdMarker"),
            }
            if _text(document, "IsTruncated") != "true" or following == markers:
                return
            markers = following

    async def abort(self, upload: _Upload) -> None:
        key = upload.key.removeprefix(f"{self._place.prefix}/") if self._place.prefix else upload.key
        answer = await self._call("DELETE", self._place.object_url(key), {"uploadId": upload.id})
        # 404: its worker finished after all.
        if answer.status_code not in {200, 204, 404}:
            self._refuse(answer)

    async def _list(self, parameters: dict[str, str]) -> ET.Element:
        answer = await self._call("GET", self._place.base_url, parameters)
        if answer.status_code != httpx.codes.OK:
            self._refuse(answer)
        try:
            return ET.fromstring(answer.content)  # noqa: S314  the deployment's own store
        except ET.ParseError:
            message = f"the result store {self._place} does not list uploads as S3 does"
            raise StoreRefused(message) from None

    async def _call(self, method: str, url: str, parameters: dict[str, str]) -> httpx.Response:
        query = "&".join(f"{name}={quote(value, safe='~')}" for name, value in sorted(parameters.items()))
        full = f"{url}?{query}"
        headers = sign_headers(method, full, credential=self._credentials(), region=self._place.region)
        return await self._http.request(method, full, headers=headers)

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR and answer.status_code != 501:
            message = f"the result store {self._place} has an error of its own ({answer.status_code})"
            raise StoreUnavailable(message)
        message = f"the result store {self._place} answers {answer.status_code}"
        raise StoreRefused(message)


def _children(document: ET.Element, name: str) -> list[ET.Element]:
    return [node for node in document if node.tag.rpartition("}")[2] == name]


def _text(document: ET.Element, name: str) -> str:
    return next((node.text or "" for node in _children(document, name)), "")


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        # Too young to be touched.
        return datetime.max.replace(tzinfo=UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
