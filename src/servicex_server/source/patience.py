"""Trying again, within bounds."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from servicex_server.errors import SiteUnavailable
from servicex_server.source.protocol import SourceLimits

log = logging.getLogger(__name__)

T = TypeVar("T")


class PassingFault(Exception):
    """The attempt failed in a way that another one may not."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def try_often(attempt: Callable[[float], T], limits: SourceLimits, location: str, total_s: float) -> T:
    """What the attempt returns, which is told until when on the monotonic clock it may take.

    Raises:
        SiteUnavailable: it raised `PassingFault` as often as is allowed, or time is up.
    """
    end = time.monotonic() + total_s
    pause_s = limits.backoff_s
    for number in range(1, limits.n_attempts + 1):
        try:
            return attempt(end)
        except PassingFault as fault:
            reason = str(fault)
            # Spread out, so that many workers do not come back at once.
            wait_s = max(fault.after_s, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (not a secret)
            if number == limits.n_attempts or time.monotonic() + wait_s >= end:
                tries = "1 attempt" if number == 1 else f"{number} attempts"
                message = f"cannot read {location}: {reason} ({tries})"
                raise SiteUnavailable(message) from fault
            log.info("retrying %s after: %s", location, reason)
            time.sleep(wait_s)
            pause_s *= 2
    message = f"cannot read {location}: no attempt is allowed"
    raise SiteUnavailable(message)
