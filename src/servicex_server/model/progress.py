"""A request's history as a sequence of events, and how fast it goes. Pure.

The sequence is not stored: it follows from the request's rows. Every outcome of a file is an event whose id
is the microsecond at which it was recorded, and so is the end of the request. Within a request no two of
these times are equal and later ones are greater, also when clocks are set back or differ between machines, so
each process derives the same ids from the same rows. A retry takes the failed outcomes and the end out of the
sequence; what comes after it has greater ids than all that was there. So a reader who goes on from any id
misses nothing, and of a file it heard of twice, the later word counts.

State and progress have no place in the sequence. They tell how things stand now, first of all when a reader
comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import NewType

from servicex_server.model.kinds import RequestState
from servicex_server.model.request import FileCounts, FileResult

EventId = NewType("EventId", int)
"""Place of an event in the history of its request: microseconds since 1970."""

BEFORE_ALL = EventId(0)
LAST_ID = EventId(253_402_300_799_999_999)
"""The end of the year 9999, which is the last that Python knows."""

WINDOW_S = 30
PROGRESS_EVERY_S = 1.0
"""Shortest time between two events that tell of progress."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def to_event_id(moment: datetime) -> EventId:
    """The id of what happened then."""
    return EventId((moment - _EPOCH) // TICK)


def to_moment(event_id: EventId) -> datetime:
    """When the event happened.

    >>> to_event_id(to_moment(EventId(1_764_000_000_123_456)))
    1764000000123456
    """
    return _EPOCH + event_id * TICK


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a request stands, without what is long in it.

    Attributes:
        last_time: the latest time given to anything in the request.
        total_bytes: size of the result objects.
        total_events: entries read; None where nobody counts them.
    """

    number: int
    state: RequestState
    counts: FileCounts
    is_fileset_complete: bool
    failure_info: str | None
    submit_time: datetime
    active_since: datetime
    finish_time: datetime | None
    last_time: datetime
    total_bytes: int
    total_events: int | None

    @property
    def end_id(self) -> EventId | None:
        """Id of the request's end, greater than those of all its files; None while it goes on."""
        moment = end_of(self.finish_time, self.last_time)
        return None if moment is None else to_event_id(moment)


def end_of(finish_time: datetime | None, last_time: datetime) -> datetime | None:
    """When the request ended, later than everything in it, whatever the clock said."""
    return None if finish_time is None else max(finish_time, last_time + TICK)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one delivered file adds to a rate."""

    moment: datetime
    n_bytes: int
    n_events: int


@dataclass(frozen=True, slots=True)
class Rates:
    """How fast files come, over the last seconds."""

    files_per_s: float = 0.0
    input_mb_per_s: float = 0.0
    events_per_s: float = 0.0


class Window:
    """Sums over the last `WINDOW_S` seconds, in one bucket per second: bounded however many files come."""

    def __init__(self) -> None:
        self._buckets: deque[list[int]] = deque(maxlen=WINDOW_S + 1)  # second, files, bytes, events

    def add(self, sample: Sample) -> None:
        """Takes a file that ended; later ones come later."""
        second = int(sample.moment.timestamp())
        if not self._buckets or self._buckets[-1][0] < second:
            self._buckets.append([second, 0, 0, 0])
        bucket = self._buckets[-1]
        bucket[1] += 1
        bucket[2] += sample.n_bytes
        bucket[3] += sample.n_events

    def rates(self, now: datetime, since: datetime) -> Rates:
        """Rates over the window, or over the time since work began if that is shorter."""
        now_s = now.timestamp()
        if self._buckets:
            now_s = max(now_s, self._buckets[-1][0])  # another machine's clock may be ahead
        span_s = min(float(WINDOW_S), max(1.0, now_s - since.timestamp()))
        recent = [bucket for bucket in self._buckets if bucket[0] > now_s - WINDOW_S - 1]
        files, n_bytes, n_events = (sum(bucket[place] for bucket in recent) for place in (1, 2, 3))
        return Rates(files / span_s, n_bytes / span_s / 1e6, n_events / span_s)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is, and when it may be done.

    Attributes:
        eta_s: seconds until the last file if it goes on like this; None if nobody can tell.
        lacks_workers: no worker is connected, so that no file is worked on.
    """

    counts: FileCounts
    total_bytes: int
    total_events: int | None
    rates: Rates
    eta_s: float | None
    lacks_workers: bool = False


def estimate_s(standing: Standing, rates: Rates, now: datetime) -> float | None:
    """Seconds until all known files are through, by the present rate or else by that since the submit."""
    if standing.state.is_terminal:
        return 0.0
    remaining = standing.counts.remaining
    if not standing.is_fileset_complete or not standing.counts.files:
        return None
    rate = rates.files_per_s
    done = standing.counts.files - remaining
    if not rate and done and standing.active_since == standing.submit_time:
        rate = done / max(1.0, (now - standing.submit_time).total_seconds())
    return remaining / rate if rate else None


@dataclass(frozen=True, slots=True)
class StateNews:
    """The request is in this state now."""

    standing: Standing


@dataclass(frozen=True, slots=True)
class FileNews:
    """A file was delivered or failed for good.

    Attributes:
        knows_rows_in: somebody counted the entries read.
    """

    id: EventId
    result: FileResult
    knows_rows_in: bool = True


@dataclass(frozen=True, slots=True)
class ProgressNews:
    """How far the request is now."""

    progress: Progress


@dataclass(frozen=True, slots=True)
class EndNews:
    """The request has ended, and all its files were told of."""

    id: EventId
    standing: Standing


@dataclass(frozen=True, slots=True)
class NoNews:
    """Nothing happened for a while."""


News = StateNews | FileNews | ProgressNews | EndNews | NoNews


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the rows shows.

    Attributes:
        results: outcomes after the teller's position in order; of an ended request none after its end.
        has_more: there may be further ones.
    """

    standing: Standing
    results: Sequence[FileResult]
    has_more: bool


class Teller:
    """Turns looks at a request's rows into news for one reader, who knows all up to some event.

    Attributes:
        position: id of the last event of the sequence that was told.
        is_over: the end was told.
    """

    def __init__(self, after: EventId = BEFORE_ALL, recent: Iterable[Sample] = ()) -> None:
        """A teller for somebody who knows the events up to `after`, which `recent` ones are among."""
        self.position = after
        self.is_over = False
        self._state: RequestState | None = None
        self._told: FileCounts | None = None
        self._told_s = 0.0
        self._is_idle = False
        self._lacked_workers = False
        self._window = Window()
        for sample in recent:
            self._window.add(sample)

    def tell(self, look: Look, now: datetime, tick_s: float, *, lacks_workers: bool = False) -> list[News]:
        """What is new to the reader.

        Args:
            look: at the rows after `position`.
            now: the time.
            tick_s: a clock that nobody sets.
            lacks_workers: no worker is connected.
        """
        standing = look.standing
        news: list[News] = []
        if not standing.state.is_terminal:
            news += self._tell_state(standing)
        for result in look.results:
            self.position = to_event_id(result.created_at)
            news.append(FileNews(self.position, result, standing.total_events is not None))
            self._window.add(Sample(result.created_at, result.bytes_read, result.n_events_in))
        if look.has_more:
            return news
        end = standing.end_id
        if end is None:
            return news + self._tell_progress(standing, now, tick_s, lacks_workers=lacks_workers)
        news += self._tell_state(standing)
        news.append(ProgressNews(self._progress(standing, now)))
        self.position = max(end, self.position)
        self.is_over = True
        return [*news, EndNews(end, standing)]

    def _tell_state(self, standing: Standing) -> list[News]:
        if standing.state is self._state:
            return []
        self._state = standing.state
        return [StateNews(standing)]

    def _tell_progress(
        self, standing: Standing, now: datetime, tick_s: float, *, lacks_workers: bool
    ) -> list[News]:
        """Progress if files ended; then once more when none did for the length of the window.

        And when the last worker goes, or the first one comes.
        """
        since_s = tick_s - self._told_s
        is_first = self._told is None
        has_moved = standing.counts != self._told and since_s >= PROGRESS_EVERY_S
        is_slow = since_s >= WINDOW_S + 1 and not self._is_idle
        is_otherwise = lacks_workers is not self._lacked_workers
        if not (is_first or has_moved or is_slow or is_otherwise):
            return []
        self._is_idle = standing.counts == self._told
        self._told, self._told_s = standing.counts, tick_s
        self._lacked_workers = lacks_workers
        return [ProgressNews(replace(self._progress(standing, now), lacks_workers=lacks_workers))]

    def _progress(self, standing: Standing, now: datetime) -> Progress:
        rates = self._window.rates(now, standing.active_since)
        return Progress(
            counts=standing.counts,
            total_bytes=standing.total_bytes,
            total_events=standing.total_events,
            rates=rates,
            eta_s=estimate_s(standing, rates, now),
        )
