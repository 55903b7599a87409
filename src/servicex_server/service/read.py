"""What callers may see of their requests and results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.errors import Busy, NotAllowed, NotFound
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import FileStatus, ResultFormat
from servicex_server.model.request import FileResult, Principal, Statistics, TransformRequest
from servicex_server.service.context import Services

_SLACK = timedelta(seconds=1)
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


async def get_request(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The request with this UUID or (all digits) number.

    Raises:
        NotFound: no such request.
        NotAllowed: it belongs to somebody else, and the caller is no admin.
    """
    request = await services.db.read(requests.find_request, ref)
    if request is None:
        raise missing(ref)
    if request.owner != principal.name and not principal.is_admin:
        message = f"request {request.id} belongs to somebody else; only its owner and admins may use it"
        raise NotAllowed(message)
    return request


async def list_requests(
    services: Services,
    principal: Principal,
    *,
    submitted_by: str | None = None,
    formats: Collection[ResultFormat] | None = None,
) -> list[TransformRequest]:
    """The caller's newest requests, oldest first; an admin sees everybody's, or those of `submitted_by`.

    With `formats`, requests of others are left out.
    """
    owner = submitted_by if principal.is_admin else principal.name
    if submitted_by is not None and owner != submitted_by:
        return []
    return await services.db.read(
        requests.list_requests, owner=owner, limit=services.limits.listed_requests, formats=formats
    )


async def list_results(
    services: Services,
    principal: Principal,
    ref: str,
    *,
    later_than: datetime | None = None,
    status: FileStatus | None = None,
    offset: int = 0,
    limit: int | None = None,
    with_tally: bool = False,
) -> list[FileResult]:
    """Outcomes of the request's files in the order they were recorded.

    `later_than` is taken generously: entries recorded at that time, or a little before, come again. Tallies
    come only if asked for: nobody needs those of ten thousand files at every poll.
    """
    request = await get_request(services, principal, ref)
    since = None
    if later_than is not None:
        moment = later_than.replace(tzinfo=UTC) if later_than.tzinfo is None else later_than
        since = moment - _SLACK if moment > _BEGINNING else None  # clients begin with the year 1
    return await services.db.read(
        results.list_results,
        request.id,
        request.number,
        since=since,
        status=status,
        offset=offset,
        limit=limit,
        with_tally=with_tally,
    )


async def count_results(
    services: Services, principal: Principal, ref: str, *, status: FileStatus | None = None
) -> int:
    """How many files of the request have that outcome (or any)."""
    counts = (await get_request(services, principal, ref)).counts
    match status:
        case FileStatus.SUCCESS:
            return counts.completed
        case FileStatus.FAILURE:
            return counts.failed
        case None:
            return counts.completed + counts.failed


async def wait_until_finished(
    services: Services, request: TransformRequest, timeout_s: float
) -> TransformRequest:
    """The request as soon as its state is terminal, or as it is after `timeout_s`.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    if request.state.is_terminal:
        return request
    return await wait_for(services, request.id, _is_finished, timeout_s)


async def wait_for(
    services: Services,
    request_id: RequestId,
    predicate: Callable[[TransformRequest], bool],
    timeout_s: float,
) -> TransformRequest:
    """The request as soon as the predicate holds, or as it is after `timeout_s` or when the process stops.

    Asks the database upon changes, and where they happen on other servers now and then besides. An outage of
    the database that begins and ends meanwhile goes unnoticed.
    """
    with services.notifier.watch(request_id) as bell:
        request = await _load(services, request_id)
        looks = services.hints is not None
        try:
            async with asyncio.timeout(timeout_s):
                while not (predicate(request) or services.notifier.is_dismissing):
                    await _hear(bell, services.limits.waiter_poll_s if looks else None)
                    bell.clear()
                    try:
                        request = await _load(services, request_id)
                    except Busy:
                        looks = True  # what rang the bell has not been seen
        except TimeoutError:
            return await _load(services, request_id)
        return request


async def statistics(services: Services, principal: Principal, ref: str) -> Statistics | None:
    """Totals over the delivered files; None before the first one."""
    request = await get_request(services, principal, ref)
    return await services.db.read(requests.find_statistics, request.number)


def missing(ref: str) -> NotFound:
    """The error for a request that is not there."""
    message = f"there is no request {ref[:64]!r} on this server"
    return NotFound(message)


async def _hear(bell: asyncio.Event, at_most_s: float | None) -> None:
    """Returns when the bell rings, or when it is time to look without having heard it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await bell.wait()


def _is_finished(request: TransformRequest) -> bool:
    return request.state.is_terminal


async def _load(services: Services, request_id: RequestId) -> TransformRequest:
    request = await services.db.read(requests.find_request, request_id)
    if request is None:
        raise missing(request_id)
    return request
