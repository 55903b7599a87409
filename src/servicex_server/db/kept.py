"""Queries on what requests keep in the store: their sizes, by age."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Row, func, or_, select, update

from servicex_server.db.orm import RequestRow
from servicex_server.db.request import find_inputs
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState


@dataclass(frozen=True, slots=True)
class Kept:
    """What one request keeps; `finish_time` is None while it runs."""

    id: RequestId
    title: str | None
    owner: str
    state: RequestState
    files: int
    size_bytes: int
    submit_time: datetime
    finish_time: datetime | None


@dataclass(frozen=True, slots=True)
class Totals:
    """What all requests keep together."""

    requests: int
    files: int
    size_bytes: int


_COLUMNS = RequestRow.__table__.c
_KEPT = select(
    *(
        _COLUMNS[name]
        for name in (
            *("id", "title", "owner", "state", "completed", "total_bytes"),
            *("submit_time", "finish_time"),
        )
    )
).where(_COLUMNS.deleted_at.is_(None))


def sum_kept(connection: Connection) -> Totals:
    """Over all requests that are not deleted."""
    row = connection.execute(
        select(
            func.count().label("requests"),
            func.coalesce(func.sum(RequestRow.completed), 0).label("files"),
            func.coalesce(func.sum(RequestRow.total_bytes), 0).label("size"),
        ).where(RequestRow.deleted_at.is_(None))
    ).one()
    return Totals(int(row.requests), int(row.files), int(row.size))


def sum_deleted(connection: Connection) -> int:
    """Bytes of requests that are deleted and wait to be removed."""
    total = select(func.coalesce(func.sum(RequestRow.total_bytes), 0))
    return int(connection.execute(total.where(RequestRow.deleted_at.is_not(None))).scalar_one())


def list_largest(connection: Connection, limit: int) -> list[Kept]:
    """Requests that keep most, largest first."""
    query = _KEPT.order_by(RequestRow.total_bytes.desc(), RequestRow.number).limit(limit)
    return [_to_kept(row) for row in connection.execute(query)]


def list_ended(connection: Connection, limit: int, *, before: datetime | None = None) -> list[Kept]:
    """Requests that have ended, in the order in which they did: those that keep something, and older ones."""
    goes = RequestRow.total_bytes > 0
    if before is not None:
        goes = or_(goes, RequestRow.finish_time < before)
    query = (
        _KEPT.where(RequestRow.finish_time.is_not(None), goes)
        .order_by(RequestRow.finish_time, RequestRow.number)
        .limit(limit)
    )
    return [_to_kept(row) for row in connection.execute(query)]


def hide_ended(connection: Connection, request_id: RequestId, finish_time: datetime, now: datetime) -> bool:
    """Marks the request as deleted if it still is as it was seen, not running again nor input of another.

    Returns:
        Whether it was.
    """
    # A submit that names it as input holds it until it is stored itself.
    held = select(RequestRow.number).where(RequestRow.id == request_id).with_for_update()
    connection.execute(held)
    if request_id in find_inputs(connection):
        return False
    change = (
        update(RequestRow)
        .where(
            RequestRow.id == request_id,
            RequestRow.finish_time == finish_time,
            RequestRow.deleted_at.is_(None),
        )
        .values(deleted_at=now)
    )
    return connection.execute(change).rowcount == 1


def _to_kept(row: Row[tuple[object, ...]]) -> Kept:
    return Kept(
        id=RequestId(row.id),
        title=row.title,
        owner=row.owner,
        state=RequestState(row.state),
        files=row.completed,
        size_bytes=row.total_bytes,
        submit_time=row.submit_time,
        finish_time=row.finish_time,
    )
