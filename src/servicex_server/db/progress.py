"""Queries that tell how a request goes, cheap enough for every second."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from servicex_server.db.orm import FileResultRow, RequestRow
from servicex_server.db.result import to_result
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState
from servicex_server.model.progress import (
    EventId,
    Look,
    Sample,
    Standing,
    end_of,
    to_moment,
)
from servicex_server.model.request import FileCounts, knows_events_read

_RECENT_AT_MOST = 20_000

# Building a statement costs more than running it, so those of every look are built once.
_COLUMNS = RequestRow.__table__.c
_STANDING = select(
    _COLUMNS.number,
    _COLUMNS.codegen,
    _COLUMNS.state,
    _COLUMNS.files,
    _COLUMNS.completed,
    _COLUMNS.failed,
    _COLUMNS.is_fileset_complete,
    _COLUMNS.failure_info,
    _COLUMNS.submit_time,
    _COLUMNS.active_since,
    _COLUMNS.finish_time,
    _COLUMNS.last_result_at,
    _COLUMNS.total_bytes,
    _COLUMNS.total_events,
).where(_COLUMNS.id == bindparam("id"), _COLUMNS.deleted_at.is_(None))
_RESULTS = FileResultRow.__table__.c
_AFTER = (
    select(*(column for column in _RESULTS if column.key != "tally"))
    .where(_RESULTS.request_number == bindparam("number"), _RESULTS.created_at > bindparam("after"))
    .order_by(_RESULTS.created_at)
    .limit(bindparam("most"))
)
_AFTER_IN_TIME = _AFTER.where(_RESULTS.created_at < bindparam("before"))
_SAMPLES = (
    select(_RESULTS.created_at, _RESULTS.bytes_read, _RESULTS.n_events_in)
    .where(
        _RESULTS.request_number == bindparam("number"),
        _RESULTS.created_at > bindparam("after"),
        _RESULTS.created_at <= bindparam("until"),
    )
    .order_by(_RESULTS.created_at.desc())
    .limit(_RECENT_AT_MOST)
)


def find_standing(connection: Connection, request_id: RequestId) -> Standing | None:
    """Where the request stands, unless it is deleted."""
    row = connection.execute(_STANDING, {"id": request_id}).one_or_none()
    if row is None:
        return None
    return Standing(
        number=row.number,
        state=RequestState(row.state),
        counts=FileCounts(row.files, row.completed, row.failed),
        is_fileset_complete=row.is_fileset_complete,
        failure_info=row.failure_info,
        submit_time=row.submit_time,
        active_since=row.active_since,
        finish_time=row.finish_time,
        last_time=row.last_result_at or row.submit_time,
        total_bytes=row.total_bytes,
        total_events=row.total_events if knows_events_read(row.codegen) else None,
    )


def look(connection: Connection, request_id: RequestId, after: EventId, most: int) -> Look | None:
    """Where the request stands, and at most so many outcomes after that event; None if it is deleted.

    The request's row is read first: what it says has ended is in the rows that are read then. In between
    it may be retried, hence the bound.
    """
    standing = find_standing(connection, request_id)
    if standing is None:
        return None
    values: dict[str, object] = {"number": standing.number, "after": to_moment(after), "most": most}
    query = _AFTER
    end = end_of(standing.finish_time, standing.last_time)
    if end is not None:
        query, values["before"] = _AFTER_IN_TIME, end
    rows = connection.execute(query, values).all()
    results = [to_result(request_id, row, with_tally=False) for row in rows]
    return Look(standing, results, has_more=len(results) == most)


def list_samples(connection: Connection, number: int, after: datetime, until: datetime) -> list[Sample]:
    """What the files of that time add to rates, in order."""
    rows = connection.execute(_SAMPLES, {"number": number, "after": after, "until": until}).all()
    return [Sample(row.created_at, row.bytes_read, row.n_events_in) for row in reversed(rows)]
