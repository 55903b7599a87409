"""One batch of reports inside one transaction: what is new becomes rows, and the counters follow the rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from servicex_server.db import result as results
from servicex_server.db import unit as units
from servicex_server.db.result import NewAttempt, NewResult, Work
from servicex_server.db.session import Transaction
from servicex_server.db.transition import LockedRequest, advance, lock_request
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import FileStatus
from servicex_server.model.lifecycle import (
    Effect,
    FilesEnded,
    PreflightPassed,
    PreflightRejected,
    accepts_outcomes,
)
from servicex_server.model.naming import object_name
from servicex_server.model.tally import to_document
from servicex_server.model.unit import Failure, FileDone, FileFailed, PreflightDone, Reason, Report
from servicex_server.store.protocol import StoredObject

_MESSAGE_CHARACTERS = 4_000
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Observed:
    """A report, and what the store says of the object it tells of."""

    report: Report
    stored: StoredObject | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """A work unit that gets another attempt; `attempt` is the one that failed."""

    request_id: RequestId
    file_id: FileId
    entry_start: int
    attempt: int


@dataclass(slots=True)
class Recorded:
    """What to do after the commit.

    Attributes:
        effects: of the lifecycle, by request, in order.
        again: units for another attempt.
        discarded: store keys of objects that do not count.
    """

    effects: list[tuple[RequestId, tuple[Effect, ...]]] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)


def record(
    transaction: Transaction, observed: Sequence[Observed], max_attempts: int, now: datetime
) -> Recorded:
    """Stores what the reports tell of requests that still want to know; repeats change nothing."""
    recorded = Recorded()
    by_request: dict[RequestId, list[Observed]] = {}
    for item in observed:
        by_request.setdefault(item.report.request_id, []).append(item)
    # In one order everywhere, so that two apps cannot wait for each other's locks.
    for request_id in sorted(by_request):
        _record_request(
            transaction,
            request_id,
            by_request[request_id],
            max_attempts=max_attempts,
            now=now,
            recorded=recorded,
        )
    return recorded


def _record_request(
    transaction: Transaction,
    request_id: RequestId,
    observed: Sequence[Observed],
    *,
    max_attempts: int,
    now: datetime,
    recorded: Recorded,
) -> None:
    preflights = [item.report for item in observed if isinstance(item.report, PreflightDone)]
    for report in preflights:
        locked = lock_request(transaction, request_id)
        if locked is not None:
            recorded.effects.append((request_id, _record_preflight(transaction, locked, report, now)))
    outcomes = [item for item in observed if not isinstance(item.report, PreflightDone)]
    if not outcomes:
        return
    locked = lock_request(transaction, request_id)
    if locked is None or not accepts_outcomes(locked.life):
        recorded.discarded += _unwanted(transaction, locked, outcomes)
        return
    ledger = _Ledger(transaction, locked, outcomes, max_attempts, now)
    for item in outcomes:
        ledger.take(item)
    effects = ledger.store(transaction)
    recorded.effects.append((request_id, effects))
    recorded.again += ledger.again
    recorded.discarded += ledger.discarded


def _record_preflight(
    transaction: Transaction, locked: LockedRequest, report: PreflightDone, now: datetime
) -> tuple[Effect, ...]:
    if report.rejection is None:
        return advance(transaction, locked, PreflightPassed("preflight passed"), now)
    reason = _clean(report.rejection)
    return advance(transaction, locked, PreflightRejected("preflight rejected the query", reason), now)


def _unwanted(
    transaction: Transaction, locked: LockedRequest | None, outcomes: Sequence[Observed]
) -> list[str]:
    """Keys of objects that came too late; those that a request counts already are kept."""
    done = [item.report for item in outcomes if isinstance(item.report, FileDone)]
    if locked is None:
        return [report.store_key for report in done]
    counted = results.find_outcomes(transaction, locked.number, {report.file_id for report in done})
    kept = set(counted.values())
    return [report.store_key for report in done if report.store_key not in kept]


class _Ledger:
    """The new entries of one locked request, told from repeats."""

    def __init__(
        self,
        transaction: Transaction,
        locked: LockedRequest,
        observed: Sequence[Observed],
        max_attempts: int,
        now: datetime,
    ) -> None:
        ids = {item.report.file_id for item in observed if not isinstance(item.report, PreflightDone)}
        self._locked = locked
        self._max_attempts = max_attempts
        self._now = now
        self._files = units.find_files(transaction, locked.dataset_id, ids)
        self._ended = results.find_outcomes(transaction, locked.number, ids)
        self._known = results.find_attempts(transaction, locked.number, ids)
        self._results: list[NewResult] = []
        self._attempts: list[NewAttempt] = []
        # Two results of a request never share a time, and later rows have later times, even if the
        # clock is set back: clients ask for what is later than the last they saw.
        self._last = locked.last_result_at
        self.again: list[Again] = []
        self.discarded: list[str] = []

    def take(self, item: Observed) -> None:
        match item.report:
            case FileDone() if item.stored is None:
                self._take_failure(_missing_object(item.report))
            case FileDone():
                self._take_success(item.report, item.stored)
            case FileFailed():
                self._take_failure(item.report)
            case _:
                pass

    def store(self, transaction: Transaction) -> tuple[Effect, ...]:
        if self._attempts:
            results.insert_attempts(transaction, self._attempts)
        if not self._results:
            return ()
        results.insert_results(transaction, self._results)
        good = [row for row in self._results if row.status is FileStatus.SUCCESS]
        event = FilesEnded("outcomes of files", len(good), len(self._results) - len(good))
        return advance(transaction, self._locked, event, self._now, self._totals(good))

    def _totals(self, good: Sequence[NewResult]) -> dict[str, object]:
        totals: dict[str, object] = {"last_result_at": self._last}
        if good:
            locked = self._locked
            seconds = [row.seconds for row in good]
            least, most = locked.min_seconds, locked.max_seconds
            totals |= {
                "min_seconds": min(seconds) if least is None else min(least, *seconds),
                "max_seconds": max(seconds) if most is None else max(most, *seconds),
                "total_seconds": locked.total_seconds + sum(seconds),
                "total_bytes": locked.total_bytes + sum(row.size_bytes for row in good),
                "total_events": locked.total_events + sum(row.n_events_in for row in good),
            }
        return totals

    def _take_success(self, report: FileDone, stored: StoredObject | None) -> None:
        work: Work = (report.file_id, report.entry_start)
        file = self._files.get(report.file_id)
        if file is None or work in self._ended or stored is None:
            if self._ended.get(work) != report.store_key:
                self.discarded.append(report.store_key)
            return
        position, paths = file
        name = self._locked.renamed.get(str(position)) or object_name(paths[0], self._locked.result_format)
        self._ended[work] = report.store_key
        self._results.append(
            NewResult(
                request_number=self._locked.number,
                file_id=report.file_id,
                entry_start=report.entry_start,
                path=_clean(report.path) or paths[0],
                status=FileStatus.SUCCESS,
                object_name=name,
                store_key=report.store_key,
                etag=stored.etag,
                modified=stored.modified,
                size_bytes=stored.size_bytes,
                n_events_in=report.n_events_in,
                n_events_out=report.n_events_out,
                bytes_read=report.bytes_read,
                seconds=_finite(report.seconds),
                attempts=report.attempt,
                reason=None,
                created_at=self._next_time(),
                tally=to_document(report.tally),
            )
        )

    def _take_failure(self, report: FileFailed) -> None:
        work: Work = (report.file_id, report.entry_start)
        attempt = (report.file_id, report.entry_start, report.attempt)
        file = self._files.get(report.file_id)
        if file is None or work in self._ended:
            return
        failure = report.failure
        if attempt in self._known:
            # A leader that lost its place may have recorded it, and not have got to offer the next one.
            self._ask_again(report)
            return
        message = _clean(failure.message)
        self._known.add(attempt)
        self._attempts.append(
            NewAttempt(
                request_number=self._locked.number,
                file_id=report.file_id,
                entry_start=report.entry_start,
                attempt=report.attempt,
                reason=failure.reason.value,
                message=message,
                seconds=_finite(report.seconds),
                created=self._now,
            )
        )
        if failure.reason.is_transient and report.attempt < self._max_attempts:
            self._ask_again(report)
            return
        self._ended[work] = None
        self._results.append(
            NewResult(
                request_number=self._locked.number,
                file_id=report.file_id,
                entry_start=report.entry_start,
                path=_clean(report.path) or file[1][0],
                status=FileStatus.FAILURE,
                object_name=None,
                store_key=None,
                etag=None,
                modified=None,
                size_bytes=0,
                n_events_in=0,
                n_events_out=0,
                bytes_read=0,
                seconds=_finite(report.seconds),
                attempts=report.attempt,
                reason=_say_why(message, report.attempt),
                created_at=self._next_time(),
            )
        )

    def _ask_again(self, report: FileFailed) -> None:
        again = Again(self._locked.id, report.file_id, report.entry_start, report.attempt)
        if again not in self.again:
            self.again.append(again)

    def _next_time(self) -> datetime:
        earliest = self._now if self._last is None else self._last + _TICK
        self._last = max(self._now, earliest)
        return self._last


def _missing_object(report: FileDone) -> FileFailed:
    """A worker's word without an object in the store counts as a failed attempt."""
    return FileFailed(
        request_id=report.request_id,
        file_id=report.file_id,
        path=report.path,
        failure=Failure(Reason.LOST, "the result was reported, but it is not in the store"),
        seconds=report.seconds,
        attempt=report.attempt,
        entry_start=report.entry_start,
    )


def _say_why(message: str, attempts: int) -> str:
    return message if attempts == 1 else f"{message} (after {attempts} attempts)"


def _finite(seconds: float) -> float:
    """What a column of numbers takes, whatever a worker's clock made of it."""
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def _clean(text: str) -> str:
    """Text that every database takes: bounded, no NUL, no half surrogate pairs."""
    bounded = text if len(text) <= _MESSAGE_CHARACTERS else text[: _MESSAGE_CHARACTERS - 1] + "…"
    return bounded.replace("\0", "�").encode(errors="replace").decode()
