"""Queries on requests."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from sqlalchemy import (
    Connection,
    Executable,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    select,
    union_all,
    update,
)

from servicex_server.db.dataset import delete_unused
from servicex_server.db.dialect import insert_once, is_one_of
from servicex_server.db.orm import RequestRow
from servicex_server.model.bucket import BucketKey
from servicex_server.model.earlier import request_of
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import RequestState, ResultDestination, ResultFormat
from servicex_server.model.lifecycle import Lifecycle
from servicex_server.model.request import FileCounts, Statistics, TransformRequest

_TITLE_REASON_CHARACTERS = 500
_LISTED_CHARACTERS = 2**26
"""Selections of one list in memory, all together."""
_LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request that is about to be stored.

    Attributes:
        renamed: object names of files whose plain name an earlier file has, by position.
    """

    id: RequestId
    owner: str
    title: str | None
    did: str
    selection: str
    codegen: str
    tree_name: str | None
    result_format: ResultFormat
    result_destination: ResultDestination
    access_key: str
    secret_key: str
    submit_time: datetime
    renamed: dict[int, str]
    compression: str | None = None
    uses_cache: bool = False


@dataclass(frozen=True, slots=True)
class Active:
    """What the dispatcher needs to know of a request that has not ended."""

    id: RequestId
    state: RequestState
    is_preflight_pending: bool
    active_since: datetime
    n_files: int


@dataclass(frozen=True, slots=True)
class Late:
    """A request that has not ended in its time."""

    id: RequestId
    counts: FileCounts


# Building a statement costs more than running it, so the hot ones are built once.
_COLUMNS = RequestRow.__table__.c
_VISIBLE = select(*_COLUMNS).where(_COLUMNS.deleted_at.is_(None))
_BY_NUMBER = _VISIBLE.where(_COLUMNS.number == bindparam("number"))
_BY_ID = _VISIBLE.where(_COLUMNS.id == bindparam("id"))
_KEY_PAIR = select(_COLUMNS.id, _COLUMNS.secret_key).where(
    _COLUMNS.access_key == bindparam("access_key"), _COLUMNS.deleted_at.is_(None)
)
_UNFINISHED = and_(_COLUMNS.finish_time.is_(None), _COLUMNS.deleted_at.is_(None))
_ACTIVE = (
    select(
        _COLUMNS.id,
        _COLUMNS.state,
        _COLUMNS.is_preflight_pending,
        _COLUMNS.active_since,
        _COLUMNS.files,
    )
    .where(_UNFINISHED)
    .order_by(_COLUMNS.number)
)
_LATE = (
    select(_COLUMNS.id, _COLUMNS.files, _COLUMNS.completed, _COLUMNS.failed)
    .where(_UNFINISHED)
    .order_by(_COLUMNS.number)
)
_COUNTED = select(_COLUMNS.id, _COLUMNS.number, _COLUMNS.files, _COLUMNS.completed, _COLUMNS.failed)
_OPEN = select(
    func.count().label("n"),
    func.coalesce(func.sum(_COLUMNS.files - _COLUMNS.completed - _COLUMNS.failed), 0).label("files"),
).where(_UNFINISHED, _COLUMNS.owner == bindparam("owner"), _COLUMNS.id != bindparam("besides"))
# Of the same files; the newest that were asked anything, so that a set that everybody uses costs no more.
_ON_DATASET = (
    select(
        _COLUMNS.codegen, _COLUMNS.selection, _COLUMNS.tree_name, _COLUMNS.result_format, _COLUMNS.completed
    )
    .where(_COLUMNS.dataset_id == bindparam("dataset_id"))
    .order_by(_COLUMNS.number.desc())
    .limit(200)
    .subquery()
)
_ALIKE = select(_ON_DATASET.c.codegen).where(
    _ON_DATASET.c.completed > 0,
    _ON_DATASET.c.codegen == bindparam("codegen"),
    _ON_DATASET.c.selection == bindparam("selection"),
    _ON_DATASET.c.tree_name.is_not_distinct_from(bindparam("tree_name")),
    _ON_DATASET.c.result_format == bindparam("result_format"),
)
_NUMBER_OF = select(_COLUMNS.number).where(_COLUMNS.id == bindparam("id"), _COLUMNS.deleted_at.is_(None))


