"""What results take, and making room: beside a running server, through its database and its store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from servicex_server.app.datadir import DataDir
from servicex_server.app.ports import store_arguments, to_limits
from servicex_server.app.settings import Settings
from servicex_server.app.tokens import with_database
from servicex_server.db import request as requests
from servicex_server.db.session import Database
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.context import Services
from servicex_server.service.delete import purge
from servicex_server.service.expire import Disk, describe_disk, expire, find_fates
from servicex_server.service.remove import Young, find_young
from servicex_server.service.retention import Doomed, Ended
from servicex_server.service.sweep import clear_scratch, iter_orphans, remove_orphans
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.open import open_store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep removed, or would remove.

    Attributes:
        expired: requests that go by the rule of retention.
        removed: deleted requests that are gone for good with their objects, the expired among them.
        orphans: objects (in a dry run: requests) that belonged to no request.
        scratch: unfinished files and uploads of killed workers; not looked for in a dry run.
        spared: requests that stay although results take too much, because they ended so recently.
        young: objects that no result names, and that stay because they are young; None where to look
            takes too long.
    """

    expired: tuple[Doomed, ...]
    removed: int
    orphans: int
    scratch: int
    spared: tuple[Ended, ...]
    young: Young | None


def describe(settings: Settings, *, limit: int) -> Disk:
    """What is kept, with the `limit` requests that keep most.

    Raises:
        ConfigurationError: no server has run on this folder.
    """

    async def look(services: Services) -> Disk:
        return await describe_disk(services, limit=limit)

    return _with_services(settings, look)


def sweep(settings: Settings, *, is_dry: bool) -> Swept:
    """Removes what may go, as the server's own sweeper does, or only tells; raises as `describe`."""
    return _with_services(settings, _tell if is_dry else _remove)


async def _tell(services: Services) -> Swept:
    expired, spared = await find_fates(services)
    waiting = await services.db.read(requests.list_deleted)
    orphans = [request_id async for request_id in iter_orphans(services)]
    return Swept(
        tuple(expired),
        len(waiting) + len(expired),
        len(orphans),
        0,
        tuple(spared),
        await find_young(services),
    )


async def _remove(services: Services) -> Swept:
    expired: list[Doomed] = []
    # One round looks at a bounded number.
    while gone := await expire(services):
        expired += gone
    removed = await purge(services)
    orphans, scratch = await remove_orphans(services), await clear_scratch(services)
    _, spared = await find_fates(services)
    return Swept(
        tuple(expired),
        removed,
        orphans,
        scratch,
        tuple(spared),
        await find_young(services),
    )


def _with_services(settings: Settings, task: Callable[[Services], Awaitable[T]]) -> T:
    async def perform(db: Database) -> T:
        services = Services(
            db=db,
            # Requests that have ended have no work in the server's queue.
            queue=MemoryQueue(),
            store=open_store(**store_arguments(settings, DataDir(settings.data_dir))),  # type: ignore[arg-type]
            policy=SourcePolicy(),
            limits=to_limits(settings),
        )
        return await task(services)

    return with_database(settings, perform)
