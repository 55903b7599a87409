"""The gate: from an Authorization header or a session cookie to a `Principal`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from servicex_server.auth.tokens import MAX_TOKEN_CHARACTERS, AccessTokens, Audience
from servicex_server.errors import NotAuthenticated
from servicex_server.model.request import ANYONE, Principal

Lookup = Callable[[str], Awaitable[Principal | None]]

_REMEMBER_S = 2.0
"""For so long a revoked principal's access tokens may still work."""
_REMEMBER_AT_MOST = 1024

HOW_TO = (
    "send the header 'Authorization: Bearer TOKEN', where TOKEN is the `token` of your servicex.yaml "
    "or an access token from /token/refresh"
)


class Gate:
    """Tells who is calling.

    Args:
        tokens: issues and verifies the short-lived tokens.
        is_open: access control is off; everybody is `ANYONE`.
        find_by_token: the principal that holds this long-lived token, or None.
        find_by_name: the principal of this name if it (still) holds a token, or None.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        tokens: AccessTokens,
        *,
        is_open: bool,
        find_by_token: Lookup,
        find_by_name: Lookup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_open = is_open
        self._tokens = tokens
        self._find_by_token = find_by_token
        self._find_by_name = find_by_name
        self._clock = clock
        self._remembered: dict[str, tuple[float, Principal]] = {}

    @property
    def lifetime_s(self) -> int:
        """How long an issued token is good for."""
        return self._tokens.lifetime_s

    async def authenticate(self, authorization: str | None) -> Principal:
        """The caller, by an access token or by a long-lived token in the Authorization header.

        Raises:
            NotAuthenticated: whatever is wrong with it.
        """
        if self.is_open:
            return ANYONE
        token = _bearer(authorization)
        if not _looks_signed(token):
            return await self._holder(token)
        try:
            claims = self._tokens.verify(token)
        except NotAuthenticated:
            # A long-lived token may contain dots, too.
            holder = await self._find_by_token(token)
            if holder is None:
                raise
            return holder
        return await self._named(claims.name)

    async def refresh(self, authorization: str | None) -> str:
        """A new access token for the holder of the long-lived token in the Authorization header.

        With access control off anybody gets one, since a client that is configured with a token asks for it.

        Raises:
            NotAuthenticated: missing, unknown, or not a long-lived token.
        """
        if self.is_open:
            return self._tokens.issue(ANYONE.name)
        principal = await self._holder(_bearer(authorization))
        return self._tokens.issue(principal.name)

    async def holds_token(self, authorization: str | None) -> str | None:
        """The long-lived token in the Authorization header if it is a valid one, else None."""
        if self.is_open or authorization is None:
            return None
        token = _bearer(authorization)
        return token if await self._find_by_token(token) is not None else None

    async def sign_in(self, token: str) -> str:
        """A session for the holder of the long-lived token, to be kept in a cookie.

        Raises:
            NotAuthenticated: nobody holds this token.
        """
        if self.is_open:
            return self._tokens.issue(ANYONE.name, Audience.SESSION)
        principal = await self._holder(token.strip())
        return self._tokens.issue(principal.name, Audience.SESSION)

    async def authenticate_session(self, session: str | None) -> Principal:
        """The person whose browser sent this session.

        Raises:
            NotAuthenticated: there is no session, or it has ended.
        """
        if self.is_open:
            return ANYONE
        if not session:
            message = "nobody is signed in"
            raise NotAuthenticated(message)
        claims = self._tokens.verify(session, Audience.SESSION)
        return await self._named(claims.name)

    async def _holder(self, token: str) -> Principal:
        # Looked up by its SHA-256, so the comparison tells nothing about the token by its duration.
        principal = None
        if token and len(token) <= MAX_TOKEN_CHARACTERS:
            principal = await self._find_by_token(token)
        if principal is None:
            message = f"nobody holds this token; {HOW_TO}"
            raise NotAuthenticated(message)
        return principal

    async def _named(self, name: str) -> Principal:
        now = self._clock()
        known = self._remembered.get(name)
        if known is not None and known[0] > now:
            return known[1]
        principal = await self._find_by_name(name)
        if principal is None:
            self._remembered.pop(name, None)
            message = "the holder of this token is no longer known to the server"
            raise NotAuthenticated(message)
        if len(self._remembered) >= _REMEMBER_AT_MOST:
            self._remembered.clear()
        self._remembered[name] = (now + _REMEMBER_S, principal)
        return principal


def _bearer(authorization: str | None) -> str:
    if authorization is None:
        message = f"no credentials; {HOW_TO}"
        raise NotAuthenticated(message)
    scheme, _, token = authorization.strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        message = f"the Authorization header is not of the form 'Bearer TOKEN'; {HOW_TO}"
        raise NotAuthenticated(message)
    return token


def _looks_signed(token: str) -> bool:
    return token.count(".") == 2
