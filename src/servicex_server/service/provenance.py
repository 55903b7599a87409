"""The record of a request: what was asked, of which files, by which software, and what came of it."""

from __future__ import annotations

import asyncio
import hashlib
import platform
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from servicex_server.db import progress
from servicex_server.db import provenance as traces
from servicex_server.db.provenance import TracedAttempt, TracedFile, TracedResult
from servicex_server.errors import ServicexError
from servicex_server.model.kinds import FileStatus
from servicex_server.model.naming import show_location
from servicex_server.model.progress import Standing
from servicex_server.model.provenance import (
    FORMAT,
    AttemptRecord,
    CountsRecord,
    CutRecord,
    FileRecord,
    HeadRecord,
    ObjectRecord,
    QueryRecord,
    ReplicaRecord,
    RequestRecord,
    TotalsRecord,
    WeightRecord,
)
from servicex_server.model.replica import ReplicaAttempt
from servicex_server.model.request import TransformRequest
from servicex_server.model.tally import NO_TALLY, Tally, add_up, to_document
from servicex_server.plan.parse import parse
from servicex_server.service.context import Services
from servicex_server.service.read import missing

PAGE = 200
"""Files in memory at a time."""
_LINES = 2_000
"""Lines of cut flows and sums of weights that are kept of all files together."""
_PACKAGES = ("uproot", "awkward", "numpy", "pyarrow")
_NO_CHECKSUM = frozenset({"", "0", "xxx"})
"""What stands for a checksum that nobody knows."""


async def begin(services: Services, transform: TransformRequest, app_version: str) -> HeadRecord:
    """What the record says before it comes to files.

    Raises:
        NotFound: the request was deleted meanwhile.
    """
    standing = await services.db.read(progress.find_standing, transform.id)
    if standing is None:
        raise missing(transform.id)
    title = await services.db.read(traces.find_title, transform.number)
    return HeadRecord(
        format=FORMAT,
        written=_time(services.clock()),
        request=_to_request(transform, standing, title),
        query=await asyncio.to_thread(_to_query, transform),
        versions=versions(app_version),
        counts=CountsRecord(
            files=standing.counts.files,
            delivered=standing.counts.completed,
            failed=standing.counts.failed,
            entries_before=standing.total_events,
            bytes_written=standing.total_bytes,
        ),
    )


async def trace_files(
    services: Services, transform: TransformRequest
) -> AsyncGenerator[FileRecord | TotalsRecord, None]:
    """Every file in the order of the data set, read page by page; at the end what they add up to."""
    totals = Totals()
    after = -1
    while True:
        page = await services.db.read(
            traces.list_traces, transform.number, transform.dataset_id, after=after, limit=PAGE
        )
        for file in page:
            for record in _to_files(file, transform):
                yield record
        totals.add([result.tally for file in page for result in file.results if result.tally is not None])
        if len(page) < PAGE:
            break
        after = page[-1].position
    yield totals.record()


class Totals:
    """Tallies added up, within bounds: the code of a user may give each file cuts of its own."""

    def __init__(self) -> None:
        self._tally = NO_TALLY
        self._is_whole = True

    def add(self, tallies: Sequence[Tally]) -> None:
        if self._is_whole:
            added = add_up([self._tally, *tallies])
            self._is_whole = len(added.cut_flow) + len(added.sums_of_weights) <= _LINES
            self._tally = added if self._is_whole else self._tally

    def record(self) -> TotalsRecord:
        return TotalsRecord(
            cut_flow=[CutRecord(step.table, step.text, step.n_rows) for step in self._tally.cut_flow],
            sums_of_weights=[
                WeightRecord(each.table, each.branch, _finite(each.before), _finite(each.after))
                for each in self._tally.sums_of_weights
            ],
            is_whole=self._is_whole,
        )


