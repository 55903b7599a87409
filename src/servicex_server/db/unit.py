"""Queries that turn unfinished requests into work units."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from operator import attrgetter

from sqlalchemy import Connection, Select, bindparam, func, select

from servicex_server.db.dialect import is_one_of
from servicex_server.db.orm import AttemptRow, DatasetFileRow, FileResultRow, RequestRow
from servicex_server.db.result import find_store_keys
from servicex_server.model.compression import Compression, parse_compression
from servicex_server.model.earlier import request_of, split_location
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import RequestState, ResultFormat

_PASSED_OVER = 10_000
"""Files with an outcome that one call passes over: some milliseconds."""

_FILES = (
    select(DatasetFileRow.id, DatasetFileRow.position)
    .where(DatasetFileRow.dataset_id == bindparam("dataset_id"), DatasetFileRow.position > bindparam("after"))
    .order_by(DatasetFileRow.position)
    .limit(bindparam("limit"))
)
# The files of a page have ids close to each other. Joined instead, with `IS NULL` for those that have no
# outcome, PostgreSQL would read all outcomes of all requests when it takes the page for a large one.
_ENDED = select(FileResultRow.file_id).where(
    FileResultRow.request_number == bindparam("number"),
    FileResultRow.file_id.between(bindparam("first"), bindparam("last")),
    FileResultRow.entry_start == 0,
)
_QUESTION = select(
    RequestRow.number,
    RequestRow.dataset_id,
    RequestRow.did,
    RequestRow.state,
    RequestRow.is_preflight_pending,
    RequestRow.active_since,
    RequestRow.files,
    RequestRow.codegen,
    RequestRow.selection,
    RequestRow.tree_name,
    RequestRow.result_format,
    RequestRow.compression,
    RequestRow.owner,
    RequestRow.uses_cache,
).where(RequestRow.id == bindparam("id"), RequestRow.deleted_at.is_(None))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every file of a request.

    Attributes:
        earlier: the request whose results its files are, if they are such.
    """

    id: RequestId
    number: int
    dataset_id: DatasetId
    state: RequestState
    is_preflight_pending: bool
    active_since: datetime
    n_files: int
    codegen: str
    selection: str
    tree_name: str | None
    result_format: ResultFormat
    compression: Compression | None
    owner: str
    uses_cache: bool
    earlier: RequestId | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file without an outcome; `attempt` is the number of the next one.

    Attributes:
        source_key: where in the store it is, if it is a result of an earlier request.
    """

    file_id: FileId
    position: int
    paths: tuple[str, ...]
    attempt: int
    adler32: str | None = None
    source_key: str | None = None


def find_question(connection: Connection, request_id: RequestId) -> Question | None:
    """What the request asks of its files, unless it is deleted."""
    row = connection.execute(_QUESTION, {"id": request_id}).one_or_none()
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
        n_files=row.files,
        codegen=row.codegen,
        selection=row.selection,
        tree_name=row.tree_name,
        result_format=result_format,
        compression=parse_compression(row.compression, result_format) if row.compression else None,
        owner=row.owner,
        uses_cache=row.uses_cache,
        earlier=request_of(row.did),
    )


def list_waiting(
    connection: Connection, question: Question, *, after: int = -1, limit: int
) -> tuple[list[Waiting], int | None]:
    """Some files without an outcome in order, from the one after position `after` on.

    Returns:
        At most `limit` files, and the position after which to look for more; None if there are no more.
        A call passes over some thousand files with an outcome at most, so that others have their turn.
    """
    step, position = limit, after
    while True:
        page = {"dataset_id": question.dataset_id, "after": position, "limit": step}
        files = connection.execute(_FILES, page).all()
        ended = _find_ended(connection, question.number, [file.id for file in files])
        left = [file for file in files if file.id not in ended]
        is_last = len(files) < step
        if len(left) > limit:
            position, is_last = left[limit - 1].position, False
        elif files:
            position = files[-1].position
        if left or is_last or position - after >= _PASSED_OVER:
            break
        step = min(4 * step, _PASSED_OVER)
    found = _to_waiting(connection, question, [FileId(file.id) for file in left[:limit]])
    return found, None if is_last else position


def list_some_waiting(
    connection: Connection, question: Question, file_ids: Collection[FileId]
) -> list[Waiting]:
    """Those of the files that have no outcome, in order."""
    ended = _find_ended(connection, question.number, file_ids)
    return _to_waiting(connection, question, [id_ for id_ in file_ids if id_ not in ended])


def _find_ended(connection: Connection, number: int, file_ids: Collection[int]) -> set[int]:
    """The files with an outcome, among which there are all of these that have one."""
    if not file_ids:
        return set()
    between = {"number": number, "first": min(file_ids), "last": max(file_ids)}
    return set(connection.execute(_ENDED, between).scalars())


def _to_waiting(connection: Connection, question: Question, file_ids: Sequence[FileId]) -> list[Waiting]:
    # By id alone, as in `find_files`.
    rows = connection.execute(_some_files(connection.dialect.name), {"ids": list(file_ids)})
    own = [row for row in rows if row.dataset_id == question.dataset_id]
    last = _last_attempts(connection, question.number, file_ids)
    keys = find_source_keys(connection, question, [tuple(row.paths) for row in own])
    waiting = [
        Waiting(FileId(row.id), row.position, tuple(row.paths), last.get(row.id, 0) + 1, row.adler32, key)
        for row, key in zip(own, keys, strict=True)
    ]
    return sorted(waiting, key=attrgetter("position"))


def find_source_keys(
    connection: Connection, question: Question, files: Sequence[tuple[str, ...]]
) -> list[str | None]:
    """Where in the store each of the files is, given by its paths; None for what is no such result, or gone.

    Nothing but results of the one request that the question's data set names, which its owner was allowed to
    use, is ever found: a path that somebody else made up opens nothing.
    """
    if question.earlier is None:
        return [None] * len(files)
    places = [split_location(paths[0]) if paths else None for paths in files]
    names = [place[1] if place and place[0] == question.earlier else "" for place in places]
    found = find_store_keys(connection, question.earlier, [name for name in names if name])
    return [found.get(name) for name in names]


def find_files(
    connection: Connection, dataset_id: DatasetId, file_ids: Collection[FileId]
) -> dict[FileId, tuple[int, tuple[str, ...]]]:
    """Position and replicas of those of the files that belong to the data set."""
    # By id alone: SQLite would go through the whole data set to test the ids.
    rows = connection.execute(_some_files(connection.dialect.name), {"ids": list(file_ids)})
    return {FileId(row.id): (row.position, tuple(row.paths)) for row in rows if row.dataset_id == dataset_id}


def _last_attempts(connection: Connection, number: int, file_ids: Collection[int]) -> dict[int, int]:
    if not file_ids:
        return {}
    asked = {"number": number, "ids": list(file_ids)}
    rows = connection.execute(_last_attempt(connection.dialect.name), asked)
    return {row.file_id: row.last for row in rows}


@cache
def _some_files(dialect: str) -> Select[int, int, int, list[str], str | None]:
    return select(
        DatasetFileRow.id,
        DatasetFileRow.dataset_id,
        DatasetFileRow.position,
        DatasetFileRow.paths,
        DatasetFileRow.adler32,
    ).where(is_one_of(dialect, DatasetFileRow.id, "ids"))


@cache
def _last_attempt(dialect: str) -> Select[int, int]:
    return (
        select(AttemptRow.file_id, func.max(AttemptRow.attempt).label("last"))
        .where(
            AttemptRow.request_number == bindparam("number"), is_one_of(dialect, AttemptRow.file_id, "ids")
        )
        .group_by(AttemptRow.file_id)
    )
