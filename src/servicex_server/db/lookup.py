"""Queries on look-ups: data sets whose files a finder tells, in batches, while requests wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, String, cast, collate, func, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import ColumnElement

from servicex_server.db.dataset import insert_files, mark_stale
from servicex_server.db.dialect import insert_once
from servicex_server.db.orm import DatasetFileRow, DatasetRow, RequestRow
from servicex_server.errors import DatabaseUnavailable
from servicex_server.model.did import Did, FoundFile, Freshness
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import LookupStatus, RequestState

OPEN = (LookupStatus.CREATED, LookupStatus.LOOKING)
_OPEN_VALUES = [status.value for status in OPEN]
_WAITING_STATES = [RequestState.LOOKUP.value, RequestState.PENDING_LOOKUP.value]
_RACES = 5
_DIGESTS_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Used:
    """The data set of a new request.

    Attributes:
        is_new: nobody has looked it up yet.
        n_files: how many there are, once it is complete.
    """

    dataset_id: DatasetId
    status: LookupStatus
    n_files: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class LockedLookup:
    """A data set as this transaction alone may change it."""

    id: DatasetId
    name: str
    did_finder: str
    status: LookupStatus
    n_files: int
    n_received: int
    n_announced: int | None
    last_batch: str | None
    last_updated: datetime

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class OpenLookup:
    """A look-up that has not ended."""

    id: DatasetId
    name: str
    did_finder: str
    status: LookupStatus
    n_received: int
    n_announced: int | None
    last_updated: datetime


def use_dataset(connection: Connection, did: Did, *, now: datetime, oldest: datetime) -> Used:
    """The data set that a request for `did` works on, made if there is none that will do.

    Args:
        oldest: what was completed before that time is looked up anew.
    """
    if did.freshness is Freshness.BYPASS:
        made = _insert(connection, did, now, is_stale=True)
        assert made is not None  # noqa: S101  stale names are not unique
        return Used(made, LookupStatus.CREATED, 0, is_new=True)
    for _ in range(_RACES):
        found = _find_usable(connection, did, oldest)
        if found is not None:
            _touch(connection, found.dataset_id, now)
            return found
        made = _insert(connection, did, now, is_stale=False)
        if made is None:
            continue  # somebody else made it just now
        if did.limit is not None and did.freshness is Freshness.CACHED:
            whole = _find_usable(connection, did.whole, oldest)
            if whole is not None and whole.status is LookupStatus.COMPLETE:
                return _take_first(connection, made, whole.dataset_id, did.limit)
        return Used(made, LookupStatus.CREATED, 0, is_new=True)
    message = f"the data set {did.text} comes and goes; try again"
    raise DatabaseUnavailable(message)


def _find_usable(connection: Connection, did: Did, oldest: datetime) -> Used | None:
    """The fresh data set of that name, locked; one that is too old goes stale."""
    row = connection.execute(
        select(DatasetRow.id, DatasetRow.lookup_status, DatasetRow.n_files, DatasetRow.last_updated)
        .where(DatasetRow.name == did.text, DatasetRow.is_stale.is_(False))
        # Against a look-up that ends: it must see the request that joins it here.
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    status = LookupStatus(row.lookup_status)
    is_outdated = row.last_updated < oldest or did.freshness is Freshness.REFRESH
    if status not in {*OPEN, LookupStatus.COMPLETE} or (status is LookupStatus.COMPLETE and is_outdated):
        mark_stale(connection, DatasetId(row.id))
        return None
    return Used(DatasetId(row.id), status, row.n_files, is_new=False)


def _insert(connection: Connection, did: Did, now: datetime, *, is_stale: bool) -> DatasetId | None:
    made = connection.execute(
        insert_once(connection, DatasetRow, returning="id"),
        {
            "name": did.text,
            "did_finder": did.scheme,
            "n_files": 0,
            "size_bytes": 0,
            "n_events": 0,
            "last_used": now,
            "last_updated": now,
            "lookup_status": LookupStatus.CREATED.value,
            "is_stale": is_stale,
            "n_received": 0,
        },
    ).scalar_one_or_none()
    return None if made is None else DatasetId(made)


def _take_first(connection: Connection, dataset_id: DatasetId, whole_id: DatasetId, limit: int) -> Used:
    """Makes the first files, by name, of a data set that is known into one of their own."""
    files = DatasetFileRow
    first = connection.execute(
        select(files.paths, files.adler32, files.size_bytes, files.n_events, files.digest)
        .where(files.dataset_id == whole_id)
        .order_by(_first_path(connection), files.position)
        .limit(limit)
    ).all()
    taken = [FoundFile(tuple(row.paths), row.adler32, row.size_bytes, row.n_events) for row in first]
    insert_files(connection, dataset_id, taken, digests=[file.digest for file in taken])
    # It is as old as what it was made of.
    whole = select(DatasetRow.last_updated).where(DatasetRow.id == whole_id).scalar_subquery()
    connection.execute(
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id)
        .values(
            n_files=len(taken),
            n_received=len(taken),
            size_bytes=sum(file.size_bytes for file in taken),
            n_events=sum(file.n_events for file in taken),
            lookup_status=LookupStatus.COMPLETE.value,
            last_updated=whole,
        )
    )
    return Used(dataset_id, LookupStatus.COMPLETE, len(taken), is_new=True)


def _first_path(connection: Connection) -> ColumnElement[str]:
    """The order in which finders' own limits take files: by their paths, byte by byte."""
    if connection.dialect.name == "postgresql":
        first: ColumnElement[str] = cast(DatasetFileRow.paths, postgresql.JSONB)[0].astext
        return collate(first, "C")
    return cast(func.json_extract(DatasetFileRow.paths, "$[0]"), String)


