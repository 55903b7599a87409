"""`cernopendata://1507`: files of a record of the CERN Open Data portal, through its HTTP API.

A record lists its files, or index files that list them: as lines of text, as JSON, or expanded in the answer,
depending on the portal's age and on the record.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

import httpx

from servicex_server.did.parameter import refuse_others
from servicex_server.errors import BadDatasetName, FinderError, UnknownDataset
from servicex_server.model.did import Did, FoundFile

_ROOT = "root://eospublic.cern.ch/"
"""The portal serves what lies there by HTTP, too, under the same path."""
_INDEX = ("_file_index.txt", "_file_index.json")
_MAX_BYTES = 256 * 2**20
_MAX_DIGITS = 18
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_ATTEMPTS = 3


class CernOpenDataFinder:
    """Finds files of records by their number.

    Args:
        url: of the portal.
    """

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        self._transport = transport

    def check(self, did: Did) -> None:
        """Raises BadDatasetName unless it is the number of a record."""
        refuse_others(did)
        if not (did.name.isascii() and did.name.isdigit() and len(did.name) <= _MAX_DIGITS):
            message = (
                f"{did.name[:200]!r} is no number of a record of the CERN Open Data portal, such as 1507"
            )
            raise BadDatasetName(message)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        retrying = self._transport or httpx.AsyncHTTPTransport(retries=_ATTEMPTS - 1)
        async with httpx.AsyncClient(transport=retrying, timeout=_TIMEOUT, follow_redirects=True) as client:
            content = await self._get(client, f"{self._url}/api/records/{did.name}")
            if content is None:
                message = f"the CERN Open Data portal has no record {did.name}"
                raise UnknownDataset(message)
            metadata = _member(_parse(content), "metadata")
            listed = list(_entries(metadata.get("files")))
            for index in _entries(metadata.get("_file_indices") or metadata.get("file_indices")):
                yield [self._to_found(entry) for entry in _entries(index.get("files"))]
            plain = [entry for entry in listed if not _uri(entry).endswith(_INDEX)]
            if plain:
                yield [self._to_found(entry) for entry in plain]
            for uri in _choose_indices([_uri(entry) for entry in listed]):
                yield await self._read_index(client, uri)

    async def _read_index(self, client: httpx.AsyncClient, uri: str) -> list[FoundFile]:
        content = await self._get(client, self._by_http(uri))
        if content is None:
            message = f"the index {uri} of the record is missing"
            raise FinderError(message)
        if uri.endswith(".json"):
            return [self._to_found(entry) for entry in _entries(_parse(content))]
        lines = content.decode(errors="replace").splitlines()
        return [self._to_found({"uri": line.strip()}) for line in lines if line.strip()]

    async def _get(self, client: httpx.AsyncClient, url: str) -> bytes | None:
        """The body, bounded; None if there is no such thing."""
        parts: list[bytes] = []
        size = 0
        try:
            async with client.stream("GET", url) as answer:
                if answer.status_code in {404, 410}:
                    return None
                answer.raise_for_status()
                async for part in answer.aiter_bytes():
                    size += len(part)
                    if size > _MAX_BYTES:
                        message = f"the answer of {url} is larger than {_MAX_BYTES:,} bytes"
                        raise FinderError(message)
                    parts.append(part)
        except httpx.HTTPError as error:
            message = f"the CERN Open Data portal does not answer {url}: {str(error) or type(error).__name__}"
            raise FinderError(message) from error
        return b"".join(parts)

    def _by_http(self, uri: str) -> str:
        return f"{self._url}/{uri.removeprefix(_ROOT).lstrip('/')}" if uri.startswith(_ROOT) else uri

    def _to_found(self, entry: Mapping[str, Any]) -> FoundFile:
        uri = _uri(entry)
        paths = (uri, self._by_http(uri)) if uri.startswith(_ROOT) else (uri,)
        kind, _, checksum = str(entry.get("checksum") or "").partition(":")
        size = entry.get("size")
        return FoundFile(
            paths,
            adler32=checksum[:32] if kind == "adler32" and checksum else None,
            size_bytes=size if isinstance(size, int) and size >= 0 else 0,
        )


def _choose_indices(uris: Sequence[str]) -> list[str]:
    """Each index once: many records have it as text and as JSON, which knows sizes and checksums, too."""
    stems: dict[str, str] = {}
    for uri in uris:
        if uri.endswith(_INDEX):
            stem = uri.rpartition(".")[0]
            if stem not in stems or uri.endswith(".json"):
                stems[stem] = uri
    return list(stems.values())


def _parse(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        message = f"the CERN Open Data portal answered no JSON: {error}"
        raise FinderError(message) from error


def _member(document: object, name: str) -> Mapping[str, Any]:
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, dict):
        message = f"the answer of the CERN Open Data portal has no {name!r}"
        raise FinderError(message)
    return value


def _entries(value: object) -> Iterator[Mapping[str, Any]]:
    for entry in value if isinstance(value, list) else ():
        if isinstance(entry, dict):
            yield entry


def _uri(entry: Mapping[str, Any]) -> str:
    uri = entry.get("uri")
    if "uri" not in entry and "files" in entry:
        return ""
    if not isinstance(uri, str) or not uri or len(uri) > 4096 or "\0" in uri:
        message = "the answer of the CERN Open Data portal has a file without a usable 'uri'"
        raise FinderError(message)
    return uri
