"""One batch of reports inside one transaction: what is new becomes rows, and the counters follow the rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from servicex_server.db import result as results
from servicex_server.db import shared
from servicex_server.db import unit as units
from servicex_server.db.result import NewAttempt, NewResult, Work
from servicex_server.db.session import Transaction
from servicex_server.db.transition import LockedRequest, advance, lock_request
from servicex_server.model import replica
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import FileStatus
from servicex_server.model.lifecycle import (
    Effect,
    FilesEnded,
    PreflightPassed,
    PreflightRejected,
    accepts_outcomes,
)
from servicex_server.model.naming import number_name, object_name
from servicex_server.model.progress import TICK
from servicex_server.model.shared import is_shared
from servicex_server.model.tally import to_document
from servicex_server.model.unit import Failure, FileDone, FileFailed, PreflightDone, Reason, Report
from servicex_server.store.protocol import StoredObject

_MESSAGE_CHARACTERS = 4_000


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
        discarded: store keys of objects that do not count, and that only their request knew.
        has_doomed: shared objects that nothing names wait to be removed.
        results: outcomes that are new.
        attempts: failed attempts that are new.
    """

    effects: list[tuple[RequestId, tuple[Effect, ...]]] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    discarded: list[str] = field(default_factory=list)
    results: list[NewResult] = field(default_factory=list)
    attempts: list[NewAttempt] = field(default_factory=list)
    has_doomed: bool = False


def record(
    transaction: Transaction, observed: Sequence[Observed], max_attempts: int, now: datetime
) -> Recorded:
    """Stores what the reports tell of requests that still want to know; repeats change nothing."""
    recorded = Recorded()
    shelf = _Shelf(transaction, observed)
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
            shelf=shelf,
            recorded=recorded,
        )
    recorded.has_doomed = shelf.store(transaction, now)
    recorded.discarded = [key for key in recorded.discarded if not is_shared(key)]
    return recorded


