"""Which results go: a rule without a clock or a disk of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from servicex_server.model.ids import RequestId

_DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """How long results are kept, and how much of them; they can all be made again.

    Attributes:
        max_age_s: time since a request ended after which it goes; None for no bound. A month outlives a
            holiday and most revisions of an analysis.
        max_bytes: of all results together; None for no bound.
        max_share: of the room that results and free space make up together, if the store knows its disk.
            With a half, as much stays free as results take, however full the disk is with other things.
        grace_s: size alone drives out nothing that ended so recently: its owner may still download it.
    """

    max_age_s: float | None = 30 * _DAY_S
    max_bytes: int | None = None
    max_share: float = 0.5
    grace_s: float = 3600.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that has ended, with the size of its results."""

    id: RequestId
    finish_time: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Doomed:
    """A request that goes, and why."""

    request: Ended
    reason: str


def bound_bytes(rule: Retention, kept_bytes: int, free_bytes: int | None) -> int | None:
    """How much may be kept, of `kept_bytes` that are and `free_bytes` beside them (None if nobody knows).

    >>> bound_bytes(Retention(max_bytes=None, max_share=0.5), 30, 90)
    60
    >>> bound_bytes(Retention(max_bytes=50, max_share=0.5), 30, 90)
    50
    >>> bound_bytes(Retention(max_bytes=None), 30, None) is None
    True
    """
    bounds = [] if rule.max_bytes is None else [rule.max_bytes]
    if free_bytes is not None:
        bounds.append(int(rule.max_share * (kept_bytes + free_bytes)))
    return min(bounds, default=None)


def choose_spared(
    rule: Retention,
    oldest_first: Iterable[Ended],
    going: Iterable[Doomed],
    *,
    kept_bytes: int,
    free_bytes: int | None,
    now: datetime,
) -> list[Ended]:
    """Those that would go for their size if they had not ended so recently; arguments as of `choose`.

    Args:
        going: what `choose` has chosen of the same.
    """
    # Below zero, as clocks of several servers differ.
    hasty = choose(
        replace(rule, grace_s=-_DAY_S), oldest_first, kept_bytes=kept_bytes, free_bytes=free_bytes, now=now
    )
    taken = {doomed.request.id for doomed in going}
    return [doomed.request for doomed in hasty if doomed.request.id not in taken]


def choose(
    rule: Retention,
    oldest_first: Iterable[Ended],
    *,
    kept_bytes: int,
    free_bytes: int | None,
    now: datetime,
) -> list[Doomed]:
    """Those that go: all that are too old, then the oldest until the rest fits.

    Args:
        oldest_first: requests that have ended, in the order in which they did; others are not ours to take.
        kept_bytes: of all requests, also of those that still run.
    """
    bound = bound_bytes(rule, kept_bytes, free_bytes)
    doomed: list[Doomed] = []
    for request in oldest_first:
        age = now - request.finish_time
        if rule.max_age_s is not None and age > timedelta(seconds=rule.max_age_s):
            reason = f"older than {rule.max_age_s / _DAY_S:g} days"
        elif (
            bound is not None
            and kept_bytes > bound
            and request.size_bytes > 0
            and age > timedelta(seconds=rule.grace_s)
        ):
            reason = f"results take more than {bound:,} bytes, and it is the oldest"
        else:
            continue
        doomed.append(Doomed(request, reason))
        kept_bytes -= request.size_bytes
    return doomed
