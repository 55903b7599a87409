"""A bearer token in a file: what it says of itself. Whether that is true is for storage to check."""

from __future__ import annotations

import base64
import binascii
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from servicex_server.errors import CredentialError
from servicex_server.grid.access import GridAccess

log = logging.getLogger(__name__)

_LARGEST_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its text.

    Attributes:
        issuer: who issued it; None for one that does not say (it is no JWT, say).
        subject: for whom.
        expires_at: None if it does not say.
    """

    issuer: str | None = None
    subject: str | None = None
    expires_at: datetime | None = None

    def __str__(self) -> str:
        whose = f"{self.subject or 'somebody'} of {self.issuer}" if self.issuer else "of unknown origin"
        until = f", until {self.expires_at:%Y-%m-%d %H:%M:%S} UTC" if self.expires_at else ""
        return whose + until


def read_token(path: Path) -> str | None:
    """The text in the file; None if there is no such file, or nothing in it.

    It is read anew for each use: whoever keeps it fresh replaces the file.

    Raises:
        CredentialError: the file cannot be read, or holds no token.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"the bearer token {path} cannot be read: {error.strerror}"
        raise CredentialError(message) from error
    text = content.decode("ascii", errors="replace").strip()
    if len(content) > _LARGEST_BYTES or not text.isprintable() or not text.isascii() or " " in text:
        message = f"{path} holds no bearer token: it must be one word of ASCII, of at most 64 KiB"
        raise CredentialError(message)
    return text or None


def find_authorization(access: GridAccess, url: str) -> str | None:
    """The token for a request to that URL; None for one that is not to see it, or if there is none now."""
    parts = urlsplit(url)
    if access.token_file is None or parts.scheme != "https" or not access.is_trusted(parts.hostname or ""):
        return None
    try:
        return read_token(access.token_file)
    except CredentialError as error:
        log.warning("grid.unreadable: %s", error.message)
        return None


def parse_token(text: str) -> Token:
    """What the token says of itself; nothing for one that is no JWT (https://www.rfc-editor.org/rfc/rfc7519)."""
    parts = text.split(".")
    if len(parts) != 3:
        return Token()
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, binascii.Error):
        return Token()
    if not isinstance(claims, dict):
        return Token()
    issuer, subject, end = (claims.get(name) for name in ("iss", "sub", "exp"))
    return Token(
        issuer=issuer if isinstance(issuer, str) else None,
        subject=subject if isinstance(subject, str) else None,
        expires_at=_to_time(end),
    )


def _to_time(seconds: object) -> datetime | None:
    if not isinstance(seconds, int | float):
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
