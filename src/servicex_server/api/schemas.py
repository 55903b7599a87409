"""The wire names and shapes of the public API's answers; the only place in `api` that knows them.

Names mix hyphens and underscores because the official server's do. Client 3.3.1 aborts a delivery when a key
is missing or null that these models declare as present and not null.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from servicex_server.api.text import to_message
from servicex_server.model.kinds import FileStatus, RequestState, ResultDestination, ResultFormat
from servicex_server.model.naming import show_location
from servicex_server.model.request import (
    Dataset,
    DatasetFile,
    FileResult,
    Statistics,
    TransformRequest,
)
from servicex_server.model.tally import NO_TALLY, add_up, to_document

CAPABILITIES = ("poll_local_transformation_results", "long_sample_titles_10240")
_TITLE_CHARACTERS = 12_000
_EVENTS = "Entries read, before any selection; of a python query the rows that it returned."
_CACHED = "Delivered files whose result is that of an earlier request."
_GAVE_UP = frozenset({RequestState.CANCELED, RequestState.BAD_DATASET})


def wire_time(moment: datetime) -> str:
    """A time as the official server writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def naive_time(moment: datetime) -> str:
    """A UTC time without offset, always with microseconds: what the client reads back on every Python."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


class Message(BaseModel):
    """A text for the user; every error has this shape."""

    message: str


class AccessToken(BaseModel):
    """A short-lived token."""

    access_token: str


class Info(BaseModel):
    """What this server is and offers."""

    app_version: str = Field(serialization_alias="app-version")
    code_gen_image: dict[str, str] = Field(
        serialization_alias="code-gen-image", description="Code generators by name, and what each one is."
    )
    capabilities: list[str]


class Submitted(BaseModel):
    """The id of a new request."""

    request_id: str


class ListedRequest(BaseModel):
    """A transform request as the list shows it."""

    request_id: str
    did: str
    did_id: int
    title: str | None
    selection: str
    tree_name: str | None = Field(serialization_alias="tree-name")
    image: str
    workers: int
    result_destination: ResultDestination = Field(serialization_alias="result-destination")
    result_format: ResultFormat = Field(serialization_alias="result-format")
    generated_code_cm: str = Field(serialization_alias="generated-code-cm")
    status: RequestState
    failure_info: str | None = Field(serialization_alias="failure-info")
    app_version: str = Field(serialization_alias="app-version")
    code_gen_image: str = Field(serialization_alias="code-gen-image")
    files: int
    files_completed: int = Field(serialization_alias="files-completed")
    files_failed: int = Field(serialization_alias="files-failed")
    files_remaining: int | None = Field(serialization_alias="files-remaining")
    files_cached: int = Field(serialization_alias="files-cached", description=_CACHED)
    submit_time: str = Field(serialization_alias="submit-time")
    finish_time: str = Field(serialization_alias="finish-time", description='"None" while it runs.')
    log_url: str = Field(serialization_alias="log-url")

    @classmethod
    def from_request(cls, request: TransformRequest, *, app_version: str, base_url: str) -> Self:
        return cls.model_validate(_listed(request, app_version=app_version, base_url=base_url))


class RequestStatus(ListedRequest):
    """A transform request with the key pair that opens its results."""

    minio_endpoint: str = Field(serialization_alias="minio-endpoint")
    minio_secured: bool = Field(serialization_alias="minio-secured")
    minio_access_key: str = Field(serialization_alias="minio-access-key")
    minio_secret_key: str = Field(serialization_alias="minio-secret-key")

    @classmethod
    def from_request_at(
        cls, request: TransformRequest, *, app_version: str, base_url: str, host: str, is_secured: bool
    ) -> Self:
        """The status of a request whose results are read at `host`."""
        listed = _listed(request, app_version=app_version, base_url=base_url)
        listed["minio_endpoint"] = host
        listed["minio_secured"] = is_secured
        listed["minio_access_key"] = request.access_key
        listed["minio_secret_key"] = request.secret_key
        return cls.model_validate(listed)


def _listed(request: TransformRequest, *, app_version: str, base_url: str) -> dict[str, object]:
    counts = request.counts
    return {
        "request_id": request.id,
        "did": request.did,
        "did_id": request.dataset_id,
        "title": to_message(request.title, _TITLE_CHARACTERS) if request.title is not None else None,
        "selection": request.selection,
        "tree_name": request.tree_name,
        # A request has no container and no workers of its own here; the client insists on both.
        "image": f"servicex-server:{app_version}",
        "workers": 1,
        "result_destination": request.result_destination,
        "result_format": request.result_format,
        "generated_code_cm": "",
        "status": request.state,
        "failure_info": to_message(request.failure_info) if request.failure_info is not None else None,
        "app_version": app_version,
        "code_gen_image": request.codegen,
        "files": counts.files,
        "files_completed": counts.completed,
        "files_failed": counts.failed,
        "files_remaining": counts.remaining if counts.files else None,
        "files_cached": request.cached,
        "submit_time": wire_time(request.submit_time),
        "finish_time": wire_time(request.finish_time) if request.finish_time is not None else "None",
        # The client puts its own query in the place of `&_g=()`; the page ignores it.
        "log_url": f"{base_url}/transformation-request/{request.id}/results?status=failure&_g=()",
    }


class RequestList(BaseModel):
    """Requests, oldest first."""

    requests: list[ListedRequest]


class FileOutcome(BaseModel):
    """How one file of a request ended."""

    id: int
    request_id: str = Field(serialization_alias="request-id")
    file_id: int = Field(serialization_alias="file-id")
    file_path: str = Field(serialization_alias="file-path")
    s3_object_name: str | None = Field(serialization_alias="s3-object-name")
    transform_status: FileStatus
    transform_time: float
    total_events: int = Field(serialization_alias="total-events", description=_EVENTS)
    total_bytes: int = Field(serialization_alias="total-bytes")
    avg_rate: float = Field(serialization_alias="avg-rate")
    created_at: str
    reason: str | None
    events_out: int = Field(serialization_alias="events-out")
    bytes_read: int = Field(serialization_alias="bytes-read")
    cached: bool = Field(description="The result is that of an earlier request.")

    @classmethod
    def from_result(cls, result: FileResult) -> Self:
        return cls(
            id=result.number,
            request_id=result.request_id,
            file_id=result.file_id,
            file_path=result.path,
            s3_object_name=result.object_name,
            transform_status=result.status,
            transform_time=result.seconds,
            total_events=result.n_events_in,
            total_bytes=result.size_bytes,
            avg_rate=result.n_events_in / result.seconds if result.seconds > 0 else 0.0,
            created_at=naive_time(result.created_at),
            reason=to_message(result.reason) if result.reason is not None else None,
            events_out=result.n_events_out,
            bytes_read=result.bytes_read,
            cached=result.is_cached,
        )


class CutRows(BaseModel):
    """Rows that pass one cut and all before it, in the making of one table."""

    table: str
    cut: str
    rows: int


class WeightSums(BaseModel):
    """Sums of a branch of weights; null for what is no finite number."""

    table: str
    branch: str
    before: float | None
    after: float | None


class Counted(BaseModel):
    """What is counted and timed beyond the outcome, of one file or of several."""

    bytes_decompressed: int = Field(serialization_alias="bytes-decompressed")
    seconds: dict[str, float] = Field(
        serialization_alias="seconds-by-stage", description="Threads are added up."
    )
    cut_flow: list[CutRows] = Field(serialization_alias="cut-flow")
    sums_of_weights: list[WeightSums] = Field(
        serialization_alias="sums-of-weights",
        description="Of each table and branch: over all rows read, and over those that pass the selection.",
    )


class DetailedOutcome(FileOutcome, Counted):
    """How one file of a request ended, with all that was counted."""

    @classmethod
    def from_result(cls, result: FileResult) -> Self:
        outcome = dict(FileOutcome.from_result(result))
        return cls.model_validate(outcome | to_document(result.tally or NO_TALLY))


class FileOutcomes(BaseModel):
    """Outcomes in the order they were recorded."""

    results: list[FileOutcome]


class Totals(BaseModel):
    """Totals over the delivered files."""

    min_time: float = Field(serialization_alias="min-time")
    max_time: float = Field(serialization_alias="max-time")
    avg_time: float = Field(serialization_alias="avg-time")
    total_time: float = Field(serialization_alias="total-time")
    avg_rate: float = Field(serialization_alias="avg-rate")
    total_bytes: int = Field(serialization_alias="total-bytes")
    total_events: int = Field(serialization_alias="total-events", description=_EVENTS)

    @classmethod
    def from_statistics(cls, statistics: Statistics) -> Self:
        return cls(
            min_time=statistics.min_s,
            max_time=statistics.max_s,
            avg_time=statistics.avg_s,
            total_time=statistics.total_s,
            avg_rate=statistics.events_per_s,
            total_bytes=statistics.total_bytes,
            total_events=statistics.total_events,
        )


class Progress(BaseModel):
    """The short status that clients of the 2.x line poll. `processed` and `skipped` are their old names."""

    status: RequestState
    request_id: str = Field(serialization_alias="request-id")
    submit_time: str = Field(serialization_alias="submit-time")
    finish_time: str = Field(serialization_alias="finish-time")
    files_completed: int = Field(serialization_alias="files-completed")
    files_processed: int = Field(serialization_alias="files-processed")
    files_failed: int = Field(serialization_alias="files-failed")
    files_skipped: int = Field(serialization_alias="files-skipped")
    files_remaining: int | None = Field(serialization_alias="files-remaining")
    files_cached: int = Field(serialization_alias="files-cached", description=_CACHED)
    stats: Totals | None

    @classmethod
    def from_request(cls, request: TransformRequest, statistics: Statistics | None) -> Self:
        """These clients poll until nothing remains, knowing no other end than that and Fatal.

        So nothing remains of an ended request, and what a canceled one (or one whose look-up failed) did
        not deliver counts as skipped: at least one, so that the client asks for the errors and shows them.
        """
        counts = request.counts
        remaining = counts.remaining if counts.files else None
        skipped = counts.failed
        if request.state in _GAVE_UP:
            skipped = max(1, counts.files - counts.completed)
        return cls(
            status=request.state,
            request_id=request.id,
            submit_time=wire_time(request.submit_time),
            finish_time=wire_time(request.finish_time) if request.finish_time is not None else "None",
            files_completed=counts.completed,
            files_processed=counts.completed,
            files_failed=counts.failed,
            files_skipped=skipped,
            files_remaining=0 if request.state.is_terminal else remaining,
            files_cached=request.cached,
            stats=Totals.from_statistics(statistics) if statistics is not None else None,
        )


class DetailedProgress(Progress, Counted):
    """The short status with the outcome of every file, and what is counted of all of them together."""

    details: list[DetailedOutcome]

    @classmethod
    def from_results(cls, progress: Progress, results: list[FileResult]) -> Self:
        totals = to_document(add_up([result.tally for result in results if result.tally is not None]))
        details = [DetailedOutcome.from_result(result) for result in results]
        return cls.model_validate({**dict(progress), **totals, "details": details})


class FileError(BaseModel):
    """Why one file failed."""

    pod_name: str = Field(serialization_alias="pod-name")
    file: str
    events: int
    info: str


class FileErrors(BaseModel):
    """Why files failed."""

    errors: list[FileError]

    @classmethod
    def from_failures(cls, request: TransformRequest, failures: list[FileResult]) -> Self:
        """One entry per failed file, after one for the request itself if it ended with a reason."""
        errors = [
            FileError(
                pod_name="",
                file=failure.path,
                events=failure.n_events_in,
                info=to_message(failure.reason or ""),
            )
            for failure in failures
        ]
        if request.state in _GAVE_UP or request.failure_info:
            text = to_message(request.failure_info or f"the request ended as {request.state.value}")
            errors.insert(0, FileError(pod_name="", file=request.did, events=0, info=text))
        return cls(errors=errors)


class DatasetSummary(BaseModel):
    """A data set that the server knows."""

    id: int
    name: str
    did_finder: str
    n_files: int
    size: int
    events: int
    last_used: str
    last_updated: str
    lookup_status: str
    is_stale: bool

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        return cls.model_validate(_summary(dataset))


def _summary(dataset: Dataset) -> dict[str, object]:
    return {
        "id": dataset.id,
        "name": dataset.name,
        "did_finder": dataset.did_finder,
        "n_files": dataset.n_files,
        "size": dataset.size_bytes,
        "events": dataset.n_events,
        "last_used": wire_time(dataset.last_used),
        "last_updated": wire_time(dataset.last_updated),
        "lookup_status": dataset.lookup_status.value,
        "is_stale": dataset.is_stale,
    }


class DatasetList(BaseModel):
    """Data sets, oldest first."""

    datasets: list[DatasetSummary]


class FileSummary(BaseModel):
    """One file of a data set, with its replicas joined by commas.

    Data sets are everybody's, so credentials in the URLs, which are their submitter's, are left out.
    """

    id: int
    adler32: str | None
    file_size: int
    file_events: int
    paths: str

    @classmethod
    def from_file(cls, file: DatasetFile) -> Self:
        return cls(
            id=file.id,
            adler32=file.adler32,
            file_size=file.size_bytes,
            file_events=file.n_events,
            paths=",".join(map(show_location, file.paths)),
        )


class DatasetDetails(DatasetSummary):
    """A data set with its files."""

    files: list[FileSummary]

    @classmethod
    def from_files(cls, dataset: Dataset, files: list[DatasetFile]) -> Self:
        return cls.model_validate(
            {**_summary(dataset), "files": [FileSummary.from_file(file) for file in files]}
        )


class DatasetDeleted(BaseModel):
    """The data set is marked stale."""

    dataset_id: int = Field(serialization_alias="dataset-id")
    stale: Literal[True] = True
