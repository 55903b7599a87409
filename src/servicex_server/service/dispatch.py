"""Work goes to the queue: from the database, page by page, requests in turn."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from servicex_server.db import dataset as datasets
from servicex_server.db import request as requests
from servicex_server.db import unit as units
from servicex_server.db.request import Active
from servicex_server.db.session import Transaction
from servicex_server.db.unit import Question, Waiting
from servicex_server.errors import Busy
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import RequestState
from servicex_server.model.request import DatasetFile
from servicex_server.model.unit import PreflightUnit, TransformUnit
from servicex_server.service.backlog import Retry, Turn
from servicex_server.service.context import Services

logger = logging.getLogger(__name__)

_WORKING = frozenset({RequestState.LOOKUP, RequestState.RUNNING})
_TRIED = frozenset({RequestState.SUBMITTED, RequestState.LOOKUP, RequestState.RUNNING})
"""Not those that wait for the end of a look-up: theirs begins then."""
_PAUSE_AFTER_DEFECT_S = 1.0
_ADLER32 = re.compile("[0-9A-Fa-f]{8}")


async def resume(services: Services) -> None:
    """Puts unfinished requests of earlier runs, or of an earlier leader, into the backlog.

    Call once before the tasks start. It waits for an absent database. What is in the backlog already stays.
    """
    while True:
        try:
            unfinished = await services.db.read(requests.list_active)
            break
        except Busy as error:
            logger.warning("unfinished requests wait: %s", error)
            await asyncio.sleep(services.limits.publish_retry_s)
    for request in unfinished:
        add(services, request)
    if unfinished:
        logger.info("unfinished requests that go on: %d", len(unfinished))


def add(services: Services, request: Active | Question) -> bool:
    """Puts what is to be published next of the request into the backlog; whether there is something."""
    if request.state is RequestState.LOOKUP:
        services.backlog.lookups_asked.set()
    if request.is_preflight_pending:
        services.backlog.add_preflight(request.id)
    elif request.state in _WORKING:
        services.backlog.add_files(request.id)
    else:
        return False
    return True


async def run_dispatcher(services: Services) -> None:
    """Hands the backlog to the queue as it grows; runs until canceled."""
    while True:
        try:
            if not await dispatch_some(services):
                await services.backlog.wait(_pause_s(services))
        except Busy as error:
            logger.debug("work waits: %s", error)
            await asyncio.sleep(services.limits.publish_retry_s)
        except Exception:
            logger.exception("a page of work could not be dispatched; others go first")
            await asyncio.sleep(_PAUSE_AFTER_DEFECT_S)


async def dispatch_some(services: Services) -> bool:
    """Publishes what comes next; False if nothing was due.

    Raises:
        Busy: the queue is at its bound, or the database does not answer; the work stays in the backlog.
    """
    preflight = services.backlog.take_preflight()
    if preflight is not None:
        await _publish_preflight(services, preflight)
        return True
    retries = services.backlog.take_retries(asyncio.get_running_loop().time(), services.limits.publish_page)
    if retries:
        await _publish_retries(services, retries)
    turn = services.backlog.next_turn()
    if turn is not None:
        await _publish_page(services, turn)
    return bool(retries) or turn is not None


def _pause_s(services: Services) -> float | None:
    due_s = services.backlog.next_due_s
    return None if due_s is None else max(0.0, due_s - asyncio.get_running_loop().time())


async def _publish_preflight(services: Services, request_id: RequestId) -> None:
    try:
        found = await services.db.read(_find_sample, request_id, services.limits.preflight_files)
        if found is None:
            services.backlog.drop_preflight(request_id)
            return
        await services.queue.publish([_to_preflight(services, *found)])
    except Busy:
        services.backlog.return_preflight(request_id)
        raise


def _find_sample(
    transaction: Transaction, request_id: RequestId, limit: int
) -> tuple[Question, list[DatasetFile], list[str | None]] | None:
    question = units.find_question(transaction, request_id)
    if question is None or not question.is_preflight_pending or question.state not in _TRIED:
        return None
    files = datasets.list_files(transaction, question.dataset_id, limit=max(1, limit))
    # While a look-up has found nothing, the first files are what brings the request here again.
    if not files:
        return None
    return question, files, units.find_source_keys(transaction, question, [file.paths for file in files])


async def _publish_retries(services: Services, retries: Sequence[Retry]) -> None:
    left = list(retries)
    try:
        while left:
            request_id = left[0].request_id
            mine = [retry for retry in left if retry.request_id == request_id]
            found = await services.db.read(_find_some, request_id, [retry.file_id for retry in mine])
            if found is not None:
                await services.queue.publish(_to_units(services, *found))
            left = [retry for retry in left if retry.request_id != request_id]
    except BaseException:
        due_s = asyncio.get_running_loop().time() + services.limits.publish_retry_s
        for retry in left:
            services.backlog.add_retry(replace(retry, due_s=due_s))
        raise


async def _publish_page(services: Services, turn: Turn) -> None:
    is_last = False
    position = turn.position
    try:
        found = await services.db.read(
            _find_page, turn.request_id, after=position, limit=services.limits.publish_page
        )
        if found is None:
            services.backlog.end_turn(turn)
            return
        question, waiting, following = found
        if turn.active_since not in {None, question.active_since}:
            # It ended and was retried, and nobody told us: files before our position may wait again.
            await services.queue.cancel(turn.request_id)
            position = -1
            turn.active_since = None
            return
        turn.active_since, turn.n_files = question.active_since, question.n_files
        if waiting:
            await services.queue.publish(_to_units(services, question, waiting))
            position = waiting[-1].position
        is_last = following is None
        position = following if following is not None else position
    finally:
        services.backlog.advance(turn, position, is_last=is_last)


def _find_page(
    transaction: Transaction, request_id: RequestId, *, after: int, limit: int
) -> tuple[Question, list[Waiting], int | None] | None:
    question = _find_working(transaction, request_id)
    if question is None:
        return None
    return question, *units.list_waiting(transaction, question, after=after, limit=limit)


def _find_some(
    transaction: Transaction, request_id: RequestId, file_ids: Sequence[FileId]
) -> tuple[Question, list[Waiting]] | None:
    question = _find_working(transaction, request_id)
    return None if question is None else (question, units.list_some_waiting(transaction, question, file_ids))


def _find_working(transaction: Transaction, request_id: RequestId) -> Question | None:
    question = units.find_question(transaction, request_id)
    if question is None or question.state not in _WORKING or question.is_preflight_pending:
        return None
    return question


def _to_preflight(
    services: Services, question: Question, files: Iterable[DatasetFile], keys: Iterable[str | None]
) -> PreflightUnit:
    return PreflightUnit(
        request_id=question.id,
        files=tuple(file.paths for file in files),
        codegen=question.codegen,
        selection=question.selection,
        result_format=question.result_format,
        deadline_s=services.limits.preflight_deadline_s,
        tree_name=question.tree_name,
        owner=question.owner,
        source_keys=() if question.earlier is None else tuple(keys),
    )


def _to_units(services: Services, question: Question, waiting: Iterable[Waiting]) -> list[TransformUnit]:
    return [
        TransformUnit(
            request_id=question.id,
            file_id=file.file_id,
            paths=file.paths,
            codegen=question.codegen,
            selection=question.selection,
            result_format=question.result_format,
            # Of a result that is not shared. The attempt is part of the key, so that a late double of an
            # earlier attempt cannot replace an object that counts.
            store_key=f"{question.id}/{file.file_id}-0-{file.attempt}",
            attempt=file.attempt,
            deadline_s=services.limits.file_deadline_s,
            tree_name=question.tree_name,
            compression=question.compression,
            owner=question.owner,
            uses_cache=question.uses_cache and services.result_cache,
            checksum=_to_checksum(file.adler32),
            source_key=file.source_key,
        )
        for file in waiting
    ]


def _to_checksum(adler32: str | None) -> str | None:
    """The checksum as units carry it; a file list has none but a word in its place."""
    if adler32 is None or _ADLER32.fullmatch(adler32) is None:
        return None
    return f"adler32:{adler32.lower()}"
