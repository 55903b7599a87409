"""Where the broker is: a URL that is used, and a name that may be shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from servicex_server.errors import ConfigurationError

_PORTS = {"amqp": 5672, "amqps": 5671}
_SHAPE = (
    "the broker's URL must look like amqp://user:password@host:5672/vhost (or amqps://…?cafile=/path), with "
    "special characters of user, password and vhost percent-encoded"
)
HEARTBEAT_S = 15
"""Of the AMQP connection, if the URL says nothing: a dead peer is noticed within a minute."""


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """A broker.

    Attributes:
        url: with its password; never for messages or logs.
        name: host, port and virtual host.
        user: who connects.
    """

    url: str = field(repr=False)
    name: str
    user: str

    @classmethod
    def parse(cls, url: str) -> Self:
        """The broker at `url`.

        Raises:
            ConfigurationError: it is no such URL, or names a file that cannot be read. Nothing of the URL is
                repeated in the message, because any part of a wrong one may be a password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise ConfigurationError(_SHAPE) from None
        if not parts.hostname or parts.fragment or "@" in parts.path + parts.query:
            raise ConfigurationError(_SHAPE)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        for option in ("cafile", "certfile", "keyfile"):
            if option in query and not Path(query[option]).is_file():
                message = f"the broker's URL names a {option} that is no file: {query[option]}"
                raise ConfigurationError(message)
        query.setdefault("heartbeat", str(HEARTBEAT_S))
        vhost = unquote(parts.path[1:]) or "/"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(
            url=urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), "")),
            name=f"{host}:{port} (virtual host {vhost})",
            user=unquote(parts.username or "guest"),
        )
