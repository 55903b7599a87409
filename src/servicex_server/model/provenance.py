"""Where the results of a request come from: the layout of the record that is given out.

`docs/provenance.md` says what each field means, for those who read the record; its schema is made of these
classes. Fields are added, never changed: what changes its meaning gets another `format`.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT = "servicex.provenance/1"


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The request as it was made, and what became of it."""

    id: str
    title: str | None
    data_set: str
    result_format: str
    compression: str | None
    state: str
    reason: str | None
    submit_time: str
    active_since: str
    finish_time: str | None


@dataclass(frozen=True, slots=True)
class QueryRecord:
    """What was asked, as text and as the plan it became."""

    code_generator: str
    selection: str
    tree_name: str | None
    plan: str | None
    plan_sha256: str | None


@dataclass(frozen=True, slots=True)
class CountsRecord:
    """Files, entries and bytes, all together."""

    files: int
    delivered: int
    failed: int
    entries_before: int | None
    bytes_written: int


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """What happened at a replica; the outcome is `read`, or says why it was left."""

    location: str
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """An attempt at a file that failed."""

    attempt: int
    reason: str
    message: str
    seconds: float
    time: str
    replicas_tried: list[ReplicaRecord]


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """A result object."""

    key: str
    size_bytes: int
    etag: str | None
    modified: str | None


@dataclass(frozen=True, slots=True)
class CutRecord:
    """Rows of a table that pass a cut and all before it."""

    table: str
    cut: str
    rows: int


@dataclass(frozen=True, slots=True)
class WeightRecord:
    """Sums of a branch of weights; null for what is no finite number."""

    table: str
    branch: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One input file and what became of it."""

    position: int
    file_id: int
    replicas: list[str]
    replica_used: str | None
    size_bytes: int | None
    adler32: str | None
    n_events: int | None
    entry_start: int
    outcome: str | None
    reason: str | None
    cache_hit: bool
    entries_before: int | None
    entries_after: int | None
    bytes_read: int | None
    seconds: float | None
    attempts: int
    replicas_tried: list[ReplicaRecord]
    failed_attempts: list[AttemptRecord]
    cut_flow: list[CutRecord]
    sums_of_weights: list[WeightRecord]
    object: ObjectRecord | None
    time: str | None


@dataclass(frozen=True, slots=True)
class TotalsRecord:
    """Cut flows and sums of weights of all files added up, as far as they are bounded."""

    cut_flow: list[CutRecord]
    sums_of_weights: list[WeightRecord]
    is_whole: bool


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """What the record says before it comes to files."""

    format: str
    written: str
    request: RequestRecord
    query: QueryRecord
    versions: dict[str, str]
    counts: CountsRecord


@dataclass(frozen=True, slots=True)
class Provenance(HeadRecord):
    """The whole record of a request."""

    files: list[FileRecord]
    totals: TotalsRecord
