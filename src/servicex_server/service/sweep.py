"""Nothing hangs and nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db.request import Late
from servicex_server.db.session import Transaction
from servicex_server.db.transition import advance, lock_request, transition
from servicex_server.errors import ServicexError
from servicex_server.model.ids import RequestId
from servicex_server.model.lifecycle import CountsAudited, Effect, Fail, PreflightPassed
from servicex_server.service.context import Services
from servicex_server.service.delete import purge
from servicex_server.service.effect import act, keep_effects
from servicex_server.service.expire import expire_results
from servicex_server.service.lookup import expire_lookups
from servicex_server.service.remove import remove_unknown

logger = logging.getLogger(__name__)

_COUNTED_AT_ONCE = 20_000
_PREFIXES_AT_ONCE = 500
_HOUR_S = 3600.0


async def run_sweeper(services: Services) -> None:
    """Audits, expires and cleans up in rounds; removes deleted requests soon. Runs until canceled."""
    loop = asyncio.get_running_loop()
    next_round_s = next_orphans_s = next_audit_s = loop.time()
    while True:
        if loop.time() >= next_audit_s:
            await _guard(services, audit_unfinished)
            next_audit_s = loop.time() + services.limits.audit_interval_s
        if loop.time() >= next_round_s:
            await sweep(services)
            next_round_s = loop.time() + services.limits.sweep_interval_s
        if loop.time() >= next_orphans_s:
            await _guard(services, remove_orphans)
            next_orphans_s = loop.time() + services.limits.orphan_interval_s
        try:
            async with asyncio.timeout_at(min(next_round_s, next_orphans_s, next_audit_s)):
                await services.backlog.purge_asked.wait()
        except TimeoutError:
            continue
        services.backlog.purge_asked.clear()
        await _guard(services, purge)


async def sweep(services: Services) -> None:
    """One round; a step that fails is logged and does not keep the others from their work."""
    for action in (
        expire_lookups,
        expire_preflights,
        expire_requests,
        audit,
        expire_results,
        purge,
        clear_scratch,
    ):
        await _guard(services, action)


async def expire_preflights(services: Services) -> int:
    """Lets requests go on whose preflight never answered; the files themselves will show what is wrong."""
    patience_s = services.limits.preflight_patience_s
    oldest = services.clock() - timedelta(seconds=patience_s)
    event = PreflightPassed(f"the preflight did not answer within {patience_s:g} s")
    late = await services.db.read(requests.list_late, active_before=oldest, with_pending_preflight=True)
    for request in late:
        logger.warning("request %s goes on without preflight: no answer in %g s", request.id, patience_s)
        await act(services, request.id, await _transition(services, request.id, event))
    return len(late)


async def expire_requests(services: Services) -> int:
    """Ends requests that outlived their time."""
    limit_s = services.limits.request_deadline_s
    oldest = services.clock() - timedelta(seconds=limit_s)
    late = await services.db.read(requests.list_late, active_before=oldest)
    for request in late:
        event = Fail("time limit of requests", _say_late(request, limit_s))
        logger.warning("request %s did not finish in %g h and is ended", request.id, limit_s / _HOUR_S)
        await act(services, request.id, await _transition(services, request.id, event))
    return len(late)


async def audit(services: Services) -> int:
    """Compares counters with rows of what changed of late, and repairs what differs; returns how many did.

    Large requests that go on are left for `audit_unfinished`: counting their rows takes a while.
    """
    recently = services.clock() - timedelta(seconds=2 * services.limits.sweep_interval_s)
    return await _audit(services, recently)


async def audit_unfinished(services: Services) -> int:
    """`audit` of every request that has not ended, however long ago it changed."""
    return await _audit(services, None)


async def _audit(services: Services, since: datetime | None) -> int:
    suspects = await services.db.read(_find_miscounted, since)
    for request_id in suspects:
        logger.error("the counters of request %s differ from its rows and are repaired", request_id)
        effects = await services.db.write(keep_effects(_repair), request_id, services.clock())
        await act(services, request_id, effects or ())
    return len(suspects)


async def clear_scratch(services: Services) -> int:
    """Removes what killed workers left unfinished."""
    age_s = max(services.limits.scratch_age_s, services.limits.file_deadline_s)
    return await services.store.clear_scratch(services.clock() - timedelta(seconds=age_s))


async def remove_orphans(services: Services) -> int:
    """Removes objects of requests that no longer exist, and shared ones of none; returns how many."""
    gone = 0
    async for request_id in iter_orphans(services):
        removed = await services.store.delete_prefix(f"{request_id}/")
        logger.info("%d objects of the unknown request %s are removed", removed, request_id)
        gone += removed
    return gone + await remove_unknown(services)


async def iter_orphans(services: Services) -> AsyncIterator[str]:
    """Ids of requests that have objects in the store, but no longer exist."""
    prefixes: list[str] = []
    async for prefix in services.store.iter_prefixes():
        prefixes.append(prefix)
        if len(prefixes) >= _PREFIXES_AT_ONCE:
            for request_id in await _find_unknown(services, prefixes):
                yield request_id
            prefixes.clear()
    for request_id in await _find_unknown(services, prefixes):
        yield request_id


async def _find_unknown(services: Services, prefixes: list[str]) -> list[str]:
    # Only what looks like a request's folder is ours to remove.
    ids = [prefix.rstrip("/") for prefix in prefixes if _is_uuid(prefix.rstrip("/"))]
    known = await services.db.read(requests.find_known, ids)
    return [request_id for request_id in ids if request_id not in known]


async def _guard(services: Services, action: Callable[[Services], Awaitable[int]]) -> None:
    try:
        await action(services)
    except ServicexError as error:
        logger.warning("the sweeper's step %s has to wait: %s", action.__name__, error)
    except Exception:
        logger.exception("the sweeper's step %s failed", action.__name__)


async def _transition(
    services: Services, request_id: RequestId, event: PreflightPassed | Fail
) -> tuple[Effect, ...]:
    return await services.db.write(keep_effects(transition), request_id, event, services.clock()) or ()


def _find_miscounted(transaction: Transaction, since: datetime | None) -> list[RequestId]:
    wrong: list[RequestId] = []
    for request_id, number, counts in requests.list_counted(transaction, since=since):
        if since is not None and counts.remaining and counts.completed + counts.failed > _COUNTED_AT_ONCE:
            continue
        if results.count_outcomes(transaction, number) != (counts.completed, counts.failed):
            wrong.append(request_id)
    return wrong


def _repair(transaction: Transaction, request_id: RequestId, now: datetime) -> tuple[Effect, ...]:
    locked = lock_request(transaction, request_id)
    if locked is None:
        return ()
    rows = results.count_results(transaction, locked.number)
    totals: dict[str, object] = {
        "min_seconds": rows.min_seconds,
        "max_seconds": rows.max_seconds,
        "total_seconds": rows.total_seconds,
        "total_bytes": rows.total_bytes,
        "total_events": rows.total_events,
        "cached": rows.cached,
    }
    event = CountsAudited("audit of the counters", rows.completed, rows.failed)
    return advance(transaction, locked, event, now, totals)


def _say_late(request: Late, limit_s: float) -> str:
    counts = request.counts
    return (
        f"the request did not finish in {limit_s / _HOUR_S:g} h and was ended; of {counts.files} files "
        f"{counts.completed} were delivered and {counts.failed} failed"
    )


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
