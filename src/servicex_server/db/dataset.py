"""Queries on data sets and their files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import repeat

from sqlalchemy import Connection, Row, bindparam, delete, or_, select, update

from servicex_server.db.dialect import insert_bulk, insert_once
from servicex_server.db.orm import DatasetFileRow, DatasetRow, RequestRow
from servicex_server.errors import DatabaseUnavailable
from servicex_server.model.did import FoundFile
from servicex_server.model.ids import DatasetId, FileId
from servicex_server.model.kinds import LookupStatus
from servicex_server.model.request import Dataset, DatasetFile

# Building a statement costs more than running it, so those of every submit are built once.
_FRESH = (
    select(DatasetRow.id, DatasetRow.n_files, DatasetRow.last_used)
    .where(DatasetRow.name == bindparam("name"), DatasetRow.is_stale.is_(False))
    # Many may use it at once, but who deletes it waits, and makes us look again.
    .with_for_update(read=True, key_share=True)
)
_TOUCH = update(DatasetRow).where(DatasetRow.id == bindparam("used_id"))
_TOUCHED = timedelta(seconds=1)
"""How exactly the time of the last use is kept: a list that everybody submits must not be a queue."""
_RACES = 5


FILE_LIST = "user"
"""What stands for a finder where the user gave the files themselves."""


def use_file_list(
    connection: Connection, *, name: str, paths: Sequence[str], now: datetime
) -> tuple[DatasetId, int]:
    """The fresh data set of that name, made of these files if there is none, and marked as used now.

    Returns:
        Its id, and how many files it has.
    """
    for _ in range(_RACES):
        row = connection.execute(_FRESH, {"name": name}).one_or_none()
        if row is not None:
            if row.last_used < now - _TOUCHED:
                connection.execute(_TOUCH, {"used_id": row.id, "last_used": now})
            return DatasetId(row.id), row.n_files
        made = connection.execute(
            insert_once(connection, DatasetRow, returning="id"),
            {
                "name": name,
                "did_finder": FILE_LIST,
                "n_files": len(paths),
                "size_bytes": 0,
                "n_events": 0,
                "last_used": now,
                "last_updated": now,
                "lookup_status": LookupStatus.COMPLETE.value,
                "is_stale": False,
                "n_received": len(paths),
            },
        ).scalar_one_or_none()
        if made is not None:
            dataset_id = DatasetId(made)
            # What the official server says of the checksums of a file list.
            insert_files(connection, dataset_id, [FoundFile((path,), adler32="xxx") for path in paths])
            return dataset_id, len(paths)
        # Somebody else made it just now (or made it, and removed it again).
    message = f"the file list {name} comes and goes; try again"
    raise DatabaseUnavailable(message)


def insert_files(
    connection: Connection,
    dataset_id: DatasetId,
    files: Sequence[FoundFile],
    *,
    first_position: int = 0,
    digests: Sequence[str] | None = None,
) -> None:
    """Appends files to the data set, from that position on.

    Args:
        digests: of each file, where the data set must not have two of one.
    """
    digests_or_none: Iterable[str | None] = repeat(None, len(files)) if digests is None else digests
    rows = [
        {
            "dataset_id": dataset_id,
            "position": position,
            "paths": file.paths,
            "adler32": file.adler32,
            "size_bytes": file.size_bytes,
            "n_events": file.n_events,
            "digest": digest,
        }
        for position, (file, digest) in enumerate(
            zip(files, digests_or_none, strict=True), start=first_position
        )
    ]
    if rows:
        insert_bulk(connection, DatasetFileRow, rows)


def list_datasets(connection: Connection, *, did_finder: str | None, with_stale: bool) -> list[Dataset]:
    """Data sets in the order they were made."""
    query = select(*DatasetRow.__table__.c).order_by(DatasetRow.id)
    if did_finder is not None:
        query = query.where(DatasetRow.did_finder == did_finder)
    if not with_stale:
        query = query.where(DatasetRow.is_stale.is_(False))
    return [_to_dataset(row) for row in connection.execute(query)]


def find_dataset(connection: Connection, dataset_id: DatasetId) -> Dataset | None:
    """The data set, stale or not."""
    row = connection.execute(select(*DatasetRow.__table__.c).where(DatasetRow.id == dataset_id)).one_or_none()
    return None if row is None else _to_dataset(row)


def list_files(
    connection: Connection, dataset_id: DatasetId, *, limit: int | None = None
) -> list[DatasetFile]:
    """The data set's files in order."""
    query = (
        select(*DatasetFileRow.__table__.c)
        .where(DatasetFileRow.dataset_id == dataset_id)
        .order_by(DatasetFileRow.position)
        .limit(limit)
    )
    return [
        DatasetFile(
            id=FileId(row.id),
            dataset_id=DatasetId(row.dataset_id),
            paths=tuple(row.paths),
            adler32=row.adler32,
            size_bytes=row.size_bytes,
            n_events=row.n_events,
        )
        for row in connection.execute(query)
    ]