def _record_request(
    transaction: Transaction,
    request_id: RequestId,
    observed: Sequence[Observed],
    *,
    max_attempts: int,
    now: datetime,
    shelf: _Shelf,
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
    ledger = _Ledger(transaction, locked, outcomes, shelf, max_attempts=max_attempts, now=now)
    for item in outcomes:
        ledger.take(item)
    effects = ledger.store(transaction)
    recorded.effects.append((request_id, effects))
    recorded.again += ledger.again
    recorded.discarded += ledger.discarded
    recorded.results += ledger.results
    recorded.attempts += ledger.attempts


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


class _Shelf:
    """The shared objects that a batch tells of, locked until all of it is recorded.

    An object is held before anything is decided about it: nobody else can doom it, or remove it, meanwhile.
    """

    def __init__(self, transaction: Transaction, observed: Iterable[Observed]) -> None:
        self._named: Counter[str] = Counter()
        self._held = shared.hold_objects(
            transaction,
            {
                item.report.store_key
                for item in observed
                if isinstance(item.report, FileDone)
                and item.stored is not None
                and is_shared(item.report.store_key)
            },
        )

    def may_name(self, key: str) -> bool:
        """Whether a result may name the object: it is not on its way out of the store, or out already."""
        return not is_shared(key) or self._held.get(key) is not None

    def name(self, key: str) -> None:
        """Takes note that one more result names the object."""
        if is_shared(key):
            self._named[key] += 1

    def store(self, transaction: Transaction, now: datetime) -> bool:
        """Stores what names them, and dooms what nothing names; whether there is such."""
        shared.add_names(transaction, self._named)
        unnamed = [key for key, n_results in self._held.items() if n_results == 0 and key not in self._named]
        return bool(unnamed and shared.doom_objects(transaction, unnamed, now))


class _Ledger:
    """The new entries of one locked request, told from repeats."""

    def __init__(
        self,
        transaction: Transaction,
        locked: LockedRequest,
        observed: Sequence[Observed],
        shelf: _Shelf,
        *,
        max_attempts: int,
        now: datetime,
    ) -> None:
        ids = {item.report.file_id for item in observed if not isinstance(item.report, PreflightDone)}
        self._locked = locked
        self._shelf = shelf
        self._max_attempts = max_attempts
        self._now = now
        self._files = units.find_files(transaction, locked.dataset_id, ids)
        self._ended = results.find_outcomes(transaction, locked.number, ids)
        self._known = results.find_attempts(transaction, locked.number, ids)
        self._transaction = transaction
        plain = [object_name(paths[0], locked.result_format) for _, paths in self._files.values()]
        self._names = results.find_object_names(transaction, locked.number, plain)
        self.results: list[NewResult] = []
        self.attempts: list[NewAttempt] = []
        # Two results of a request never share a time, and later rows have later times, even if the
        # clock is set back: clients ask for what is later than the last they saw, and ids of events are
        # made of these times.
        self._last = locked.last_time
        self.again: list[Again] = []
        self.discarded: list[str] = []

    def take(self, item: Observed) -> None:
        match item.report:
            case FileDone() if item.stored is None:
                self._take_lost(item.report, "the result was reported, but it is not in the store")
            case FileDone():
                self._take_success(item.report, item.stored)
            case FileFailed():
                self._take_failure(item.report)
            case _:
                pass

    def store(self, transaction: Transaction) -> tuple[Effect, ...]:
        if self.attempts:
            results.insert_attempts(transaction, self.attempts)
        if not self.results:
            return ()
        results.insert_results(transaction, self.results)
        good = [row for row in self.results if row.status is FileStatus.SUCCESS]
        event = FilesEnded("outcomes of files", len(good), len(self.results) - len(good))
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
                "cached": locked.cached + sum(row.is_cached for row in good),
            }
        return totals

    def _take_success(self, report: FileDone, stored: StoredObject | None) -> None:
        work: Work = (report.file_id, report.entry_start)
        file = self._files.get(report.file_id)
        if file is None or work in self._ended or stored is None:
            if self._ended.get(work) != report.store_key:
                self.discarded.append(report.store_key)
            return
        if not self._shelf.may_name(report.store_key):
            self._take_lost(report, "an earlier result was taken, which has just been deleted")
            return
        self._shelf.name(report.store_key)
        name = self._name(file)
        self._ended[work] = report.store_key
        self.results.append(
            NewResult(
                request_number=self._locked.number,
                file_id=report.file_id,
                entry_start=report.entry_start,
                path=_clean(report.path) or file[1][0],
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
                is_cached=report.is_cached,
                replicas=replica.to_document(report.replicas),
            )
        )

    def _take_lost(self, report: FileDone, why: str) -> None:
        """A worker's word without an object that counts is a failed attempt.

        Where an earlier result was taken there is another attempt in any case: it makes a new one.
        """
        self._take_failure(
            _to_failure(report, why), is_worth_another=report.is_cached and report.attempt == 1
        )

    def _take_failure(self, report: FileFailed, *, is_worth_another: bool = False) -> None:
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
        self.attempts.append(
            NewAttempt(
                request_number=self._locked.number,
                file_id=report.file_id,
                entry_start=report.entry_start,
                attempt=report.attempt,
                reason=failure.reason.value,
                message=message,
                seconds=_finite(report.seconds),
                created=self._now,
                replicas=replica.to_document(report.replicas),
            )
        )
        if is_worth_another or (failure.reason.is_transient and report.attempt < self._max_attempts):
            self._ask_again(report)
            return
        self._ended[work] = None
        self.results.append(
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
                replicas=replica.to_document(report.replicas),
            )
        )

    def _name(self, file: tuple[int, tuple[str, ...]]) -> str:
        """The object's name. Files that a finder found were not compared when the request was submitted."""
        position, paths = file
        kind = self._locked.result_format
        name = self._locked.renamed.get(str(position)) or object_name(paths[0], kind)
        if name in self._names:
            name = number_name(name, position)
            while name in self._names or results.find_object_names(
                self._transaction, self._locked.number, [name]
            ):
                name = number_name(name, position)
        self._names.add(name)
        return name

    def _ask_again(self, report: FileFailed) -> None:
        again = Again(self._locked.id, report.file_id, report.entry_start, report.attempt)
        if again not in self.again:
            self.again.append(again)

    def _next_time(self) -> datetime:
        self._last = max(self._now, self._last + TICK)
        return self._last


def _to_failure(report: FileDone, why: str) -> FileFailed:
    return FileFailed(
        request_id=report.request_id,
        file_id=report.file_id,
        path=report.path,
        failure=Failure(Reason.LOST, why),
        seconds=report.seconds,
        attempt=report.attempt,
        entry_start=report.entry_start,
        replicas=report.replicas,
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
