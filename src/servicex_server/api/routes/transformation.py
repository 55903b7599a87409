"""Transform requests: submit, follow, end."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from servicex_server.api.context import Caller, Context, Here
from servicex_server.api.direct import DirectRoute
from servicex_server.api.hold import hold
from servicex_server.api.schemas import (
    DetailedProgress,
    FileErrors,
    FileOutcome,
    FileOutcomes,
    ListedRequest,
    Message,
    Progress,
    RequestList,
    RequestStatus,
    Submitted,
)
from servicex_server.api.submission import TransformSubmission
from servicex_server.errors import InvalidRequest, NotFound
from servicex_server.model.kinds import CLIENT_FORMATS, FileStatus
from servicex_server.service import cancel as cancelling
from servicex_server.service import delete as deleting
from servicex_server.service import read
from servicex_server.service.retry import retry
from servicex_server.service.submit import submit

router = APIRouter(prefix="/servicex/transformation", tags=["transformation"])

_SUBMISSION_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": TransformSubmission.model_json_schema()}},
    }
}


async def submit_request(request: Request, context: Context, caller: Caller) -> Response:
    """Starts a transform and answers with its id."""
    submission = TransformSubmission.parse(await request.body())
    submitted = Submitted(request_id=await submit(context.services, caller, submission))
    # As it is: to check our own answer would cost more than to make it.
    return Response(submitted.model_dump_json(by_alias=True), media_type="application/json")


router.add_api_route(
    "",
    submit_request,
    methods=["POST"],
    openapi_extra=_SUBMISSION_SCHEMA,
    response_model=Submitted,
    route_class_override=DirectRoute,
)


@router.get("")
async def list_requests(
    context: Context, caller: Caller, here: Here, submitted_by: str | None = None
) -> RequestList:
    """The caller's requests; an administrator sees everybody's.

    Those in formats that the official clients do not know are left out, by which they would refuse the whole
    list: ask for such a request by its id.
    """
    requests = await read.list_requests(
        context.services, caller, submitted_by=submitted_by, formats=CLIENT_FORMATS
    )
    version = context.config.app_version
    return RequestList(
        requests=[
            ListedRequest.from_request(request, app_version=version, base_url=here.base_url)
            for request in requests
        ]
    )


@router.get("/{ref}")
async def get_status(
    ref: str, request: Request, context: Context, caller: Caller, here: Here
) -> RequestStatus:
    """A request with all its fields; held back for a few seconds while it is young and unfinished."""
    transform = await read.get_request(context.services, caller, ref)
    transform = await hold(request, context.services, transform, context.config.hold_s)
    return RequestStatus.from_request_at(
        transform,
        app_version=context.config.app_version,
        base_url=here.base_url,
        host=here.host,
        is_secured=here.is_secured,
    )


@router.delete("/{ref}")
async def delete_request(ref: str, context: Context, caller: Caller) -> Message:
    """Deletes a finished request and its results."""
    await deleting.delete(context.services, caller, ref)
    return Message(message=f"transformation request {ref} was deleted")


@router.get("/{ref}/cancel")
async def cancel_request(ref: str, context: Context, caller: Caller) -> Message:
    """Cancels an unfinished request; results so far stay."""
    transform = await cancelling.cancel(context.services, caller, ref)
    return Message(message=f"transformation request {transform.id} was canceled")


@router.post("/{ref}/retry")
async def retry_request(ref: str, context: Context, caller: Caller) -> Message:
    """Tries the failed files of a finished request again, under the same id; its results so far stay."""
    transform = await retry(context.services, caller, ref)
    n_files = transform.counts.remaining
    return Message(message=f"transformation request {transform.id} runs again for {n_files} files")


@router.get("/{ref}/results", response_model=FileOutcomes)
async def list_results(
    ref: str, context: Context, caller: Caller, later_than: Annotated[str | None, Query()] = None
) -> Response:
    """Outcomes of files recorded later than a time, or a little before: none is ever left out."""
    since = _hint(later_than)
    results = await read.list_results(context.services, caller, ref, later_than=since)
    outcomes = FileOutcomes(results=[FileOutcome.from_result(result) for result in results])
    return Response(outcomes.model_dump_json(by_alias=True), media_type="application/json")


@router.get("/{ref}/status", response_model=Progress | DetailedProgress)
async def get_progress(
    ref: str, request: Request, context: Context, caller: Caller, details: str | None = None
) -> Progress:
    """Counters and totals; with `details`, the outcome, cut flow and times of every file too."""
    transform = await read.get_request(context.services, caller, ref)
    transform = await hold(request, context.services, transform, context.config.hold_s)
    progress = Progress.from_request(transform, await read.statistics(context.services, caller, ref))
    if details is None or details.lower() in {"0", "false", "no"}:
        return progress
    results = await read.list_results(context.services, caller, ref, with_tally=True)
    return DetailedProgress.from_results(progress, results)


@router.get("/{ref}/errors")
async def list_errors(ref: str, context: Context, caller: Caller) -> FileErrors:
    """Why files of the request failed."""
    transform = await read.get_request(context.services, caller, ref)
    failures = await read.list_results(context.services, caller, ref, status=FileStatus.FAILURE)
    return FileErrors.from_failures(transform, failures)


@router.get("/{ref}/deployment-status")
async def get_deployment(ref: str, context: Context, caller: Caller) -> Message:
    """Always 404: requests have no deployment of their own."""
    transform = await read.get_request(context.services, caller, ref)
    message = f"transformation request {transform.id} has no deployment; this server's own workers run it"
    raise NotFound(message)


def _hint(later_than: str | None) -> datetime | None:
    """The time after which the caller wants results, as an aware one; None for all of them."""
    if not later_than:
        return None
    try:
        # A `+` that was not percent-encoded arrives as a blank.
        moment = datetime.fromisoformat(later_than.strip().replace(" ", "+"))
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        return None
    except ValueError as error:
        message = f"later_than {later_than!r} is not a time such as 2026-01-31T12:00:00.000000+00:00"
        raise InvalidRequest(message) from error
