"""A request, its results and their objects go away."""

from __future__ import annotations

from servicex_server.model.request import Principal
from servicex_server.service.context import Services


async def delete(services: Services, principal: Principal, ref: str) -> None:
    """Hides the request at once; the sweeper removes rows and objects, also after a restart.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it has not ended yet; cancel it first.
    """
    raise NotImplementedError
