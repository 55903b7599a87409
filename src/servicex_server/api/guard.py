"""Checks in front of every route: who is addressed, and on whose behalf a browser speaks.

A server on 127.0.0.1 is within reach of every web page that the same machine's browsers show. A page whose
own name points here (DNS rebinding) is known by the Host header, any other by the Origin that browsers tell.
https://www.w3.org/TR/fetch-metadata/ for `Sec-Fetch-Site`.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from servicex_server.api.errors import error_response

ALWAYS_ALLOWED = ("127.0.0.1", "localhost", "[::1]")

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.ASCII)
_FOREIGN_SITES = frozenset({"cross-site", "same-site"})


@dataclass(frozen=True, slots=True)
class HostRule:
    """Which Host headers are answered.

    Attributes:
        names: `host` (any port) or `host:port`, lower case; `*` for any.
        public_host: `host[:port]` of the public URL, if one is configured.
    """

    names: frozenset[str]
    public_host: str | None = None

    @classmethod
    def from_names(cls, names: tuple[str, ...], public_host: str | None = None) -> HostRule:
        further = (public_host,) if public_host else ()
        allowed = frozenset(_as_in_header(name) for name in (*ALWAYS_ALLOWED, *names, *further))
        return cls(names=allowed, public_host=public_host.lower() if public_host else None)

    def allows(self, host: str) -> bool:
        """Whether a request to `host` (as in the Host header) is meant for this server."""
        parts = _HOST.fullmatch(host)
        return parts is not None and not self.names.isdisjoint({"*", host, parts["name"]})

    def is_own(self, origin: str, host: str) -> bool:
        """Whether a page of `origin` is one of this server's, addressed as `host`."""
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            return False
        shown = _without_default_port(parts.netloc.lower(), parts.scheme)
        own = {host, self.public_host} - {None}
        return any(shown == _without_default_port(known or "", parts.scheme) for known in own)


class Guard:
    """Refuses requests with a foreign Host or on behalf of a foreign page, with 403."""

    def __init__(self, app: ASGIApp, rule: HostRule) -> None:
        self._app = app
        self._rule = rule

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await error_response(403, refusal)(scope, receive, send)

    def _refusal(self, headers: Headers, path: str) -> str | None:
        hosts = [host.strip().lower() for host in headers.getlist("host")]
        if len(hosts) != 1 or not self._rule.allows(hosts[0]):
            shown = ", ".join(hosts) or "none"
            allowed = ", ".join(sorted(self._rule.names))
            return f"host {shown!r} is not one of this server; allowed: {allowed} (setting `allowed_hosts`)"
        for origin in headers.getlist("origin"):
            if not self._rule.is_own(origin.strip(), hosts[0]):
                return (
                    f"requests from pages of {origin!r} are refused; only this server's own pages may call it"
                )
        # A GET that an image or a script of another page makes carries no Origin.
        if headers.get("sec-fetch-site") in _FOREIGN_SITES:
            is_link = headers.get("sec-fetch-mode") == "navigate"
            if not is_link or path.lstrip("/").startswith("servicex"):
                return "requests on behalf of another site's page are refused"
        return None


def _as_in_header(name: str) -> str:
    """A host as the Host header has it: IPv6 addresses in brackets, and in their short form."""
    host = name.strip().lower()
    try:
        return f"[{ipaddress.IPv6Address(host.strip('[]'))}]"
    except ValueError:
        return host


def _without_default_port(netloc: str, scheme: str) -> str:
    return netloc.removesuffix(":443" if scheme == "https" else ":80")