def insert_request(
    connection: Connection, new: NewRequest, dataset_id: DatasetId, life: Lifecycle, *, has_ended: bool
) -> int | None:
    """The number of the stored request, which stands where `life` says; None if it was stored before."""
    return connection.execute(
        insert_once(connection, RequestRow, key="id", returning="number"),
        {
            "id": new.id,
            "owner": new.owner,
            "title": new.title,
            "did": new.did,
            "dataset_id": dataset_id,
            "selection": new.selection,
            "codegen": new.codegen,
            "tree_name": new.tree_name,
            "result_format": new.result_format.value,
            "compression": new.compression,
            "result_destination": new.result_destination.value,
            "state": life.state.value,
            "is_fileset_complete": life.is_fileset_complete,
            "is_preflight_pending": life.is_preflight_pending,
            "failure_info": None,
            "files": life.counts.files,
            "completed": life.counts.completed,
            "failed": life.counts.failed,
            "submit_time": new.submit_time,
            "active_since": new.submit_time,
            "finish_time": new.submit_time if has_ended else None,
            "deleted_at": None,
            "access_key": new.access_key,
            "secret_key": new.secret_key,
            "renamed": {str(position): name for position, name in new.renamed.items()},
            "last_result_at": None,
            "min_seconds": None,
            "max_seconds": None,
            "total_seconds": 0.0,
            "total_bytes": 0,
            "total_events": 0,
            "uses_cache": new.uses_cache,
            "cached": 0,
        },
    ).scalar_one_or_none()


def has_answered(connection: Connection, new: NewRequest, dataset_id: DatasetId) -> bool:
    """Whether a file of the data set was delivered lately to the same query: it fits these files."""
    question = {
        "dataset_id": dataset_id,
        "codegen": new.codegen,
        "selection": new.selection,
        "tree_name": new.tree_name,
        "result_format": new.result_format.value,
    }
    return connection.execute(_ALIKE.limit(1), question).first() is not None


def is_tried(connection: Connection, request_id: RequestId) -> bool:
    """Whether the stored request waits for no preflight."""
    query = select(_COLUMNS.is_preflight_pending).where(_COLUMNS.id == request_id)
    return not connection.execute(query).scalar_one()


def count_open(connection: Connection, owner: str, besides: RequestId) -> tuple[int, int]:
    """The user's requests that have not ended, but one, and how many of their files have no outcome."""
    row = connection.execute(_OPEN, {"owner": owner, "besides": besides}).one()
    return int(row.n), int(row.files)


def find_request(connection: Connection, ref: str) -> TransformRequest | None:
    """The request with this UUID or (all digits) number, unless it is deleted."""
    if ref.isascii() and ref.isdigit():
        if len(ref) > 19 or int(ref) > _LARGEST_NUMBER:
            return None
        row = connection.execute(_BY_NUMBER, {"number": int(ref)}).one_or_none()
    elif ref.isascii() and ref.isprintable() and len(ref) == 36:
        row = connection.execute(_BY_ID, {"id": ref.lower()}).one_or_none()
    else:
        return None
    return None if row is None else _to_request(row)


def list_requests(
    connection: Connection, *, owner: str | None, limit: int, formats: Collection[ResultFormat] | None = None
) -> list[TransformRequest]:
    """The newest requests (of one owner, or of all; of some formats, or of any), oldest first."""
    query = _VISIBLE.order_by(_COLUMNS.number.desc()).limit(limit)
    if formats is not None:
        query = query.where(_COLUMNS.result_format.in_([each.value for each in formats]))
    if owner is not None:
        query = query.where(RequestRow.owner == owner)
    requests: list[TransformRequest] = []
    characters = 0
    for row in connection.execute(query):
        characters += len(row.selection)
        if requests and characters > _LISTED_CHARACTERS:
            break
        requests.append(_to_request(row))
    return requests[::-1]


def list_active(connection: Connection) -> list[Active]:
    """Requests that have not ended, oldest first."""
    return [
        Active(RequestId(id_), RequestState(state), is_preflight_pending, active_since, n_files)
        for id_, state, is_preflight_pending, active_since, n_files in connection.execute(_ACTIVE)
    ]


def find_inputs(connection: Connection) -> set[RequestId]:
    """Requests whose results are the data set of one that has not ended."""
    dids = connection.execute(select(_COLUMNS.did).where(_UNFINISHED)).scalars()
    return {earlier for did in dids if (earlier := request_of(did)) is not None}


def hold_input(connection: Connection, request_id: RequestId) -> bool:
    """Whether that request is there, so that its results can be read; it is not hidden before this ends."""
    query = select(_COLUMNS.number).where(_COLUMNS.id == request_id, _COLUMNS.deleted_at.is_(None))
    return connection.execute(query.with_for_update(read=True)).first() is not None


def list_late(
    connection: Connection, *, active_before: datetime, with_pending_preflight: bool = False
) -> list[Late]:
    """Requests that have not ended and are active since before that time (and whose preflight is pending)."""
    query = _LATE.where(_COLUMNS.active_since < active_before)
    if with_pending_preflight:
        # Where no file is known yet, it is not the preflight that is late.
        query = query.where(_COLUMNS.is_preflight_pending.is_(True), _COLUMNS.files > 0)
    return [
        Late(RequestId(row.id), FileCounts(row.files, row.completed, row.failed))
        for row in connection.execute(query)
    ]