def is_used_by(connection: Connection, dataset_id: DatasetId, owner: str) -> bool:
    """Whether a request of this user is about the data set."""
    requests = select(RequestRow.number).where(RequestRow.dataset_id == dataset_id, RequestRow.owner == owner)
    return connection.execute(requests.limit(1)).first() is not None


def mark_stale(connection: Connection, dataset_id: DatasetId) -> bool:
    """Whether the data set was fresh until now."""
    changed = connection.execute(
        update(DatasetRow)
        .where(DatasetRow.id == dataset_id, DatasetRow.is_stale.is_(False))
        .values(is_stale=True)
    )
    return changed.rowcount > 0


def delete_some_files(connection: Connection, number: int, limit: int) -> int:
    """Removes some files of the request's file list, or outdated look-up, unless others use it.

    Returns:
        How many went.

    From then on no submit takes the list for the same one. The request itself stays, so that a later call
    goes on where this one ended.
    """
    dataset_id = connection.execute(
        select(RequestRow.dataset_id).where(RequestRow.number == number)
    ).scalar_one_or_none()
    if dataset_id is None or not _lock_unused(connection, dataset_id, besides=number):
        return 0
    mark_stale(connection, DatasetId(dataset_id))
    some = select(DatasetFileRow.id).where(DatasetFileRow.dataset_id == dataset_id).limit(limit)
    return connection.execute(delete(DatasetFileRow).where(DatasetFileRow.id.in_(some))).rowcount


def delete_unused(connection: Connection, dataset_id: DatasetId) -> bool:
    """Whether no request uses this file list, or outdated look-up, any more, and it is gone now.

    What a finder has found of late stays: it answers the next look-up.
    """
    if not _lock_unused(connection, dataset_id):
        return False
    connection.execute(delete(DatasetRow).where(DatasetRow.id == dataset_id))
    return True


def _lock_unused(connection: Connection, dataset_id: int, *, besides: int = -1) -> bool:
    """Whether it goes with its requests, has none but `besides`, and gets none until the transaction ends."""
    lock = (
        select(DatasetRow.id)
        .where(
            DatasetRow.id == dataset_id,
            or_(DatasetRow.did_finder == FILE_LIST, DatasetRow.is_stale.is_(True)),
        )
        .with_for_update()
    )
    if connection.execute(lock).one_or_none() is None:
        return False
    # By a statement of its own: only that one sees the request of a submit that we had to wait for.
    others = select(RequestRow.number).where(
        RequestRow.dataset_id == dataset_id, RequestRow.number != besides
    )
    return connection.execute(others.limit(1)).first() is None


def _to_dataset(row: Row[tuple[object, ...]]) -> Dataset:
    return Dataset(
        id=DatasetId(row.id),
        name=row.name,
        did_finder=row.did_finder,
        n_files=row.n_files,
        size_bytes=row.size_bytes,
        n_events=row.n_events,
        last_used=row.last_used,
        last_updated=row.last_updated,
        lookup_status=LookupStatus(row.lookup_status),
        is_stale=row.is_stale,
    )
