"""Queries on the outcomes of files and on failed attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    text,
)

from servicex_server.db.dialect import insert_bulk, is_one_of
from servicex_server.db.orm import AttemptRow, FileResultRow, RequestRow
from servicex_server.db.shared import drop_names
from servicex_server.model.bucket import BucketObject
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import FileStatus
from servicex_server.model.replica import ReplicaDocument
from servicex_server.model.request import FileResult
from servicex_server.model.shared import is_shared
from servicex_server.model.tally import TallyDocument, from_document

Work = tuple[FileId, int]
"""A work unit inside a request: file and first entry."""

# The rows themselves are not read: one index has all of them, a small one the failures.
_COUNT = select(
    select(func.count(FileResultRow.entry_start))
    .where(FileResultRow.request_number == bindparam("number"))
    .scalar_subquery(),
    select(func.count())
    .select_from(FileResultRow)
    .where(FileResultRow.request_number == bindparam("number"), text("status = 'failure'"))
    .scalar_subquery(),
)

_IS_VISIBLE = and_(RequestRow.id == bindparam("id"), RequestRow.deleted_at.is_(None))
_NUMBER = select(RequestRow.number).where(_IS_VISIBLE)
_OBJECTS = select(
    FileResultRow.object_name,
    FileResultRow.size_bytes,
    FileResultRow.etag,
    FileResultRow.modified,
    FileResultRow.store_key,
)
_OBJECT = _OBJECTS.join(RequestRow, RequestRow.number == FileResultRow.request_number).where(
    _IS_VISIBLE, FileResultRow.object_name == bindparam("key")
)

_LAST_CHARACTER = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class NewResult:
    """An outcome that is about to be stored."""

    request_number: int
    file_id: FileId
    entry_start: int
    path: str
    status: FileStatus
    object_name: str | None
    store_key: str | None
    etag: str | None
    modified: datetime | None
    size_bytes: int
    n_events_in: int
    n_events_out: int
    bytes_read: int
    seconds: float
    attempts: int
    reason: str | None
    created_at: datetime
    tally: TallyDocument | None = None
    is_cached: bool = False
    replicas: ReplicaDocument | None = None


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """A failed attempt that is about to be stored."""

    request_number: int
    file_id: FileId
    entry_start: int
    attempt: int
    reason: str
    message: str
    seconds: float
    created: datetime
    replicas: ReplicaDocument | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """What the rows of a request add up to."""

    completed: int
    failed: int
    min_seconds: float | None
    max_seconds: float | None
    total_seconds: float
    total_bytes: int
    total_events: int
    cached: int = 0


def find_outcomes(
    connection: Connection, number: int, file_ids: Collection[FileId]
) -> dict[Work, str | None]:
    """Those of the files that have an outcome, with the key of the counted object."""
    rows = connection.execute(_outcomes(connection.dialect.name), {"number": number, "ids": list(file_ids)})
    return {(FileId(row.file_id), row.entry_start): row.store_key for row in rows}


def find_attempts(
    connection: Connection, number: int, file_ids: Collection[FileId]
) -> set[tuple[FileId, int, int]]:
    """(file, first entry, attempt) of every failed attempt at the files."""
    rows = connection.execute(_attempts(connection.dialect.name), {"number": number, "ids": list(file_ids)})
    return {(FileId(row.file_id), row.entry_start, row.attempt) for row in rows}


def find_object_names(connection: Connection, number: int, names: Collection[str]) -> set[str]:
    """Those of the names that a result of the request has already."""
    rows = connection.execute(_names(connection.dialect.name), {"number": number, "names": list(names)})
    return {name for name in rows.scalars() if name is not None}


# Building a statement costs more than running it, so these are built once.


@cache
def _outcomes(dialect: str) -> Select[int, int, str | None]:
    return select(FileResultRow.file_id, FileResultRow.entry_start, FileResultRow.store_key).where(
        FileResultRow.request_number == bindparam("number"), is_one_of(dialect, FileResultRow.file_id, "ids")
    )


@cache
def _attempts(dialect: str) -> Select[int, int, int]:
    return select(AttemptRow.file_id, AttemptRow.entry_start, AttemptRow.attempt).where(
        AttemptRow.request_number == bindparam("number"), is_one_of(dialect, AttemptRow.file_id, "ids")
    )


@cache
def _names(dialect: str) -> Select[str | None]:
    return select(FileResultRow.object_name).where(
        FileResultRow.request_number == bindparam("number"),
        is_one_of(dialect, FileResultRow.object_name, "names"),
    )


def insert_results(connection: Connection, new: Sequence[NewResult]) -> None:
    """Stores outcomes that the locked request does not have yet.

    Raises:
        RuntimeError: one was there already, so that counters made from `new` would be wrong.
    """
    stored = insert_bulk(connection, FileResultRow, [_as_row(row) for row in new], skip_known=True)
    if stored != len(new):
        message = f"{len(new)} outcomes were to be stored, {stored} were new"
        raise RuntimeError(message)


def insert_attempts(connection: Connection, new: Sequence[NewAttempt]) -> None:
    """Stores failed attempts; one that is known already stays as it is."""
    insert_bulk(connection, AttemptRow, [_as_row(row) for row in new], skip_known=True)


def _as_row(new: NewResult | NewAttempt) -> dict[str, object]:
    # Not `asdict`, which copies documents deeply and takes most of the time of a batch.
    return {name: getattr(new, name) for name in new.__dataclass_fields__}


def delete_failures(connection: Connection, number: int) -> None:
    """Forgets failed files and all failed attempts, so that a retry starts counting anew."""
    connection.execute(
        delete(FileResultRow).where(
            FileResultRow.request_number == number, FileResultRow.status == FileStatus.FAILURE.value
        )
    )
    connection.execute(delete(AttemptRow).where(AttemptRow.request_number == number))


def delete_some(connection: Connection, number: int, limit: int, now: datetime) -> int:
    """Removes at most `limit` outcomes and attempts each; returns how many went.

    Shared objects that only they named are doomed.
    """
    # In the order of an index, because nothing else keeps PostgreSQL from reading the whole table.
    own = select(FileResultRow.number).where(FileResultRow.request_number == number)
    some = own.order_by(FileResultRow.created_at).limit(limit)
    change = delete(FileResultRow).where(FileResultRow.number.in_(some)).returning(FileResultRow.store_key)
    keys = connection.execute(change).scalars().all()
    drop_names(connection, Counter(key for key in keys if key is not None and is_shared(key)), now)
    attempts = select(AttemptRow.number).where(AttemptRow.request_number == number)
    some = attempts.order_by(AttemptRow.file_id).limit(limit)
    return len(keys) + connection.execute(delete(AttemptRow).where(AttemptRow.number.in_(some))).rowcount


def list_results(
    connection: Connection,
    request_id: RequestId,
    number: int,
    *,
    since: datetime | None,
    status: FileStatus | None,
    offset: int,
    limit: int | None,
    with_tally: bool = False,
) -> list[FileResult]:
    """Outcomes in the order they were recorded, from `since` on."""
    wanted: list[ColumnElement[bool]] = [FileResultRow.request_number == number]
    if since is not None:
        wanted.append(FileResultRow.created_at >= since)
    if status is not None:
        # In words, not as a parameter: else the index of failures is not considered.
        wanted.append(FileResultRow.status == literal_column(f"'{status.value}'"))
    if offset:
        # Skipped in the index alone. No two results of a request share a time, so it tells the first.
        times = select(FileResultRow.created_at).where(*wanted).order_by(FileResultRow.created_at)
        wanted.append(FileResultRow.created_at >= times.offset(offset).limit(1).scalar_subquery())
    unread = {"replicas"} if with_tally else {"replicas", "tally"}
    columns = (column for column in FileResultRow.__table__.c if column.key not in unread)
    query = select(*columns).where(*wanted).order_by(FileResultRow.created_at).limit(limit)
    return [to_result(request_id, row, with_tally=with_tally) for row in connection.execute(query)]


def count_results(connection: Connection, number: int) -> Totals:
    """What the request's rows add up to; reads all of them, so it is for audits only."""
    rows = connection.execute(
        select(
            FileResultRow.status,
            func.count().label("n"),
            func.min(FileResultRow.seconds).label("least"),
            func.max(FileResultRow.seconds).label("most"),
            func.sum(FileResultRow.seconds).label("seconds"),
            func.sum(FileResultRow.size_bytes).label("size"),
            func.sum(FileResultRow.n_events_in).label("events"),
            func.count().filter(FileResultRow.is_cached).label("cached"),
        )
        .where(FileResultRow.request_number == number)
        .group_by(FileResultRow.status)
    )
    by_status = {row.status: row for row in rows}
    failure = by_status.get(FileStatus.FAILURE.value)
    failed = int(failure.n) if failure is not None else 0
    good = by_status.get(FileStatus.SUCCESS.value)
    if good is None:
        return Totals(0, failed, None, None, 0.0, 0, 0)
    return Totals(
        completed=int(good.n),
        failed=failed,
        min_seconds=good.least,
        max_seconds=good.most,
        total_seconds=float(good.seconds),
        total_bytes=int(good.size),
        total_events=int(good.events),
        cached=int(good.cached),
    )


