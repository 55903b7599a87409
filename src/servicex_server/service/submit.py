"""A new request: validated, planned, stored, tried on a first file, and on its way to the workers."""

from __future__ import annotations

from servicex_server.model.ids import RequestId
from servicex_server.model.request import Principal, Submission
from servicex_server.service.context import Services


async def submit(services: Services, principal: Principal, submission: Submission) -> RequestId:
    """The id of the stored request, which a worker has tried on a first file if that took not too long.

    Raises:
        InvalidRequest: what is wrong with the submission, or (from the preflight) with the query on
            these files; nothing is stored then.
    """
    raise NotImplementedError
