"""Queries that turn unfinished requests into work units."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, func, select

from servicex_server.db.orm import AttemptRow, DatasetFileRow, FileResultRow, RequestRow
from servicex_server.model.compression import Compression, parse_compression
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import RequestState, ResultFormat


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every file of a request."""

    id: RequestId
    number: int
    dataset_id: DatasetId
    state: RequestState
    is_preflight_pending: bool
    active_since: datetime
    codegen: str
    selection: str
    tree_name: str | None
    result_format: ResultFormat
    compression: Compression | None
    owner: str
    uses_cache: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file without an outcome; `attempt` is the number of the next one."""

    file_id: FileId
    position: int
    paths: tuple[str, ...]
    attempt: int
    adler32: str | None = None


def find_question(connection: Connection, request_id: RequestId) -> Question | None:
    """What the request asks of its files, unless it is deleted."""
    row = connection.execute(
        select(
            RequestRow.number,
            RequestRow.dataset_id,
            RequestRow.state,
            RequestRow.is_preflight_pending,
            RequestRow.active_since,
            RequestRow.codegen,
            RequestRow.selection,
            RequestRow.tree_name,
            RequestRow.result_format,
            RequestRow.compression,
            RequestRow.owner,
            RequestRow.uses_cache,
        ).where(RequestRow.id == request_id, RequestRow.deleted_at.is_(None))
    ).one_or_none()
    if row is None:
        return None
    result_format = ResultFormat(row.result_format)
    return Question(
        id=request_id,
        number=row.number,
        dataset_id=DatasetId(row.dataset_id),
        state=RequestState(row.state),
        is_preflight_pending=row.is_preflight_pending,
        active_since=row.active_since,
        codegen=row.codegen,
        selection=row.selection,
        tree_name=row.tree_name,
        result_format=result_format,
        compression=parse_compression(row.compression, result_format) if row.compression else None,
        owner=row.owner,
        uses_cache=row.uses_cache,
    )


def list_waiting(
    connection: Connection,
    question: Question,
    *,
    after: int = -1,
    only: Collection[FileId] | None = None,
    limit: int,
) -> list[Waiting]:
    """Files without an outcome in order, from the one after position `after` on (or `only` some)."""
    query = (
        select(DatasetFileRow.id, DatasetFileRow.position, DatasetFileRow.paths, DatasetFileRow.adler32)
        .outerjoin(
            FileResultRow,
            and_(
                FileResultRow.request_number == question.number,
                FileResultRow.file_id == DatasetFileRow.id,
                FileResultRow.entry_start == 0,
            ),
        )
        .where(
            DatasetFileRow.dataset_id == question.dataset_id,
            DatasetFileRow.position > after,
            FileResultRow.number.is_(None),
        )
        .order_by(DatasetFileRow.position)
        .limit(limit)
    )
    if only is not None:
        query = query.where(DatasetFileRow.id.in_(only))
    rows = connection.execute(query).all()
    last = _last_attempts(connection, question.number, [row.id for row in rows])
    return [
        Waiting(FileId(row.id), row.position, tuple(row.paths), last.get(row.id, 0) + 1, row.adler32)
        for row in rows
    ]


def find_files(
    connection: Connection, dataset_id: DatasetId, file_ids: Collection[FileId]
) -> dict[FileId, tuple[int, tuple[str, ...]]]:
    """Position and replicas of those of the files that belong to the data set."""
    rows = connection.execute(
        select(DatasetFileRow.id, DatasetFileRow.position, DatasetFileRow.paths).where(
            DatasetFileRow.dataset_id == dataset_id, DatasetFileRow.id.in_(file_ids)
        )
    )
    return {FileId(row.id): (row.position, tuple(row.paths)) for row in rows}


def _last_attempts(connection: Connection, number: int, file_ids: Collection[int]) -> dict[int, int]:
    if not file_ids:
        return {}
    rows = connection.execute(
        select(AttemptRow.file_id, func.max(AttemptRow.attempt).label("last"))
        .where(AttemptRow.request_number == number, AttemptRow.file_id.in_(file_ids))
        .group_by(AttemptRow.file_id)
    )
    return {row.file_id: row.last for row in rows}
