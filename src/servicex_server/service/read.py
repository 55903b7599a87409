"""What callers may see of their requests and results."""

from __future__ import annotations

from datetime import datetime

from servicex_server.model.kinds import FileStatus
from servicex_server.model.request import FileResult, Principal, Statistics, TransformRequest
from servicex_server.service.context import Services


async def get_request(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The request with this UUID or (all digits) number.

    Raises:
        NotFound: no such request.
        NotAllowed: it belongs to somebody else, and the caller is no admin.
    """
    raise NotImplementedError


async def list_requests(
    services: Services, principal: Principal, *, submitted_by: str | None = None
) -> list[TransformRequest]:
    """The caller's requests, oldest first; an admin sees everybody's, or those of `submitted_by`."""
    raise NotImplementedError


async def list_results(
    services: Services,
    principal: Principal,
    ref: str,
    *,
    later_than: datetime | None = None,
    status: FileStatus | None = None,
    offset: int = 0,
    limit: int | None = None,
) -> list[FileResult]:
    """Outcomes of the request's files in the order they were recorded.

    `later_than` is taken generously: entries recorded at that time, or a little before, come again.
    """
    raise NotImplementedError


async def count_results(
    services: Services, principal: Principal, ref: str, *, status: FileStatus | None = None
) -> int:
    """How many files of the request have that outcome (or any)."""
    raise NotImplementedError


async def wait_until_finished(
    services: Services, request: TransformRequest, timeout_s: float
) -> TransformRequest:
    """The request as soon as its state is terminal, or as it is after `timeout_s`.

    Raises:
        NotFound: it was deleted meanwhile.
    """
    raise NotImplementedError


async def statistics(services: Services, principal: Principal, ref: str) -> Statistics | None:
    """Totals over the delivered files; None before the first one."""
    raise NotImplementedError
