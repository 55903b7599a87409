"""Settings that a server starts with, but hardly works with as its operator means it to."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from servicex_server.app.settings import ANY_ADDRESS, Settings, looks_like

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


def log_oversights(settings: Settings, *, is_one_of_several: bool) -> None:
    """Tells the log of a server that starts."""
    for oversight in find_oversights(settings, is_one_of_several=is_one_of_several):
        logger.warning("settings.incomplete: %s: %s", oversight.subject, oversight.text)


def find_oversights(settings: Settings, *, is_one_of_several: bool) -> Iterator[Oversight]:
    """What the operator had better be told.

    Args:
        is_one_of_several: other apps serve the same users, as in a deployment.
    """
    yield from find_misspelt()
    if not settings.public_url and not settings.allowed_hosts and settings.host in ANY_ADDRESS:
        yield Oversight(
            "names",
            f"it listens on {settings.host}, but answers requests to localhost alone, others with 403: give "
            "SERVICEX_PUBLIC_URL, or SERVICEX_ALLOWED_HOSTS",
        )
    if settings.signing_secret is None and is_one_of_several:
        yield Oversight(
            "signing secret",
            f"each app makes its own (this one in {settings.data_dir}), so the access tokens and the browser "
            "sessions that one app gives out are refused by the others: give all apps the same "
            "SERVICEX_SIGNING_SECRET",
        )


def find_misspelt() -> Iterator[Oversight]:
    """Variables of the environment that were probably meant as settings."""
    for name in os.environ:
        nearest = looks_like(name)
        if nearest is not None:
            yield Oversight("setting", f"{name} is none, do you mean {nearest}?")