def _touch(connection: Connection, dataset_id: DatasetId, now: datetime) -> None:
    connection.execute(update(DatasetRow).where(DatasetRow.id == dataset_id).values(last_used=now))


def lock_lookup(connection: Connection, dataset_id: DatasetId) -> LockedLookup | None:
    """The data set, locked until the transaction ends, before any of its requests is."""
    row = connection.execute(
        select(
            DatasetRow.id,
            DatasetRow.name,
            DatasetRow.did_finder,
            DatasetRow.lookup_status,
            DatasetRow.n_files,
            DatasetRow.n_received,
            DatasetRow.n_announced,
            DatasetRow.last_batch,
            DatasetRow.last_updated,
        )
        .where(DatasetRow.id == dataset_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    if row is None:
        return None
    return LockedLookup(
        id=DatasetId(row.id),
        name=row.name,
        did_finder=row.did_finder,
        status=LookupStatus(row.lookup_status),
        n_files=row.n_files,
        n_received=row.n_received,
        n_announced=row.n_announced,
        last_batch=row.last_batch,
        last_updated=row.last_updated,
    )


def insert_found(
    connection: Connection,
    locked: LockedLookup,
    files: Sequence[FoundFile],
    *,
    batch: str | None,
    now: datetime,
) -> int:
    """Stores those of the files that the data set does not have; returns how many that are."""
    new = {file.digest: file for file in reversed(files)}
    for known in _find_known(connection, locked, list(new)):
        del new[known]
    ordered = [(digest, file) for digest, file in reversed(new.items())]
    insert_files(
        connection,
        locked.id,
        [file for _, file in ordered],
        first_position=locked.n_files,
        digests=[digest for digest, _ in ordered],
    )
    connection.execute(
        update(DatasetRow)
        .where(DatasetRow.id == locked.id)
        .values(
            n_files=DatasetRow.n_files + len(ordered),
            n_received=DatasetRow.n_received + len(files),
            size_bytes=DatasetRow.size_bytes + sum(file.size_bytes for _, file in ordered),
            n_events=DatasetRow.n_events + sum(file.n_events for _, file in ordered),
            lookup_status=LookupStatus.LOOKING.value,
            last_batch=batch,
            last_updated=now,
        )
    )
    return len(ordered)


def _find_known(connection: Connection, locked: LockedLookup, digests: Sequence[str]) -> list[str]:
    if not locked.n_files:
        return []
    known: list[str] = []
    for start in range(0, len(digests), _DIGESTS_AT_ONCE):
        some = digests[start : start + _DIGESTS_AT_ONCE]
        query = select(DatasetFileRow.digest).where(
            DatasetFileRow.dataset_id == locked.id, DatasetFileRow.digest.in_(some)
        )
        known += [digest for digest in connection.execute(query).scalars() if digest is not None]
    return known


def mark_looking(connection: Connection, dataset_id: DatasetId, now: datetime) -> None:
    """A finder was asked; files and the end may be there already."""
    connection.execute(
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id, DatasetRow.lookup_status == LookupStatus.CREATED.value)
        .values(lookup_status=LookupStatus.LOOKING.value, last_updated=now)
    )


def announce(connection: Connection, dataset_id: DatasetId, n_files: int, now: datetime) -> None:
    """The finder says to have sent so many files, some of which are still on their way."""
    connection.execute(
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id)
        .values(n_announced=n_files, lookup_status=LookupStatus.LOOKING.value, last_updated=now)
    )