def versions(app_version: str) -> dict[str, str]:
    """Software of this server by name; its workers are installed from the same package."""
    known = {"server": app_version, "python": platform.python_version()}
    with suppress(PackageNotFoundError):
        known["engine"] = f"servicex-server {version('servicex-server')}"  # as in the files' own metadata
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            known[name] = version(name)
    return known


def _to_request(transform: TransformRequest, standing: Standing, title: str | None) -> RequestRecord:
    return RequestRecord(
        id=transform.id,
        title=title,
        data_set=transform.did,
        result_format=transform.result_format.value,
        compression=transform.compression,
        state=standing.state.value,
        reason=standing.failure_info,
        submit_time=_time(standing.submit_time),
        active_since=_time(standing.active_since),
        finish_time=_time(standing.finish_time) if standing.finish_time is not None else None,
    )


def _to_query(transform: TransformRequest) -> QueryRecord:
    plan = digest = None
    # A later version may not parse what an earlier one did.
    with suppress(ServicexError):
        plan = parse(transform.codegen, transform.selection, tree_name=transform.tree_name).canonical()
        digest = hashlib.sha256(plan.encode()).hexdigest()
    return QueryRecord(
        code_generator=transform.codegen,
        selection=transform.selection,
        tree_name=transform.tree_name,
        plan=plan,
        plan_sha256=digest,
    )


def _to_files(file: TracedFile, transform: TransformRequest) -> list[FileRecord]:
    if not file.results:
        return [_to_file(file, None, transform)]
    return [_to_file(file, result, transform) for result in file.results]


def _to_file(file: TracedFile, result: TracedResult | None, transform: TransformRequest) -> FileRecord:
    start = 0 if result is None else result.entry_start
    tally = to_document(result.tally) if result is not None and result.tally is not None else None
    failed = [_to_attempt(each) for each in file.attempts if each.entry_start == start]
    is_good = result is not None and result.status is FileStatus.SUCCESS
    return FileRecord(
        position=file.position,
        file_id=file.id,
        replicas=[show_location(path) for path in file.paths],
        replica_used=show_location(result.path) if result is not None else None,
        size_bytes=file.size_bytes or None,
        adler32=None if file.adler32 in _NO_CHECKSUM else file.adler32,
        n_events=file.n_events or None,
        entry_start=start,
        outcome=None if result is None else "delivered" if is_good else "failed",
        reason=None if result is None else result.reason,
        cache_hit=result is not None and result.is_cached,
        entries_before=result.n_events_in if result and is_good and transform.knows_events_read else None,
        entries_after=result.n_events_out if result and is_good else None,
        bytes_read=result.bytes_read if result and is_good else None,
        seconds=None if result is None else result.seconds,
        attempts=len(failed) if result is None else result.attempts,
        replicas_tried=_to_replicas(result.replicas) if result is not None else [],
        failed_attempts=failed,
        cut_flow=[] if tally is None else [CutRecord(**step) for step in tally["cut_flow"]],
        sums_of_weights=[] if tally is None else [WeightRecord(**sums) for sums in tally["sums_of_weights"]],
        object=_to_object(result) if result is not None else None,
        time=None if result is None else _time(result.created_at),
    )


def _to_object(result: TracedResult) -> ObjectRecord | None:
    if result.object_name is None:
        return None
    modified = None if result.modified is None else _time(result.modified)
    return ObjectRecord(result.object_name, result.size_bytes, result.etag, modified)


def _to_attempt(attempt: TracedAttempt) -> AttemptRecord:
    return AttemptRecord(
        attempt.attempt,
        attempt.reason,
        attempt.message,
        attempt.seconds,
        _time(attempt.created),
        _to_replicas(attempt.replicas),
    )


def _to_replicas(attempts: Sequence[ReplicaAttempt]) -> list[ReplicaRecord]:
    return [ReplicaRecord(show_location(each.location), each.outcome, each.seconds) for each in attempts]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _finite(number: float) -> float | None:
    return number if abs(number) < float("inf") else None
