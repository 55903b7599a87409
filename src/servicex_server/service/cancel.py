"""The owner no longer wants a request."""

from __future__ import annotations

from servicex_server.model.request import Principal, TransformRequest
from servicex_server.service.context import Services


async def cancel(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The canceled request; its waiting work is dropped, results so far stay.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it has ended already.
    """
    raise NotImplementedError