def end_lookup(
    connection: Connection,
    dataset_id: DatasetId,
    status: LookupStatus,
    now: datetime,
    failure: str | None = None,
) -> None:
    """The look-up has ended; one that failed is no answer to later requests."""
    values: dict[str, object] = {"lookup_status": status.value, "last_updated": now, "failure": failure}
    if status is not LookupStatus.COMPLETE:
        values["is_stale"] = True
    connection.execute(update(DatasetRow).where(DatasetRow.id == dataset_id).values(**values))


def list_followers(connection: Connection, dataset_id: DatasetId) -> list[RequestId]:
    """Requests that wait for the look-up, in the order in which they are to be locked."""
    rows = connection.execute(
        select(RequestRow.id)
        .where(
            RequestRow.dataset_id == dataset_id,
            RequestRow.state.in_(_WAITING_STATES),
            RequestRow.deleted_at.is_(None),
        )
        .order_by(RequestRow.id)
    )
    return [RequestId(id_) for id_ in rows.scalars()]


def list_open(
    connection: Connection, *, limit: int, heard_before: datetime | None = None
) -> list[OpenLookup]:
    """Look-ups that have not ended (and were silent since that time), those first that were not begun."""
    query = (
        select(
            DatasetRow.id,
            DatasetRow.name,
            DatasetRow.did_finder,
            DatasetRow.lookup_status,
            DatasetRow.n_received,
            DatasetRow.n_announced,
            DatasetRow.last_updated,
        )
        .where(DatasetRow.lookup_status.in_(_OPEN_VALUES))
        .order_by(DatasetRow.lookup_status, DatasetRow.last_updated, DatasetRow.id)
        .limit(limit)
    )
    if heard_before is not None:
        query = query.where(DatasetRow.last_updated < heard_before)
    return [
        OpenLookup(
            id=DatasetId(row.id),
            name=row.name,
            did_finder=row.did_finder,
            status=LookupStatus(row.lookup_status),
            n_received=row.n_received,
            n_announced=row.n_announced,
            last_updated=row.last_updated,
        )
        for row in connection.execute(query)
    ]


def list_left_behind(connection: Connection) -> list[DatasetId]:
    """Data sets whose look-up has ended while a request still waits for that."""
    rows = connection.execute(
        select(RequestRow.dataset_id)
        .join(DatasetRow, DatasetRow.id == RequestRow.dataset_id)
        .where(
            RequestRow.finish_time.is_(None),
            RequestRow.deleted_at.is_(None),
            RequestRow.state.in_(_WAITING_STATES),
            DatasetRow.lookup_status.not_in(_OPEN_VALUES),
        )
        .distinct()
    )
    return [DatasetId(id_) for id_ in rows.scalars()]


def find_failure(connection: Connection, dataset_id: DatasetId) -> str | None:
    """Why the look-up failed."""
    return connection.execute(
        select(DatasetRow.failure).where(DatasetRow.id == dataset_id)
    ).scalar_one_or_none()
