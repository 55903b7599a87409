"""`servicex://<request id>`: what an earlier request delivered.

Whether the caller may use that request is decided before (`service.submit`): a finder does not know who asks.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db.session import Database
from servicex_server.did.parameter import refuse_others
from servicex_server.errors import BadDatasetName, FinderError, UnknownDataset
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.earlier import READABLE, to_location
from servicex_server.model.kinds import FileStatus, RequestState
from servicex_server.model.request import FileResult, TransformRequest

_PAGE = 1_000


class EarlierFinder:
    """Finds the results of a completed request of this server; sizes in bytes and rows are known."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def check(self, did: Did) -> None:
        """Raises BadDatasetName unless it is the id of a request in its usual form."""
        try:
            is_id = str(uuid.UUID(did.name)) == did.name
        except ValueError:
            is_id = False
        refuse_others(did)
        if not is_id:
            message = (
                f"{did.name[:200]!r} is no id of a request, such as 0f3c2a64-7d1b-4d1e-9c55-1a2b3c4d5e6f"
            )
            raise BadDatasetName(message)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        request = await self._db.read(requests.find_request, did.name)
        if request is None:
            raise missing(did)
        check_usable(request, did)
        offset = 0
        while page := await self._db.read(
            results.list_results,
            request.id,
            request.number,
            since=None,
            status=FileStatus.SUCCESS,
            offset=offset,
            limit=_PAGE,
        ):
            yield [_to_found(result) for result in page]
            offset += len(page)


def check_usable(request: TransformRequest, did: Did) -> None:
    """Returns if the results of the request can be input now.

    Raises:
        FinderError: it has not completed, or not for all files, or its results are of another format.
    """
    if request.result_format not in READABLE:
        formats = " and ".join(each.value for each in READABLE)
        message = (
            f"request {request.id} has results in the format {request.result_format.value}; of earlier "
            f"requests those in {formats} can be input"
        )
        raise FinderError(message)
    if request.state is not RequestState.COMPLETE:
        hint = "" if request.state.is_terminal else ": use its results once it is complete"
        message = f"request {request.id} is {request.state.value}, not {RequestState.COMPLETE.value}{hint}"
        raise FinderError(message)
    failed = request.counts.failed
    if failed and did.get == "all":
        message = (
            f"request {request.id} lacks {failed:,} of its {request.counts.files:,} files, which failed: "
            f"retry it, or take what there is with {did.scheme}://{did.name}?get=available"
        )
        raise FinderError(message)


def missing(did: Did) -> UnknownDataset:
    """The same words for a request of somebody else, for one that was deleted, and for none."""
    return UnknownDataset(f"you have no request {did.name} on this server, or it has been deleted")


def _to_found(result: FileResult) -> FoundFile:
    assert result.object_name is not None  # noqa: S101  of a success
    return FoundFile(
        (to_location(result.request_id, result.object_name),),
        size_bytes=result.size_bytes,
        n_events=result.n_events_out,
    )
