"""Settings that a server starts with, but hardly works with as its operator means it to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from servicex_server.app.ports import is_deployment
from servicex_server.app.settings import ANY_ADDRESS, LOOPBACK, Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Oversight:
    """What was probably forgotten.

    Attributes:
        subject: in two words.
        text: names the setting.
    """

    subject: str
    text: str


def log_oversights(settings: Settings) -> None:
    """Tells the log of a server that starts."""
    for oversight in find_oversights(settings):
        logger.warning("settings.incomplete: %s: %s", oversight.subject, oversight.text)


def find_oversights(settings: Settings) -> Iterator[Oversight]:
    """What the operator had better be told."""
    if not settings.public_url and not settings.allowed_hosts and settings.host not in LOOPBACK:
        yield Oversight("names", _names(settings))
    if settings.signing_secret is None and is_deployment(settings):
        yield Oversight(
            "signing secret",
            f"each app makes its own (this one in {settings.data_dir}), so the access tokens and the browser "
            "sessions that one app gives out are refused by the others: give all apps the same "
            "SERVICEX_SIGNING_SECRET",
        )


def _names(settings: Settings) -> str:
    known = "localhost" if settings.host in ANY_ADDRESS else f"localhost and {settings.host}"
    return (
        f"it listens on {settings.host}, but answers requests to {known} alone, others with 403: give "
        "SERVICEX_PUBLIC_URL, or SERVICEX_ALLOWED_HOSTS"
    )
