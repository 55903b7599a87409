"""The owner no longer wants a request."""

from __future__ import annotations

from servicex_server.db.transition import transition
from servicex_server.errors import Conflict
from servicex_server.model.lifecycle import Cancel
from servicex_server.model.request import Principal, TransformRequest
from servicex_server.service.context import Services
from servicex_server.service.effect import act, keep_effects
from servicex_server.service.read import get_request


async def cancel(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The canceled request; its waiting work is dropped, results so far stay.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it has ended already.
    """
    request = await get_request(services, principal, ref)
    event = Cancel(f"cancel by {principal.name}")
    effects = await services.db.write(keep_effects(transition), request.id, event, services.clock())
    if effects:
        await act(services, request.id, effects)
    after = await get_request(services, principal, request.id)
    if not effects:
        message = f"request {request.id} has ended already: it is {after.state}"
        raise Conflict(message)
    return after
