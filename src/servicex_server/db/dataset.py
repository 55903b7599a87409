"""Queries on data sets and their files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from servicex_server.db.dialect import insert_new
from servicex_server.db.orm import DatasetFileRow, DatasetRow, RequestRow
from servicex_server.model.ids import DatasetId, FileId
from servicex_server.model.kinds import LookupStatus
from servicex_server.model.request import Dataset, DatasetFile

# Building a statement costs more than running it, so those of every submit are built once.
_FRESH = select(DatasetRow.id, DatasetRow.n_files).where(
    DatasetRow.name == bindparam("name"), DatasetRow.is_stale.is_(False)
)
_TOUCH = update(DatasetRow).where(DatasetRow.id == bindparam("used_id"))
_ADD_FILES = insert(DatasetFileRow)


FILE_LIST = "user"
"""What stands for a finder where the user gave the files themselves."""


def use_file_list(
    connection: Connection, *, name: str, paths: Sequence[str], now: datetime
) -> tuple[DatasetId, int]:
    """The fresh data set of that name, made of these files if there is none, and marked as used now.

    Returns:
        Its id, and how many files it has.
    """
    made = connection.execute(
        insert_new(connection, DatasetRow),
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
        },
    ).rowcount
    dataset_id, n_files = connection.execute(_FRESH, {"name": name}).one()
    if not made:
        connection.execute(_TOUCH, {"used_id": dataset_id, "last_used": now})
    else:
        connection.execute(
            _ADD_FILES,
            [
                {
                    "dataset_id": dataset_id,
                    "position": position,
                    "paths": [path],
                    "adler32": "xxx",  # what the official server says of a file list
                    "size_bytes": 0,
                    "n_events": 0,
                }
                for position, path in enumerate(paths)
            ],
        )
    return DatasetId(dataset_id), n_files


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


def delete_unused(connection: Connection, dataset_id: DatasetId) -> bool:
    """Whether this was a file list that no request uses any more, and is gone now.

    What a finder has found stays: it answers the next look-up.
    """
    is_used = select(RequestRow.number).where(RequestRow.dataset_id == DatasetRow.id).exists()
    gone = connection.execute(
        delete(DatasetRow).where(DatasetRow.id == dataset_id, DatasetRow.did_finder == FILE_LIST, ~is_used)
    )
    return gone.rowcount > 0


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
