"""Queries for the record of a request, file by file."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, select

from servicex_server.db.orm import AttemptRow, DatasetFileRow, FileResultRow, RequestRow
from servicex_server.model import replica
from servicex_server.model.ids import DatasetId
from servicex_server.model.kinds import FileStatus
from servicex_server.model.replica import ReplicaAttempt
from servicex_server.model.tally import Tally, from_document


@dataclass(frozen=True, slots=True)
class TracedAttempt:
    """A failed attempt as stored."""

    entry_start: int
    attempt: int
    reason: str
    message: str
    seconds: float
    created: datetime
    replicas: tuple[ReplicaAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class TracedResult:
    """An outcome as stored."""

    entry_start: int
    path: str
    status: FileStatus
    reason: str | None
    n_events_in: int
    n_events_out: int
    bytes_read: int
    seconds: float
    attempts: int
    object_name: str | None
    size_bytes: int
    etag: str | None
    modified: datetime | None
    created_at: datetime
    tally: Tally | None
    is_cached: bool = False
    replicas: tuple[ReplicaAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class TracedFile:
    """A file of a request, its outcomes (one per range of entries) and failed attempts."""

    id: int
    position: int
    paths: tuple[str, ...]
    adler32: str | None
    size_bytes: int
    n_events: int
    results: tuple[TracedResult, ...]
    attempts: tuple[TracedAttempt, ...]


def find_title(connection: Connection, number: int) -> str | None:
    """The request's title as it was given."""
    return connection.execute(select(RequestRow.title).where(RequestRow.number == number)).scalar()


def list_traces(
    connection: Connection, number: int, dataset_id: DatasetId, *, after: int, limit: int
) -> list[TracedFile]:
    """The files after that position in order, with all that is stored of them in this request."""
    files = connection.execute(
        select(*DatasetFileRow.__table__.c)
        .where(DatasetFileRow.dataset_id == dataset_id, DatasetFileRow.position > after)
        .order_by(DatasetFileRow.position)
        .limit(limit)
    ).all()
    ids = [file.id for file in files]
    results: dict[int, list[TracedResult]] = {file_id: [] for file_id in ids}
    for row in connection.execute(
        select(*FileResultRow.__table__.c)
        .where(FileResultRow.request_number == number, FileResultRow.file_id.in_(ids))
        .order_by(FileResultRow.entry_start)
    ):
        results[row.file_id].append(_to_result(row))
    attempts: dict[int, list[TracedAttempt]] = {file_id: [] for file_id in ids}
    for row in connection.execute(
        select(*AttemptRow.__table__.c)
        .where(AttemptRow.request_number == number, AttemptRow.file_id.in_(ids))
        .order_by(AttemptRow.entry_start, AttemptRow.attempt)
    ):
        attempts[row.file_id].append(_to_attempt(row))
    return [
        TracedFile(
            id=file.id,
            position=file.position,
            paths=tuple(file.paths),
            adler32=file.adler32,
            size_bytes=file.size_bytes,
            n_events=file.n_events,
            results=tuple(results[file.id]),
            attempts=tuple(attempts[file.id]),
        )
        for file in files
    ]


def _to_attempt(row: Row[tuple[object, ...]]) -> TracedAttempt:
    return TracedAttempt(
        row.entry_start,
        row.attempt,
        row.reason,
        row.message,
        row.seconds,
        row.created,
        replica.from_document(row.replicas),
    )


def _to_result(row: Row[tuple[object, ...]]) -> TracedResult:
    return TracedResult(
        entry_start=row.entry_start,
        path=row.path,
        status=FileStatus(row.status),
        reason=row.reason,
        n_events_in=row.n_events_in,
        n_events_out=row.n_events_out,
        bytes_read=row.bytes_read,
        seconds=row.seconds,
        attempts=row.attempts,
        object_name=row.object_name,
        size_bytes=row.size_bytes,
        etag=row.etag,
        modified=row.modified,
        created_at=row.created_at,
        tally=from_document(row.tally) if row.tally is not None else None,
        is_cached=row.is_cached,
        replicas=replica.from_document(row.replicas),
    )
