"""Short-lived signed tokens: JSON Web Tokens with the claims that the official server issues.

https://www.rfc-editor.org/rfc/rfc7519 (format), HS256 (HMAC with SHA-256) as signature.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import jwt

from servicex_server.errors import ConfigurationError, NotAuthenticated

MIN_SECRET_BYTES = 32
MAX_TOKEN_CHARACTERS = 8192
_LEEWAY_S = 60
"""How far the clock may have been set back since a token was issued."""
_REMEMBER_AT_MOST = 1024


class Audience(StrEnum):
    """What a token opens. Values are the `type` claim."""

    ACCESS = "access"
    """The API, in an Authorization header."""
    SESSION = "session"
    """The web pages alone, in a cookie: a cookie goes to every port of a host, so it must open less."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    name: str
    audience: Audience
    expires: int


class AccessTokens:
    """Issues and verifies access tokens.

    Args:
        secret: signing secret, at least 32 bytes.
        lifetime_s: how long a token is good for.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: the secret is too short or the lifetime is not positive.
    """

    def __init__(
        self, secret: bytes, lifetime_s: int = 21600, *, clock: Callable[[], float] = time.time
    ) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            message = (
                f"the token signing secret has {len(secret)} bytes; it needs at least {MIN_SECRET_BYTES}"
            )
            raise ConfigurationError(message)
        if lifetime_s <= 0:
            message = f"the life of an access token must be positive, not {lifetime_s} s"
            raise ConfigurationError(message)
        self._secret = secret
        self._clock = clock
        self._signed: dict[bytes, dict[str, object]] = {}
        self.lifetime_s = lifetime_s

    def __repr__(self) -> str:
        return f"AccessTokens(lifetime_s={self.lifetime_s})"

    def issue(self, name: str, audience: Audience = Audience.ACCESS) -> str:
        """A signed token for the principal called `name`."""
        now = int(self._clock())
        claims = {
            "fresh": False,
            "iat": now,
            "nbf": now,
            "jti": str(uuid.uuid4()),
            "type": audience.value,
            "sub": name,
            "csrf": str(uuid.uuid4()),
            "exp": now + self.lifetime_s,
        }
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def verify(self, token: str, audience: Audience = Audience.ACCESS) -> Claims:
        """What `token` says, if this server signed it for this audience and it is still good.

        Raises:
            NotAuthenticated: in every other case, with the cause.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            message = "the token is too long to be one of this server's"
            raise NotAuthenticated(message)
        return self._checked(self._claims(token), audience)

    def _claims(self, token: str) -> dict[str, object]:
        """What the token says if this server signed it, whatever the time is.

        Clients send the same one with each poll, and a digest costs a tenth of checking a signature.
        """
        digest = hashlib.sha256(token.encode(errors="surrogatepass")).digest()
        known = self._signed.get(digest)
        if known is not None:
            return known
        try:
            # Times are checked by our own clock; the signature is compared in constant time.
            claims: dict[str, object] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                options={
                    "require": ["exp", "nbf", "sub", "type"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_aud": False,
                },
            )
        except (jwt.InvalidTokenError, ValueError) as error:
            message = "the token is not one of this server's"
            raise NotAuthenticated(message) from error
        if len(self._signed) >= _REMEMBER_AT_MOST:
            self._signed.clear()
        self._signed[digest] = claims
        return claims

    def _checked(self, claims: dict[str, object], audience: Audience) -> Claims:
        name, expires, not_before = claims["sub"], claims["exp"], claims["nbf"]
        if not isinstance(name, str) or not isinstance(expires, int) or not isinstance(not_before, int):
            message = "the token's claims are malformed"
            raise NotAuthenticated(message)
        if claims["type"] != audience.value:
            message = f"the token is not of type {audience.value!r}"
            raise NotAuthenticated(message)
        now = self._clock()
        if now >= expires:
            message = "the token has expired; get a new one from /token/refresh"
            raise NotAuthenticated(message)
        if now < not_before - _LEEWAY_S:
            message = "the token is not valid yet; is the clock right?"
            raise NotAuthenticated(message)
        return Claims(name=name, audience=audience, expires=expires)
