"""Results that are too old or too many go, with their requests."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from servicex_server.db import kept
from servicex_server.db import request as requests
from servicex_server.db.kept import Kept, Totals
from servicex_server.service.context import Services
from servicex_server.service.remove import Young, find_young
from servicex_server.service.retention import Doomed, Ended, Retention, bound_bytes, choose, choose_spared
from servicex_server.store.protocol import Room

logger = logging.getLogger(__name__)

_AT_ONCE = 1_000
"""Requests that one round looks at; each of them goes sooner or later, so that the next round sees others."""


@dataclass(frozen=True, slots=True)
class Disk:
    """What is kept, and what of it may go.

    Attributes:
        largest: requests that keep most, largest first; not all of them.
        room: what there is on the store's disk, if the store knows.
        bound_bytes: how much may be kept; None for no bound.
        doomed: what the next sweep removes.
        spared: what it would remove for its size, had that not ended so recently.
        young: objects that no result names yet, on a local disk; elsewhere looking takes too long.
    """

    totals: Totals
    largest: tuple[Kept, ...]
    room: Room | None
    bound_bytes: int | None
    doomed: tuple[Doomed, ...]
    spared: tuple[Ended, ...]
    young: Young | None


async def describe_disk(services: Services, *, limit: int) -> Disk:
    """What is kept, with the `limit` requests that keep most; changes nothing."""
    totals = await services.db.read(kept.sum_kept)
    doomed, spared = await find_fates(services)
    largest = await services.db.read(kept.list_largest, limit)
    room = await asyncio.to_thread(services.store.find_room)
    bound = bound_bytes(services.limits.retention, totals.size_bytes, await _free_bytes(services, room))
    return Disk(
        totals,
        tuple(largest),
        room,
        bound,
        tuple(doomed),
        tuple(spared),
        await find_young(services),
    )


async def find_expired(services: Services) -> list[Doomed]:
    """What goes by the rule, oldest first; a bounded number."""
    return (await find_fates(services))[0]


async def find_fates(services: Services) -> tuple[list[Doomed], list[Ended]]:
    """What goes by the rule, and what would go with it, had it not ended so recently; both bounded."""
    seen = await _look(services)
    going = choose(
        seen.rule, seen.ended, kept_bytes=seen.kept_bytes, free_bytes=seen.free_bytes, now=seen.now
    )
    return going, choose_spared(
        seen.rule, seen.ended, going, kept_bytes=seen.kept_bytes, free_bytes=seen.free_bytes, now=seen.now
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the choice is made from."""

    rule: Retention
    ended: list[Ended]
    kept_bytes: int
    free_bytes: int | None
    now: datetime


async def _look(services: Services) -> _Seen:
    rule, now = services.limits.retention, services.clock()
    too_old = None if rule.max_age_s is None else now - timedelta(seconds=rule.max_age_s)
    totals = await services.db.read(kept.sum_kept)
    room = await asyncio.to_thread(services.store.find_room)
    inputs = await services.db.read(requests.find_inputs)
    ended = [
        Ended(request.id, request.finish_time, request.size_bytes)
        for request in await services.db.read(kept.list_ended, _AT_ONCE, before=too_old)
        # What is being read by another request stays until that has ended.
        if request.finish_time is not None and request.id not in inputs
    ]
    return _Seen(rule, ended, totals.size_bytes, await _free_bytes(services, room), now)


async def _free_bytes(services: Services, room: Room | None) -> int | None:
    """What is free, or will be when the deleted has gone; or each round would take more in its place."""
    return None if room is None else room.free_bytes + await services.db.read(kept.sum_deleted)


async def expire_results(services: Services) -> int:
    """`expire` as a step of the sweeper; returns how many requests went."""
    return len(await expire(services))


async def expire(services: Services) -> list[Doomed]:
    """Hides what goes by the rule, a bounded number, so that the purge removes it.

    A request that was retried since it was looked at stays: hiding it asks for that in the same statement.
    """
    gone: list[Doomed] = []
    for doomed in await find_expired(services):
        request = doomed.request
        if not await services.db.write(kept.hide_ended, request.id, request.finish_time, services.clock()):
            continue
        gone.append(doomed)
        logger.info(
            "request.expired: %s with %d bytes of results: %s", request.id, request.size_bytes, doomed.reason
        )
        services.notifier.ring(request.id)
    if gone:
        services.backlog.purge_asked.set()
    return gone
