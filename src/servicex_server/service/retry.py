"""Another try for the failed files of a finished request, under the same id."""

from __future__ import annotations

from servicex_server.model.request import Principal, TransformRequest
from servicex_server.service.context import Services


async def retry(services: Services, principal: Principal, ref: str) -> TransformRequest:
    """The request, running again for the files that have no result.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it is still running, or none of its files failed.
    """
    raise NotImplementedError