def list_counted(
    connection: Connection, *, since: datetime | None
) -> list[tuple[RequestId, int, FileCounts]]:
    """Id, number and counts of requests that have not ended, or of those that had a result or ended since."""
    query: Executable = _COUNTED.where(_UNFINISHED)
    if since is not None:
        query = union_all(
            _COUNTED.where(_UNFINISHED, _COLUMNS.last_result_at >= since),
            _COUNTED.where(_COLUMNS.finish_time >= since, _COLUMNS.deleted_at.is_(None)),
        )
    return [
        (RequestId(row.id), row.number, FileCounts(row.files, row.completed, row.failed))
        for row in connection.execute(query)
    ]


def find_statistics(connection: Connection, number: int) -> Statistics | None:
    """Totals over the delivered files, from the request's own row."""
    row = connection.execute(
        select(
            RequestRow.completed,
            RequestRow.min_seconds,
            RequestRow.max_seconds,
            RequestRow.total_seconds,
            RequestRow.total_bytes,
            RequestRow.total_events,
        ).where(RequestRow.number == number)
    ).one_or_none()
    if row is None or not row.completed:
        return None
    return Statistics(
        min_s=row.min_seconds or 0.0,
        max_s=row.max_seconds or 0.0,
        avg_s=row.total_seconds / row.completed,
        total_s=row.total_seconds,
        total_bytes=row.total_bytes,
        total_events=row.total_events,
        events_per_s=row.total_events / row.total_seconds if row.total_seconds > 0 else 0.0,
    )


def find_bucket_key(connection: Connection, access_key: str) -> BucketKey | None:
    """The key pair with this access key."""
    row = connection.execute(_KEY_PAIR, {"access_key": access_key}).one_or_none()
    return None if row is None else BucketKey(access_key, row.secret_key, RequestId(row.id))


def find_number(connection: Connection, request_id: RequestId) -> int | None:
    """The number of a request that is not deleted."""
    return connection.execute(_NUMBER_OF, {"id": request_id}).scalar_one_or_none()


def find_known(connection: Connection, request_ids: Collection[str]) -> set[str]:
    """Those of the ids that belong to a request, deleted or not."""
    rows = connection.execute(_known(connection.dialect.name), {"ids": list(request_ids)})
    return set(rows.scalars())


@cache
def _known(dialect: str) -> Select[str]:
    return select(RequestRow.id).where(is_one_of(dialect, RequestRow.id, "ids"))


def mark_deleted(connection: Connection, number: int, now: datetime) -> None:
    """Hides the request from everybody; `list_deleted` finds it."""
    connection.execute(update(RequestRow).where(RequestRow.number == number).values(deleted_at=now))


def list_deleted(connection: Connection) -> list[tuple[RequestId, int]]:
    """Id and number of requests that wait to be removed."""
    rows = connection.execute(
        select(RequestRow.id, RequestRow.number)
        .where(RequestRow.deleted_at.is_not(None))
        .order_by(RequestRow.deleted_at)  # by which there is an index
    )
    return [(RequestId(row.id), row.number) for row in rows]


def delete_request(connection: Connection, number: int) -> None:
    """Removes the row and what still hangs on it, the file list too if no other request uses it."""
    dataset_id = connection.execute(
        delete(RequestRow).where(RequestRow.number == number).returning(RequestRow.dataset_id)
    ).scalar_one_or_none()
    if dataset_id is not None:
        delete_unused(connection, DatasetId(dataset_id))


def _to_request(row: Row[tuple[object, ...]]) -> TransformRequest:
    return TransformRequest(
        id=RequestId(row.id),
        number=row.number,
        owner=row.owner,
        title=_show_title(row.title, row.failure_info),
        did=row.did,
        dataset_id=DatasetId(row.dataset_id),
        selection=row.selection,
        codegen=row.codegen,
        tree_name=row.tree_name,
        result_format=ResultFormat(row.result_format),
        result_destination=ResultDestination(row.result_destination),
        state=RequestState(row.state),
        failure_info=row.failure_info,
        counts=FileCounts(row.files, row.completed, row.failed),
        submit_time=row.submit_time,
        finish_time=row.finish_time,
        access_key=row.access_key,
        secret_key=row.secret_key,
        compression=row.compression,
        uses_cache=row.uses_cache,
        cached=row.cached,
    )


def _show_title(title: str | None, failure_info: str | None) -> str | None:
    """The title and, if the request failed as a whole, why: clients show no other words of the server."""
    if failure_info is None:
        return title
    reason = " ".join(failure_info.split())
    if len(reason) > _TITLE_REASON_CHARACTERS:
        reason = reason[: _TITLE_REASON_CHARACTERS - 1] + "…"
    return f"{title} — {reason}" if title else reason
