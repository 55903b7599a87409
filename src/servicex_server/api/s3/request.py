"""A received S3 request as plain data: everything decoded once, within bounds.

What is decoded here is both what the signature is computed from and what is served, so that no
two readings of one URL can differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus, unquote_to_bytes

from starlette.types import Scope

from servicex_server.api.s3.refusal import headers_too_large, invalid_argument, invalid_uri, key_too_long

MAX_PATH_BYTES = 4096
MAX_QUERY_BYTES = 8192
MAX_HEADERS_BYTES = 32768
MAX_PARAMETERS = 100
MAX_KEY_BYTES = 1024

_SAFE_IN_PATH = "/-_.~"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter; `value` is None where not even a '=' was given (`?location`)."""

    name: str
    value: str | None


@dataclass(frozen=True, slots=True)
class S3Request:
    """What was asked, as received.

    Attributes:
        raw_path: percent-encoded path as the client sent (and perhaps signed) it.
        path: the same, decoded.
        bucket: first segment; empty for the root.
        key: what follows it; empty for the bucket itself.
        parameters: query parameters in the order given.
        headers: values by lower-case name, in the order given.
    """

    method: str
    raw_path: str
    path: str
    bucket: str
    key: str
    parameters: tuple[Parameter, ...]
    headers: Mapping[str, tuple[str, ...]]

    @property
    def canonical_path(self) -> str:
        """The path with every byte percent-encoded but letters, digits and `/-_.~`, as SigV4 wants it."""
        return quote(self.path, safe=_SAFE_IN_PATH)

    def has_parameter(self, name: str) -> bool:
        return any(parameter.name == name for parameter in self.parameters)

    def find_parameter(self, name: str) -> str | None:
        """The parameter's value, None if it is absent.

        Raises:
            Refusal: it is given twice: clients and servers disagree which one counts.
        """
        values = [parameter.value or "" for parameter in self.parameters if parameter.name == name]
        if len(values) > 1:
            message = f"The query parameter {name} is given more than once."
            raise invalid_argument(message)
        return values[0] if values else None

    def find_header(self, name: str) -> str | None:
        """All values of the header joined by commas, None if it is absent."""
        values = self.headers.get(name)
        return ",".join(values) if values is not None else None


def read_request(scope: Scope) -> S3Request:
    """Reads an ASGI scope.

    Raises:
        Refusal: a bound is passed, or the text is not UTF-8.
    """
    raw_path = _raw_path(scope)
    raw_query: bytes = scope.get("query_string", b"")
    if len(raw_path) > MAX_PATH_BYTES or len(raw_query) > MAX_QUERY_BYTES:
        message = (
            f"The URL is too long: {MAX_PATH_BYTES} bytes of path and {MAX_QUERY_BYTES} of query are taken."
        )
        raise invalid_uri(message)
    path = _decode_path(raw_path)
    bucket, key = _split(raw_path, str(scope.get("root_path", "")))
    return S3Request(
        method=str(scope["method"]).upper(),
        raw_path=raw_path,
        path=path,
        bucket=bucket,
        key=key,
        parameters=tuple(_parameters(raw_query)),
        headers=_headers(scope["headers"]),
    )


def _raw_path(scope: Scope) -> str:
    raw: bytes | None = scope.get("raw_path")
    if raw is None:
        return quote(str(scope["path"]), safe=_SAFE_IN_PATH)
    # Servers differ in whether they leave the query in.
    return raw.partition(b"?")[0].decode("latin-1")


def _decode_path(raw_path: str) -> str:
    try:
        path = unquote_to_bytes(raw_path.encode("latin-1")).decode()
    except UnicodeError as error:
        message = "The path is not UTF-8."
        raise invalid_uri(message) from error
    if "\0" in path:
        message = "The path has a NUL character."
        raise invalid_uri(message)
    return path


def _split(raw_path: str, root_path: str) -> tuple[str, str]:
    """Bucket and key. A client configured with a trailing slash sends two leading ones."""
    below = raw_path.removeprefix(root_path) if root_path else raw_path
    bucket, _, key = below.lstrip("/").partition("/")
    key = _decode_path(key)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise key_too_long(MAX_KEY_BYTES)
    return _decode_path(bucket), key


def _parameters(raw_query: bytes) -> list[Parameter]:
    try:
        pieces = [piece for piece in raw_query.decode().split("&") if piece]
        parameters = [_parameter(piece) for piece in pieces[:MAX_PARAMETERS]]
    except UnicodeError as error:
        message = "The query is not UTF-8."
        raise invalid_uri(message) from error
    if len(pieces) > MAX_PARAMETERS:
        message = f"The query has more than {MAX_PARAMETERS} parameters."
        raise invalid_uri(message)
    if any("\0" in parameter.name + (parameter.value or "") for parameter in parameters):
        message = "The query has a NUL character."
        raise invalid_uri(message)
    return parameters


def _parameter(piece: str) -> Parameter:
    name, equals, value = piece.partition("=")
    decoded = unquote_plus(value, errors="strict") if equals else None
    return Parameter(unquote_plus(name, errors="strict"), decoded)


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, tuple[str, ...]]:
    headers: dict[str, tuple[str, ...]] = {}
    size_bytes = 0
    for raw_name, raw_value in raw:
        size_bytes += len(raw_name) + len(raw_value)
        name = raw_name.decode("latin-1").lower()
        headers[name] = (*headers.get(name, ()), _decode_header(raw_value))
    if size_bytes > MAX_HEADERS_BYTES:
        raise headers_too_large(MAX_HEADERS_BYTES)
    return headers


def _decode_header(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeError:
        return value.decode("latin-1")
