"""Another try for the failed files of a finished request, under the same id."""

from __future__ import annotations

from servicex_server.db.session import Transaction
from servicex_server.db.transition import transition
from servicex_server.errors import Conflict
from servicex_server.model.lifecycle import Effect, Retry
from servicex_server.model.request import Principal, TransformRequest
from servicex_server.service.context import Services
from servicex_server.service.effect import act, keep_effects
from servicex_server.service.read import get_request
from servicex_server.service.share import check_share


async def retry(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The request, running again for the files that have no result.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it is still running, or none of its files failed.
        LimitReached: its owner has too much under way beside it.
    """
    request = await get_request(services, principal, ref)
    event = Retry(f"retry by {principal.name}")
    effects = await services.db.write(keep_effects(_begin), services, request, event)
    if not effects:
        failed = request.counts.failed
        message = f"request {request.id} is {request.state} with {failed} failed files; nothing to retry"
        raise Conflict(message)
    await act(services, request.id, effects)
    return await get_request(services, principal, request.id)


def _begin(
    transaction: Transaction, services: Services, request: TransformRequest, event: Retry
) -> tuple[Effect, ...] | None:
    effects = transition(transaction, request.id, event, services.clock())
    if effects:
        check_share(transaction, request.owner, request.id, request.counts.failed, services.limits)
    return effects
