"""What the HTTP edge needs to be told: plain values from the composition root."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from servicex_server.auth import AccessTokens
from servicex_server.errors import ConfigurationError

MAX_HOLD_S = 4.2
"""The official client gives up on a status after 5 s."""


async def always_ready() -> Sequence[str]:
    """Nothing is missing."""
    return ()


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """How the server presents itself.

    Attributes:
        app_version: shown to clients.
        access_tokens: issues and verifies short-lived tokens (with access control off, too).
        auth_enabled: ask for a token on every call.
        allowed_hosts: names beyond loopback that the Host header may carry; `*` for any.
        public_url: what clients see, `http[s]://host[:port]`; default is what they ask for.
        region: region of the S3 endpoint.
        hold_s: the status of an unfinished request is held back until it ends or reaches this age.
        answer_within_s: everything else but submits and results is given up after so long.
        max_body_bytes: largest request body.
        ready: what is not ready yet, in words; empty when all is.

    Raises:
        ConfigurationError: a value does not work; names it.
    """

    app_version: str
    access_tokens: AccessTokens
    auth_enabled: bool = True
    allowed_hosts: tuple[str, ...] = ()
    public_url: str | None = None
    region: str = "us-east-1"
    hold_s: float = 4.0
    answer_within_s: float = 4.7
    max_body_bytes: int = 32 * 2**20
    ready: Callable[[], Awaitable[Sequence[str]]] = always_ready

    def __post_init__(self) -> None:
        if not 0 <= self.hold_s <= MAX_HOLD_S:
            message = f"hold_s must be between 0 and {MAX_HOLD_S} s, not {self.hold_s}"
            raise ConfigurationError(message)
        if self.public_url is not None:
            parts = urlsplit(self.public_url)
            if (
                parts.scheme not in {"http", "https"}
                or not parts.netloc
                or parts.path.strip("/")
                or parts.query
            ):
                message = f"public_url must be http[s]://host[:port] without a path, not {self.public_url!r}"
                raise ConfigurationError(message)

    @property
    def public_host(self) -> str | None:
        """`host[:port]` of the public URL."""
        return urlsplit(self.public_url).netloc if self.public_url is not None else None