def count_outcomes(connection: Connection, number: int) -> tuple[int, int]:
    """Delivered and failed files of the request, from the rows."""
    whole, failed = connection.execute(_COUNT, {"number": number}).one()
    return whole - failed, failed


def find_object(connection: Connection, request_id: RequestId, key: str) -> BucketObject | None:
    """The delivered object of that name."""
    row = connection.execute(_OBJECT, {"id": request_id, "key": key}).one_or_none()
    return None if row is None else _to_object(row)


def find_store_keys(connection: Connection, request_id: RequestId, names: Collection[str]) -> dict[str, str]:
    """Where in the store the delivered objects of these names are, unless the request is deleted."""
    rows = connection.execute(
        select(FileResultRow.object_name, FileResultRow.store_key)
        .join(RequestRow, RequestRow.number == FileResultRow.request_number)
        .where(
            RequestRow.id == request_id,
            RequestRow.deleted_at.is_(None),
            FileResultRow.object_name.in_(names),
        )
    )
    return {row.object_name: row.store_key for row in rows if row.store_key is not None}


def list_objects(
    connection: Connection, request_id: RequestId, *, prefix: str, after: str | None, limit: int
) -> list[BucketObject]:
    """Delivered objects by the bytes of their names."""
    number = connection.execute(_NUMBER, {"id": request_id}).scalar_one_or_none()
    if number is None:
        return []
    query = (
        _OBJECTS.where(FileResultRow.request_number == number)
        .order_by(FileResultRow.object_name)
        .limit(limit)
    )
    if prefix:
        # A range instead of LIKE, which folds case in SQLite.
        query = query.where(FileResultRow.object_name <= prefix + _LAST_CHARACTER)
    # One lower bound: of two, SQLite would search by the first and test each row for the second.
    if after is not None and after.encode() >= prefix.encode():
        query = query.where(FileResultRow.object_name > after)
    else:
        query = query.where(FileResultRow.object_name >= prefix)
    return [_to_object(row) for row in connection.execute(query) if row.object_name.startswith(prefix)]


def _to_object(row: Row[str | None, int, str | None, datetime | None, str | None]) -> BucketObject:
    return BucketObject(
        key=row.object_name,
        size_bytes=row.size_bytes,
        etag=row.etag,
        modified=row.modified,
        store_key=row.store_key,
    )


def to_result(request_id: RequestId, row: Row[tuple[object, ...]], *, with_tally: bool) -> FileResult:
    """The outcome in a row of all columns, or of all but the tally."""
    return FileResult(
        number=row.number,
        request_id=request_id,
        file_id=FileId(row.file_id),
        path=row.path,
        status=FileStatus(row.status),
        object_name=row.object_name,
        store_key=row.store_key,
        size_bytes=row.size_bytes,
        n_events_in=row.n_events_in,
        n_events_out=row.n_events_out,
        bytes_read=row.bytes_read,
        seconds=row.seconds,
        attempts=row.attempts,
        reason=row.reason,
        created_at=row.created_at,
        tally=from_document(row.tally) if with_tally and row.tally is not None else None,
        is_cached=row.is_cached,
    )
