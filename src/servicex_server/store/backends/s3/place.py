"""Where the objects are: server, bucket, and the prefix within it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from servicex_server.errors import ConfigurationError
from servicex_server.store.key import MAX_KEY_BYTES, check_key

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket and a prefix on one S3 server.

    Attributes:
        bucket: has to exist; nothing here creates one.
        prefix: what all keys begin with, without slashes at its ends; may be empty.
        endpoint: URL of the server; None for AWS.
        region: what requests are signed for; servers other than AWS take any.
        is_path_style: the bucket is the first part of the path, not of the host name.
        public_endpoint: URL under which clients reach the server, if it is another one.
        ca_file: certificates (PEM) that are trusted beside the system's.

    Raises:
        ConfigurationError: one of them cannot be right.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str = "us-east-1"
    is_path_style: bool = True
    public_endpoint: str | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            message = (
                f"{self.bucket!r} is no name of a bucket: those have 3 to 63 letters, digits, dots and dashes"
            )
            raise ConfigurationError(message)
        if self.prefix:
            try:
                check_key(self.prefix)
            except ValueError as error:
                message = f"the prefix of the result store does not work: {error}"
                raise ConfigurationError(message) from error
        for url in (self.endpoint, self.public_endpoint):
            if url is not None:
                _check_endpoint(url)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """The place that `s3://bucket/prefix` names.

        Raises:
            ConfigurationError: it is no such URL, or carries credentials.
        """
        parts = urlsplit(url)
        if "@" in parts.netloc:
            # Not even quoted: it holds a secret.
            message = "the URL of an S3 store carries no credentials: URLs end up in logs; use the settings"
            raise ConfigurationError(message)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment:
            message = f"{url[:200]!r} is not an S3 store: write s3://bucket or s3://bucket/prefix"
            raise ConfigurationError(message)
        return cls(bucket=parts.netloc, prefix=parts.path.strip("/"))

    @property
    def base_url(self) -> str:
        """URL of the bucket, for us."""
        return self._bucket_url(self.endpoint)

    @property
    def server_url(self) -> str:
        """URL that object_store wants: it puts the bucket behind it for path style only."""
        return self._server(self.endpoint) if self.is_path_style else self.base_url

    def object_url(self, key: str, *, public: bool = False) -> str:
        """URL of the object, for us or for clients."""
        endpoint = self.public_endpoint or self.endpoint if public else self.endpoint
        return f"{self._bucket_url(endpoint)}/{quote(self.full_key(key), safe='/~')}"

    def full_key(self, key: str) -> str:
        """The key inside the bucket.

        Raises:
            ValueError: with the prefix it is longer than S3 takes, or breaks the rule of keys.
        """
        check_key(key)
        if not self.prefix:
            return key
        full = f"{self.prefix}/{key}"
        if len(full.encode()) > MAX_KEY_BYTES:
            most = f"with its prefix it has more than {MAX_KEY_BYTES} bytes"
            message = f"the store takes no key {key[:100]!r}: {most}"
            raise ValueError(message)
        return full

    def with_changes(self, **changes: object) -> Self:
        """The same place but for what is given (None means not given)."""
        given = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **given)  # type: ignore[arg-type]  # dataclasses check names, callers types

    def __str__(self) -> str:
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"s3://{self.bucket}/{self.prefix}{at}" if self.prefix else f"s3://{self.bucket}{at}"

    def _server(self, endpoint: str | None) -> str:
        return endpoint.rstrip("/") if endpoint else f"https://s3.{self.region}.amazonaws.com"

    def _bucket_url(self, endpoint: str | None) -> str:
        server = self._server(endpoint)
        if self.is_path_style:
            return f"{server}/{self.bucket}"
        scheme, _, host = server.partition("://")
        return f"{scheme}://{self.bucket}.{host}"


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:
        message = "the endpoint of an S3 store carries no credentials: URLs end up in logs; use the settings"
        raise ConfigurationError(message)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        message = f"the endpoint {url[:200]!r} of the result store does not look like https://host:port"
        raise ConfigurationError(message)
