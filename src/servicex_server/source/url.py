"""The part of a URL that says where it leads, read so strictly that no client can read it otherwise.

Whoever checks a host and whoever connects to it must mean the same one. Parsers differ about `#`, `?`, a
backslash or a second `@` in the authority, so these are refused.
https://www.rfc-editor.org/rfc/rfc3986#section-3.2
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from servicex_server.errors import SourceRefused
from servicex_server.model.naming import show_location

_HTTP = re.compile(
    r"(?P<scheme>https?|davs)://((?P<user>[^/?#@\\\[\]]*)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[^/?#@\\\[\]:,%\s]+)(:(?P<port>[0-9]{0,5}))?(?P<rest>([/?#].*)?)",
    re.IGNORECASE | re.DOTALL,
)
_ROOT = re.compile(
    r"(?P<scheme>roots?)://((?P<user>[a-z0-9._~+-]+)@)?"
    r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:(?P<port>[0-9]{0,5}))?(?P<rest>/.*)",
    re.IGNORECASE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Url:
    """A URL in its parts.

    Attributes:
        scheme: in lower case.
        user: what stands before `@`, password included.
        host: in lower case, IPv6 addresses without brackets.
        port: None if the URL names none.
        rest: path and what follows, with the slash that ends the authority.
    """

    scheme: str
    user: str | None
    host: str
    port: int | None
    rest: str

    def __str__(self) -> str:
        user = "" if self.user is None else f"{self.user}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{user}{host}{port}{self.rest}"


def split_url(url: str) -> Url:
    """The parts of an http, https, davs, root or roots URL.

    Raises:
        SourceRefused: it has no host, or its authority can be read in more than one way.
    """
    is_root = url[:4].lower() == "root"
    match = (_ROOT if is_root else _HTTP).fullmatch(url)
    port = int(match["port"]) if match is not None and match["port"] else None
    if match is None or (port is not None and port > 65535):
        form = "root://[user@]host[:port]//path" if is_root else "http[s]://host[:port]/path"
        message = f"not a URL with a usable host: {show_location(url)!r}; allowed is {form}"
        raise SourceRefused(message)
    return Url(
        scheme=match["scheme"].lower(),
        user=match["user"],
        host=match["host"].strip("[]").lower(),
        port=port,
        rest=match["rest"],
    )
