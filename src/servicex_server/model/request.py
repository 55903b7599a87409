"""A transform request, its dataset, and the results of its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from servicex_server.model.compression import Compression
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import (
    FileStatus,
    LookupStatus,
    RequestState,
    ResultDestination,
    ResultFormat,
)
from servicex_server.model.tally import Tally


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. With access control off everybody is `ANYONE`."""

    name: str
    is_admin: bool = False


ANYONE = Principal(name="anyone", is_admin=True)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a client asks for, validated in shape but not yet planned.

    Exactly one of `did` and `files` is given; the api checks that. `uses_cache` lets results of earlier
    requests be taken, where the server keeps such.
    """

    selection: str
    codegen: str
    result_format: ResultFormat = ResultFormat.PARQUET
    result_destination: ResultDestination = ResultDestination.OBJECT_STORE
    did: str | None = None
    files: tuple[str, ...] | None = None
    title: str | None = None
    tree_name: str | None = None
    compression: Compression | None = None
    uses_cache: bool = True


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files a request knows of, and how they ended."""

    files: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def remaining(self) -> int:
        return self.files - self.completed - self.failed


@dataclass(frozen=True, slots=True)
class TransformRequest:
    """One request as stored.

    Attributes:
        number: the database's integer key; official clients may name a request by it.
        did: DID with scheme, or the SHA-256 hex digest of a file list.
        access_key, secret_key: the S3 key pair that opens this request's bucket only.
        submit_time, finish_time: UTC, timezone-aware.
        compression: of the results, as in `zstd:3`; None for the format's default.
        uses_cache: whether results of earlier requests may be taken.
        cached: delivered files whose result an earlier request had.
    """

    id: RequestId
    number: int
    owner: str
    title: str | None
    did: str
    dataset_id: DatasetId
    selection: str
    codegen: str
    tree_name: str | None
    result_format: ResultFormat
    result_destination: ResultDestination
    state: RequestState
    failure_info: str | None
    counts: FileCounts
    submit_time: datetime
    finish_time: datetime | None
    access_key: str
    secret_key: str
    compression: str | None = None
    uses_cache: bool = False
    cached: int = 0

    @property
    def knows_events_read(self) -> bool:
        """Whether entries read are counted: the code of a python query reads its file by itself.

        For such a query rows returned stand for them, since the wire has an integer there.
        """
        return knows_events_read(self.codegen)


def knows_events_read(codegen: str) -> bool:
    """Whether entries read are counted in queries of this language."""
    return codegen != "python"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named set of files, or one file list."""

    id: DatasetId
    name: str
    did_finder: str
    n_files: int
    size_bytes: int
    n_events: int
    last_used: datetime
    last_updated: datetime
    lookup_status: LookupStatus
    is_stale: bool


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """One file of a dataset with its replicas in order of preference."""

    id: FileId
    dataset_id: DatasetId
    paths: tuple[str, ...]
    adler32: str | None
    size_bytes: int
    n_events: int


@dataclass(frozen=True, slots=True)
class FileResult:
    """How one file of one request ended: one row, unique on (request, file, entry range).

    Attributes:
        number: the row's integer key.
        object_name: key inside the request's bucket; None for a failure.
        store_key: key inside the store; None for a failure.
        reason: text for the user; None for a success.
        created_at: UTC, timezone-aware, never decreasing within a request.
        tally: what was counted and timed; None for a failure, and unless it was asked for.
        is_cached: the object was made for an earlier request.
    """

    number: int
    request_id: RequestId
    file_id: FileId
    path: str
    status: FileStatus
    object_name: str | None
    store_key: str | None
    size_bytes: int
    n_events_in: int
    n_events_out: int
    bytes_read: int
    seconds: float
    attempts: int
    reason: str | None
    created_at: datetime
    tally: Tally | None = None
    is_cached: bool = False


@dataclass(frozen=True, slots=True)
class Statistics:
    """Totals over the delivered files of a request.

    Attributes:
        min_s, max_s, avg_s, total_s: wall time of a file's counted attempt.
        total_bytes: size of the result objects.
        total_events: entries read, before any selection; of a python query the rows that it returned.
        events_per_s: entries read per second of attempt time.
    """

    min_s: float
    max_s: float
    avg_s: float
    total_s: float
    total_bytes: int
    total_events: int
    events_per_s: float
