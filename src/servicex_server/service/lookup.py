"""What finders say becomes files, counters and states; said twice, late or out of order it changes nothing.

A data set is locked before the requests that wait for it, everywhere, so that no two of these wait for each
other; a submit that joins a look-up locks it, too, and so is either seen by its end or sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from servicex_server.db import lookup as lookups
from servicex_server.db.lookup import LockedLookup, OpenLookup
from servicex_server.db.session import Transaction
from servicex_server.db.transition import transition
from servicex_server.errors import NotFound
from servicex_server.model.did import FoundFile
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import LookupStatus
from servicex_server.model.lifecycle import Effect, Event, FilesetClosed, FilesFound, LookupFailed
from servicex_server.service.context import Services
from servicex_server.service.effect import act

logger = logging.getLogger(__name__)

_AT_ONCE = 500
_MESSAGE_CHARACTERS = 2_000
_LARGEST_ID = 2**63 - 1


async def add_found(
    services: Services, dataset_id: DatasetId, files: Sequence[FoundFile], *, batch: str | None = None
) -> bool:
    """Stores the files that are new, and lets requests begin with them; False if nobody wants more.

    Args:
        files: none at all tells that the finder is at work.
        batch: a name of this batch; the same one twice in a row counts once.

    Raises:
        NotFound: no such data set.
    """
    add = partial(_add, files=files, batch=batch, most_files=services.limits.dataset_files)
    return (await _change(services, dataset_id, add)).is_open


async def close_lookup(services: Services, dataset_id: DatasetId, *, announced: int | None = None) -> None:
    """The finder is through. If it sent more than has arrived, the look-up ends with the rest of it.

    Raises:
        NotFound: no such data set.
    """
    await _change(services, dataset_id, partial(_close, announced=announced))


async def fail_lookup(services: Services, dataset_id: DatasetId, kind: LookupStatus, message: str) -> None:
    """The finder gives up: requests that wait end as Bad Dataset, and the next one is looked up anew.

    Raises:
        NotFound: no such data set.
    """
    await _change(services, dataset_id, partial(_fail, kind=kind, message=message))


async def expire_lookups(services: Services) -> int:
    """Ends look-ups of which nothing was heard for too long, or of which files got lost; returns how many."""
    limits, now = services.limits, services.clock()
    settled = now - timedelta(seconds=limits.lookup_settle_s)
    silent = now - timedelta(seconds=limits.lookup_silence_s)
    ended = 0
    for late in await services.db.read(lookups.list_open, limit=_AT_ONCE, heard_before=max(settled, silent)):
        before = silent if late.n_announced is None else settled
        if late.status is LookupStatus.CREATED and late.did_finder in services.finders:
            continue  # it was not asked yet: others of ours, which are bounded, go first
        if late.last_updated < before:
            message = _say_late(late, limits.lookup_silence_s)
            logger.warning("lookup.expired: %s: %s", late.name, message)
            await _change(services, late.id, partial(_expire, before=before, message=message))
            ended += 1
    for dataset_id in await services.db.read(lookups.list_left_behind):
        logger.error("requests wait for the look-up of data set %d, which has ended; they go on", dataset_id)
        await _change(services, dataset_id, _tell_end, although_ended=True)
    return ended


def _say_late(late: OpenLookup, silence_s: float) -> str:
    if late.n_announced is not None:
        return (
            f"the finder found {late.n_announced:,} files, but only {late.n_received:,} of them arrived; "
            "submit again to look them up once more"
        )
    return f"the {late.did_finder} finder was silent for {silence_s:g} s; its operator has to look after it"


@dataclass(frozen=True, slots=True)
class _Turn:
    """One run of a change: the data set that it has locked, and what it causes."""

    transaction: Transaction
    locked: LockedLookup
    now: datetime
    effects: dict[RequestId, tuple[Effect, ...]] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        """Steps every request that waits for the look-up."""
        for request_id in lookups.list_followers(self.transaction, self.locked.id):
            caused = transition(self.transaction, request_id, event, self.now)
            if caused:
                self.effects[request_id] = (*self.effects.get(request_id, ()), *caused)


async def _change(
    services: Services,
    dataset_id: DatasetId,
    change: Callable[[_Turn], None],
    *,
    although_ended: bool = False,
) -> LockedLookup:
    """Changes a locked data set and the requests that wait for it, then acts; returns what it was before."""
    # Of all runs: the commit of an earlier one may have gone unheard, and its effects are still due.
    effects: dict[RequestId, tuple[Effect, ...]] = {}

    def run(transaction: Transaction) -> LockedLookup:
        locked = None
        if 0 < dataset_id <= _LARGEST_ID:
            locked = lookups.lock_lookup(transaction, dataset_id)
        if locked is None:
            message = f"there is no data set {dataset_id} on this server"
            raise NotFound(message)
        if locked.is_open or although_ended:
            turn = _Turn(transaction, locked, services.clock())
            change(turn)
            effects.update(turn.effects)
        return locked

    locked = await services.db.write(run)
    if not (locked.is_open or effects):
        logger.info("lookup.late: data set %d is %s already", dataset_id, locked.status.value)
    for request_id, its_effects in effects.items():
        await act(services, request_id, its_effects)
    return locked


def _add(turn: _Turn, *, files: Sequence[FoundFile], batch: str | None, most_files: int) -> None:
    locked = turn.locked
    if files and batch is not None and batch == locked.last_batch:
        return
    new = lookups.insert_found(turn.transaction, locked, files, batch=batch, now=turn.now)
    n_files = locked.n_files + new
    if n_files > most_files:
        message = f"it has more than the {most_files:,} files that this server takes for a data set"
        _fail(turn, kind=LookupStatus.INTERNAL_FAILURE, message=message)
        return
    if new:
        turn.tell(FilesFound(f"{new} files found", new))
    if locked.n_announced is not None and locked.n_received + len(files) >= locked.n_announced:
        _end(turn, n_files)


def _close(turn: _Turn, *, announced: int | None) -> None:
    if announced is not None and turn.locked.n_received < announced:
        lookups.announce(turn.transaction, turn.locked.id, announced, turn.now)
    else:
        _end(turn, turn.locked.n_files)


def _end(turn: _Turn, n_files: int) -> None:
    lookups.end_lookup(turn.transaction, turn.locked.id, LookupStatus.COMPLETE, turn.now)
    turn.tell(FilesetClosed("look-up complete", n_files))


def _fail(turn: _Turn, *, kind: LookupStatus, message: str) -> None:
    reason = _say_why(turn.locked, kind, message)
    lookups.end_lookup(turn.transaction, turn.locked.id, kind, turn.now, failure=reason)
    turn.tell(LookupFailed(f"look-up failed: {kind.value}", reason))


def _expire(turn: _Turn, *, before: datetime, message: str) -> None:
    if turn.locked.last_updated < before:  # nothing came since it was looked at
        _fail(turn, kind=LookupStatus.INTERNAL_FAILURE, message=message)


def _tell_end(turn: _Turn) -> None:
    """Tells requests of an end that they missed."""
    locked = turn.locked
    if locked.status is LookupStatus.COMPLETE:
        turn.tell(FilesetClosed("look-up complete", locked.n_files))
    elif not locked.is_open:
        reason = lookups.find_failure(turn.transaction, locked.id) or f"the look-up of {locked.name} failed"
        turn.tell(LookupFailed("look-up failed", reason))


def _say_why(locked: LockedLookup, kind: LookupStatus, message: str) -> str:
    bounded = message if len(message) <= _MESSAGE_CHARACTERS else message[: _MESSAGE_CHARACTERS - 1] + "…"
    clean = bounded.replace("\0", "�").encode(errors="replace").decode().strip()
    match kind:
        case LookupStatus.DOES_NOT_EXIST:
            said = f"the data set {locked.name} does not exist"
        case LookupStatus.BAD_NAME:
            said = f"{locked.name} is not a name that the {locked.did_finder} finder understands"
        case _:
            said = f"the data set {locked.name} could not be looked up"
    return f"{said}: {clean}" if clean else said
