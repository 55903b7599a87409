"""Who the server is for Rucio: a token, fetched when it is needed and again before it ends."""

from __future__ import annotations

import asyncio
import email.utils
import os
import ssl
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import httpx

from servicex_server.did.rucio.reply import check_reply, request
from servicex_server.errors import CredentialError, FinderError
from servicex_server.grid.access import NO_GRID_ACCESS, GridAccess
from servicex_server.grid.identity import explain_proxy
from servicex_server.grid.tls import trusted_context
from servicex_server.grid.token import parse_token, read_token

_MARGIN = timedelta(minutes=5)
"""A token is used no more so long before its end; a short one in the last tenth of its life."""
_LIFE = timedelta(hours=1)
"""Of a token that does not say when it ends: what Rucio gives by default."""


class LoginKind(StrEnum):
    """How one proves to Rucio who one is."""

    USERPASS = "userpass"
    X509_PROXY = "x509_proxy"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class RucioAccess:
    """Where a Rucio server is, and who we are there.

    Attributes:
        host: URL of its API.
        auth_host: URL where tokens are given out.
        account: of Rucio; None for the one that belongs to the identity.
        grid: has the proxy for `x509_proxy`, the token for `oidc`, and the authorities to trust.
        ca_file: further certificates to trust.
    """

    host: str
    auth_host: str
    kind: LoginKind = LoginKind.X509_PROXY
    account: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    grid: GridAccess = NO_GRID_ACCESS
    ca_file: Path | None = None

    def has_proxy(self) -> bool:
        """Whether there is a file with a proxy; what is in it is for Rucio to judge."""
        # Not Path.exists, which raises where the folder may not be looked into.
        return self.grid.proxy_file is not None and os.path.exists(self.grid.proxy_file)  # noqa: PTH110

    def tls(self, *, with_proxy: bool = False) -> ssl.SSLContext:
        """Whom to trust; with the proxy as the client's certificate if so asked.

        Raises:
            FinderError: `ca_file` cannot be used.
        """
        context = trusted_context(self.grid if with_proxy else replace(self.grid, proxy_file=None))
        if self.ca_file is not None:
            try:
                context.load_verify_locations(cafile=str(self.ca_file))
            except (OSError, ssl.SSLError) as error:
                message = "the certificates that this server trusts Rucio by (`rucio_ca_file`) cannot be read"
                raise FinderError(message) from error
        return context


@dataclass(frozen=True, slots=True)
class _Held:
    text: str = field(repr=False)
    renew_at: datetime


class RucioLogin:
    """Hands out the token; whoever comes while it is fetched waits for it."""

    def __init__(
        self, access: RucioAccess, *, pause_s: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._access = access
        self._pause_s = pause_s
        self._transport = transport
        self._held: _Held | None = None
        self._lock = asyncio.Lock()

    async def token(self, *, refused: str | None = None) -> str:
        """A token that is good for some minutes.

        Args:
            refused: one that Rucio would not take; another one is fetched.

        Raises:
            FinderError: there is none to be had; says what the administrator has to look after.
        """
        if self._access.kind is LoginKind.OIDC:
            return self._read_token()
        async with self._lock:
            held = self._held
            if held is None or held.text == refused or datetime.now(UTC) >= held.renew_at:
                held = self._held = await self._fetch()
            return held.text

    def _read_token(self) -> str:
        """The bearer token of the file, which somebody else keeps fresh."""
        path = self._access.grid.token_file
        try:
            text = None if path is None else read_token(path)
        except CredentialError as error:
            message = "the bearer token of this server cannot be read; its administrator has to look after it"
            raise FinderError(message) from error
        if text is None:
            message = "Rucio wants a token, and this server has none (`bearer_token_file`)"
            raise FinderError(message)
        end = parse_token(text).expires_at
        if end is not None and end <= datetime.now(UTC):
            message = f"the bearer token of this server has expired at {end:%Y-%m-%d %H:%M:%S} UTC"
            raise FinderError(message)
        return text

    async def _fetch(self) -> _Held:
        access = self._access
        headers = {"X-Rucio-AppID": "servicex"}
        if access.account:
            headers["X-Rucio-Account"] = access.account
        if access.kind is LoginKind.USERPASS:
            headers["X-Rucio-Username"] = access.username or ""
            headers["X-Rucio-Password"] = access.password or ""
        is_x509 = access.kind is LoginKind.X509_PROXY
        if is_x509 and not await asyncio.to_thread(access.has_proxy):
            # Rucio would say no more than that it does not know us.
            message = (
                "Rucio wants a grid proxy, and this server has no proxy now (`x509_proxy_file`): its "
                "administrator makes one with `servicex-server proxy`"
            )
            raise FinderError(message)
        # The context anew each time: the proxy's file changes. Asked of the file system in a thread.
        context = await asyncio.to_thread(access.tls, with_proxy=is_x509)
        url = f"{access.auth_host}/auth/{access.kind.value}"
        async with (
            httpx.AsyncClient(verify=context, transport=self._transport, timeout=60.0) as client,
            request(client, "GET", url, headers=headers, pause_s=self._pause_s) as answer,
        ):
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise FinderError(self._say_refused())
            if answer.status_code == httpx.codes.PARTIAL_CONTENT:
                message = (
                    "this server's identity has several accounts at Rucio: `rucio_account` must name one"
                )
                raise FinderError(message)
            await check_reply(answer)
            text = answer.headers.get("X-Rucio-Auth-Token", "")
            end = _to_time(answer.headers.get("X-Rucio-Auth-Token-Expires", ""))
        if not text:
            message = f"Rucio's {access.auth_host} gave no token; is `rucio_auth_host` right?"
            raise FinderError(message)
        now = datetime.now(UTC)
        life = (end - now) if end is not None else _LIFE
        return _Held(text, now + max(life - _MARGIN, 0.9 * life))

    def _say_refused(self) -> str:
        access = self._access
        said = f"Rucio does not let this server in as {access.account or 'its account'} ({access.kind.value})"
        if access.kind is LoginKind.X509_PROXY:
            return said + explain_proxy(access.grid)
        return f"{said}; its administrator has to look after `rucio_username` and `rucio_password`"


def _to_time(text: str) -> datetime | None:
    """The time that Rucio writes as in `Wed, 25 Nov 2026 22:00:00 UTC`."""
    try:
        parsed = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
