"""The one place that stores a request's lifecycle: lock, step, update."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from servicex_server.db import dataset as datasets
from servicex_server.db import result as results
from servicex_server.db.orm import RequestRow
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import RequestState, ResultFormat
from servicex_server.model.lifecycle import (
    ClearFinish,
    Effect,
    EnterState,
    Event,
    ForgetFailures,
    Lifecycle,
    MarkDatasetStale,
    SetFailure,
    SetFinishTime,
    step,
)
from servicex_server.model.markup import without_markup
from servicex_server.model.progress import end_of
from servicex_server.model.request import FileCounts

# Building a statement costs more than running it, so these are built once.
_COLUMNS = RequestRow.__table__.c
_LOCK = (
    select(
        _COLUMNS.id,
        _COLUMNS.number,
        _COLUMNS.owner,
        _COLUMNS.dataset_id,
        _COLUMNS.result_format,
        _COLUMNS.renamed,
        _COLUMNS.state,
        _COLUMNS.files,
        _COLUMNS.completed,
        _COLUMNS.failed,
        _COLUMNS.is_fileset_complete,
        _COLUMNS.is_preflight_pending,
        _COLUMNS.submit_time,
        _COLUMNS.finish_time,
        _COLUMNS.last_result_at,
        _COLUMNS.min_seconds,
        _COLUMNS.max_seconds,
        _COLUMNS.total_seconds,
        _COLUMNS.total_bytes,
        _COLUMNS.total_events,
        _COLUMNS.cached,
    )
    .where(_COLUMNS.id == bindparam("id"), _COLUMNS.deleted_at.is_(None))
    .with_for_update()
)
_STORE = update(RequestRow).where(_COLUMNS.number == bindparam("locked_number"))


@dataclass(frozen=True, slots=True)
class LockedRequest:
    """A request as this transaction alone may change it.

    Attributes:
        last_time: the latest time given to a result, or else that of the submit.
    """

    id: RequestId
    number: int
    owner: str
    dataset_id: DatasetId
    result_format: ResultFormat
    renamed: Mapping[str, str]
    life: Lifecycle
    finish_time: datetime | None
    last_time: datetime
    min_seconds: float | None
    max_seconds: float | None
    total_seconds: float
    total_bytes: int
    total_events: int
    cached: int


def lock_request(connection: Connection, request_id: RequestId) -> LockedRequest | None:
    """The request, locked until the transaction ends (SQLite has one writer anyway); None if it is gone."""
    row = connection.execute(_LOCK, {"id": request_id}).one_or_none()
    if row is None:
        return None
    return LockedRequest(
        id=RequestId(row.id),
        number=row.number,
        owner=row.owner,
        dataset_id=DatasetId(row.dataset_id),
        result_format=ResultFormat(row.result_format),
        renamed=row.renamed,
        life=Lifecycle(
            state=RequestState(row.state),
            counts=FileCounts(row.files, row.completed, row.failed),
            is_fileset_complete=row.is_fileset_complete,
            is_preflight_pending=row.is_preflight_pending,
        ),
        finish_time=row.finish_time,
        last_time=row.last_result_at or row.submit_time,
        min_seconds=row.min_seconds,
        max_seconds=row.max_seconds,
        total_seconds=row.total_seconds,
        total_bytes=row.total_bytes,
        total_events=row.total_events,
        cached=row.cached,
    )


def advance(
    connection: Connection,
    locked: LockedRequest,
    event: Event,
    now: datetime,
    totals: Mapping[str, object] | None = None,
) -> tuple[Effect, ...]:
    """Steps the request and stores what came of it, with `totals` of its results if they changed.

    Returns:
        All effects; those that concern the database are done, the others are for after the commit.
    """
    life, effects = step(locked.life, event)
    values: dict[str, Any] = dict(totals or {})
    if life != locked.life:
        values.update(
            state=life.state.value,
            files=life.counts.files,
            completed=life.counts.completed,
            failed=life.counts.failed,
            is_fileset_complete=life.is_fileset_complete,
            is_preflight_pending=life.is_preflight_pending,
        )
    for effect in effects:
        match effect:
            case SetFinishTime():
                values["finish_time"] = now
            case SetFailure():
                values["failure_info"] = without_markup(effect.reason)
            case ClearFinish():
                values.update(finish_time=None, failure_info=None, active_since=now)
                # Further results are later than the end that is no more, whatever the clock says now:
                # whoever has followed the request so far goes on from there.
                values["last_result_at"] = end_of(locked.finish_time, locked.last_time)
            case ForgetFailures():
                results.delete_failures(connection, locked.number)
            case MarkDatasetStale():
                datasets.mark_stale(connection, locked.dataset_id)
            case _:
                pass
    if values:
        connection.execute(_STORE, {"locked_number": locked.number, **values})
    if life.state is not locked.life.state:
        effects = (*effects, EnterState(event.cause, life.state))
    return effects


def transition(
    connection: Connection, request_id: RequestId, event: Event, now: datetime
) -> tuple[Effect, ...] | None:
    """`lock_request` and `advance` in one; None if the request is gone."""
    locked = lock_request(connection, request_id)
    return None if locked is None else advance(connection, locked, event, now)
