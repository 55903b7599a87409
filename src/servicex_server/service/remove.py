"""Objects that requests shared leave the store, once no result names them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from servicex_server.db import shared
from servicex_server.errors import NotFound
from servicex_server.model.shared import FOLDER, SHARDS, is_note, note_key, question_key_of
from servicex_server.service.context import Services
from servicex_server.store.protocol import MAX_NOTE_BYTES

logger = logging.getLogger(__name__)

_AT_ONCE = 16
_PAGE = 200
_KNOWN_AT_ONCE = 20_000
_REMEMBERED = timedelta(days=1)
"""How long reports may be under way that tell of an object which is gone."""


class _Pointer(msgspec.Struct):
    """Of a note, what it points to."""

    store_key: str


_pointers = msgspec.json.Decoder(_Pointer)


@dataclass(frozen=True, slots=True)
class Young:
    """Shared objects that no result names, and that are too young to go for that.

    Attributes:
        patience_s: how long each of them stays.
    """

    objects: int
    size_bytes: int
    patience_s: float


async def remove_doomed(services: Services) -> int:
    """Removes objects that no result names any more, and the notes that lead to them; returns how many."""
    gone = 0
    while keys := await services.db.read(shared.list_doomed, _PAGE):
        await _remove(services, keys)
        await services.db.write(shared.mark_removed, keys, services.clock())
        gone += len(keys)
    while await services.db.write(shared.forget_removed, services.clock() - _REMEMBERED):
        pass
    return gone


async def remove_unknown(services: Services) -> int:
    """Removes what no result names and nobody has told us of for long; returns how many objects.

    Workers that die between a put and its report leave such objects. Young ones may be about to be told of.
    """
    oldest = _oldest(services)
    gone = 0
    async with aclosing(_iter_strangers(services)) as pages:
        async for keys in pages:
            gone += await _remove_old(services, keys, oldest)
    return gone


async def find_young(services: Services) -> Young | None:
    """What `remove_unknown` leaves for now; None for a store elsewhere, which takes minutes to list."""
    if await asyncio.to_thread(services.store.find_room) is None:
        return None
    oldest = _oldest(services)
    n_objects = size_bytes = 0
    async with aclosing(_iter_strangers(services)) as pages:
        async for keys in pages:
            for stored in await services.store.heads([key for key in keys if not is_note(key)]):
                if stored is not None and stored.modified >= oldest:
                    n_objects += 1
                    size_bytes += stored.size_bytes
    return Young(n_objects, size_bytes, services.limits.orphan_age_s)


def _oldest(services: Services) -> datetime:
    return services.clock() - timedelta(seconds=services.limits.orphan_age_s)


async def _iter_strangers(services: Services) -> AsyncGenerator[list[str], None]:
    """Keys of what is in the store and no result names, and of notes that lead to nothing known."""
    # A server with few results does not ask 256 times for them.
    n_known = await services.db.read(shared.count_objects)
    for shard in SHARDS if n_known > _KNOWN_AT_ONCE else (FOLDER,):
        known = await services.db.read(shared.find_known, shard)
        answered = {question_key_of(key) for key in known}
        strangers: list[str] = []
        async for key in services.store.iter_keys(shard):
            if question_key_of(key) not in answered if is_note(key) else key not in known:
                strangers.append(key)
            if len(strangers) == _PAGE:
                yield strangers
                strangers = []
        if strangers:
            yield strangers


async def _remove_old(services: Services, keys: Iterable[str], oldest: datetime) -> int:
    old: list[str] = []
    for key in keys:
        stored = await services.store.head(key)
        if stored is None or stored.modified >= oldest:
            continue
        if is_note(key):
            await services.store.delete(key)
        else:
            old.append(key)
    # Doomed first: a report that comes now is refused, or has named the object before.
    doomed = await services.db.write(shared.doom_objects, old, services.clock()) if old else []
    await _remove(services, doomed)
    await services.db.write(shared.mark_removed, doomed, services.clock())
    if doomed:
        logger.info("%d shared objects that no result names are removed", len(doomed))
    return len(doomed)


async def _remove(services: Services, keys: Sequence[str]) -> None:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def remove(key: str) -> None:
        async with slots:
            await services.store.delete(key)
            note = note_key(question_key_of(key))
            # It may lead to a newer answer by now. One that is written meanwhile is lost, and no harm done.
            if await _read_pointer(services, note) == key:
                await services.store.delete(note)

    ended = await asyncio.gather(*(remove(key) for key in keys), return_exceptions=True)
    for failure in ended:
        if failure is not None:
            raise failure


async def _read_pointer(services: Services, note: str) -> str | None:
    try:
        async with aclosing(services.store.stream(note, 0, MAX_NOTE_BYTES)) as pieces:
            content = b"".join([piece async for piece in pieces])
        return _pointers.decode(content).store_key
    except (NotFound, msgspec.MsgspecError):
        return None
