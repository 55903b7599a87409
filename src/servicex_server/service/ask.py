"""Finders are asked: the database says which look-ups are under way, whoever began them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from servicex_server.db import lookup as lookups
from servicex_server.db.lookup import OpenLookup
from servicex_server.did.limit import iter_found
from servicex_server.did.protocol import Finder, RemoteFinders, kind_of
from servicex_server.errors import Busy, FinderError, ServicexError
from servicex_server.model.did import parse_did
from servicex_server.model.ids import DatasetId
from servicex_server.model.kinds import LookupStatus
from servicex_server.service.context import Services
from servicex_server.service.lookup import add_found, close_lookup, fail_lookup

logger = logging.getLogger(__name__)

T = TypeVar("T")

_AT_ONCE = 500
_LONGEST_PAUSE_S = 30.0


async def run_lookups(services: Services) -> None:
    """Asks finders for data sets that are to be looked up; runs until canceled. The leader alone runs it.

    A look-up by a finder inside this process begins anew with each leader: a file that is found twice counts
    once.
    """
    under_way: dict[DatasetId, asyncio.Task[None]] = {}
    async with asyncio.TaskGroup() as tasks:
        while True:
            services.backlog.lookups_asked.clear()
            try:
                await _ask_all(services, tasks, under_way)
                pause_s = services.limits.catch_up_interval_s
            except Busy as error:
                logger.warning("look-ups wait: %s", error)
                pause_s = services.limits.publish_retry_s
            except Exception:
                logger.exception("finders could not be asked")
                pause_s = services.limits.catch_up_interval_s
            try:
                async with asyncio.timeout(pause_s):
                    await services.backlog.lookups_asked.wait()
            except TimeoutError:
                continue


async def _ask_all(
    services: Services, tasks: asyncio.TaskGroup, under_way: dict[DatasetId, asyncio.Task[None]]
) -> None:
    # Those that end while the open ones are read are among these still, and stay here until the next round.
    for dataset_id in [dataset_id for dataset_id, task in under_way.items() if task.done()]:
        del under_way[dataset_id]
    away: Busy | None = None
    opened = await services.db.read(lookups.list_open, limit=_AT_ONCE)
    # Those of our own first: they need no broker, and one that is away is waited for.
    for found in sorted(opened, key=lambda each: each.did_finder not in services.finders):
        finder = services.finders.get(found.did_finder)
        remote = services.remote_finders
        if finder is not None:
            n_asked = sum(not task.done() for task in under_way.values())
            if found.id in under_way or n_asked >= services.limits.lookup_slots:
                continue
            await services.db.write(lookups.mark_looking, found.id, services.clock())
            task = tasks.create_task(_look_up(services, finder, found), name=f"look-up {found.id}")
            under_way[found.id] = task
            task.add_done_callback(partial(_give_slot, services, under_way))
        elif found.status is not LookupStatus.CREATED:
            continue  # it was asked; its silence is watched
        elif remote is not None and found.did_finder in remote.schemes:
            if away is None:
                try:
                    await _hand_over(services, remote, found)
                except Busy as error:
                    away = error
        else:
            message = f"this server has no {found.did_finder} finder any more"
            await fail_lookup(services, found.id, LookupStatus.INTERNAL_FAILURE, message)
    if away is not None:
        raise away


def _give_slot(
    services: Services, under_way: dict[DatasetId, asyncio.Task[None]], _task: asyncio.Task[None]
) -> None:
    if len(under_way) >= services.limits.lookup_slots:
        services.backlog.lookups_asked.set()  # another one may wait for this slot


async def _hand_over(services: Services, remote: RemoteFinders, found: OpenLookup) -> None:
    try:
        await remote.ask(parse_did(found.name), found.id)
    except Busy:
        raise
    except ServicexError as error:
        logger.exception("lookup.refused: %s", found.name)
        await fail_lookup(services, found.id, LookupStatus.INTERNAL_FAILURE, error.message)
        return
    logger.info("lookup.asked: %s, data set %d", found.name, found.id)
    await services.db.write(lookups.mark_looking, found.id, services.clock())


async def _look_up(services: Services, finder: Finder, found: OpenLookup) -> None:
    """One look-up by a finder of ours, to its end."""
    try:
        did = parse_did(found.name)  # stored by an older version, it may be refused now
        async for batch in iter_found(finder, did, most_files=services.limits.dataset_files):
            if not await _patiently(services, partial(add_found, services, found.id, batch)):
                return
        await _patiently(services, partial(close_lookup, services, found.id))
    except FinderError as error:
        fail = partial(fail_lookup, services, found.id, kind_of(error), error.message)
    except ServicexError as error:
        fail = partial(fail_lookup, services, found.id, LookupStatus.INTERNAL_FAILURE, error.message)
    except Exception:
        logger.exception("the look-up of %s failed", found.name)
        message = "the finder failed; see the server's log"
        fail = partial(fail_lookup, services, found.id, LookupStatus.INTERNAL_FAILURE, message)
    else:
        return
    try:
        await _patiently(services, fail)
    except Exception:
        # It stays open, and is begun anew with the next round.
        logger.exception("the failure of the look-up of %s could not be recorded", found.name)


async def _patiently(services: Services, action: Callable[[], Awaitable[T]]) -> T:
    """Waits out an absent database: what a finder said is not lost by that. The sweeper bounds it."""
    pause_s = services.limits.publish_retry_s
    while True:
        try:
            return await action()
        except Busy as error:
            logger.warning("what a finder said waits for the database: %s", error)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
