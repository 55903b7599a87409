"""The sequence of events of a request, as it follows from its rows, however often a reader is cut off."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import FileStatus, RequestState
from servicex_server.model.progress import (
    BEFORE_ALL,
    LAST_ID,
    TICK,
    WINDOW_S,
    EndNews,
    EventId,
    FileNews,
    Look,
    News,
    ProgressNews,
    Rates,
    Sample,
    Standing,
    StateNews,
    Teller,
    Window,
    end_of,
    estimate_s,
    to_event_id,
    to_moment,
)
from servicex_server.model.request import FileCounts, FileResult

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
N_FILES = 12


def result(file_id: int, moment: datetime, status: FileStatus) -> FileResult:
    is_good = status is FileStatus.SUCCESS
    return FileResult(
        number=file_id,
        request_id=RequestId("r"),
        file_id=FileId(file_id),
        path=f"/data/{file_id}.root",
        status=status,
        object_name=f"{file_id}" if is_good else None,
        store_key=None,
        size_bytes=10,
        n_events_in=100,
        n_events_out=10,
        bytes_read=1000,
        seconds=1.0,
        attempts=1,
        reason=None if is_good else "broken",
        created_at=moment,
    )


@dataclass
class Rows:
    """The rows of one request, changed as `db.transition` and `service.record` do."""

    clock: datetime = START
    last: datetime = START
    finish: datetime | None = None
    results: dict[int, FileResult] = field(default_factory=dict)

    @property
    def standing(self) -> Standing:
        failed = sum(each.status is FileStatus.FAILURE for each in self.results.values())
        return Standing(
            number=1,
            state=RequestState.RUNNING if self.finish is None else RequestState.COMPLETE,
            counts=FileCounts(N_FILES, len(self.results) - failed, failed),
            is_fileset_complete=True,
            failure_info=None,
            submit_time=START,
            active_since=START,
            finish_time=self.finish,
            last_time=self.last,
            total_bytes=0,
            total_events=0,
        )

    def end_some(self, count: int, fails: bool) -> None:
        status = FileStatus.FAILURE if fails else FileStatus.SUCCESS
        for file_id in [each for each in range(N_FILES) if each not in self.results][:count]:
            self.last = max(self.clock, self.last + TICK)
            self.results[file_id] = result(file_id, self.last, status)
        if len(self.results) == N_FILES and self.finish is None:
            self.finish = self.clock

    def retry(self) -> None:
        if self.finish is not None and self.standing.counts.failed:
            ended = end_of(self.finish, self.last)
            assert ended is not None
            self.last, self.finish = ended, None
            self.results = {k: v for k, v in self.results.items() if v.status is FileStatus.SUCCESS}

    def look(self, after: EventId, most: int) -> Look:
        rows = sorted(self.results.values(), key=lambda each: each.created_at)
        page = [each for each in rows if to_event_id(each.created_at) > after][:most]
        return Look(self.standing, page, has_more=len(page) == most)

    def is_known(self, position: EventId) -> bool:
        return self.standing.end_id is not None and self.standing.end_id <= position

    def sequence(self) -> list[EventId]:
        ids = sorted(to_event_id(each.created_at) for each in self.results.values())
        end = self.standing.end_id
        return [*ids, *([end] if end is not None else [])]


def ids_of(news: list[News]) -> list[EventId]:
    return [each.id for each in news if isinstance(each, FileNews | EndNews)]


# What happens between two looks: files end well or badly, the clock moves either way, somebody retries, or
# the reader is cut off and comes again with the last id it knows.
STEP = st.one_of(
    st.tuples(st.just("end"), st.integers(1, 5), st.booleans()),
    st.tuples(st.just("clock"), st.integers(-5_000_000, 5_000_000), st.just(False)),
    st.tuples(st.just("retry"), st.just(0), st.just(False)),
    st.tuples(st.just("cut"), st.just(0), st.just(False)),
    st.tuples(st.just("look"), st.just(0), st.just(False)),
)


@given(st.lists(STEP, max_size=60), st.integers(1, 7))
def test_whoever_is_cut_off_anywhere_hears_every_event_once(
    steps: list[tuple[str, int, bool]], page: int
) -> None:
    rows, teller = Rows(), Teller()
    heard: list[EventId] = []
    latest: dict[int, FileStatus] = {}

    def look() -> None:
        nonlocal teller
        while not rows.is_known(teller.position):  # or the API answers 204
            view = rows.look(teller.position, page)
            news = teller.tell(view, rows.clock, 0.0)
            heard.extend(ids_of(news))
            latest.update({it.result.file_id: it.result.status for it in news if isinstance(it, FileNews)})
            if not view.has_more and not teller.is_over:
                break
            if len(heard) % 2 or teller.is_over:
                teller = Teller(teller.position)

    for kind, number, fails in steps:
        if kind == "end":
            rows.end_some(number, fails)
        elif kind == "clock":
            rows.clock += number * TICK
        elif kind == "retry":
            rows.retry()
        elif kind == "cut":
            teller = Teller(teller.position)
        else:
            look()
    look()
    # In order and once; all of today's sequence was heard, and of each file the present outcome last.
    assert all(before < after for before, after in itertools.pairwise(heard))
    assert set(rows.sequence()) <= set(heard)
    assert {k: v.status for k, v in rows.results.items()}.items() <= latest.items()


@given(st.integers(1, 7), st.lists(st.integers(0, N_FILES + 1), max_size=5))
def test_replay_from_any_id_is_the_rest_of_the_sequence(page: int, cuts: list[int]) -> None:
    rows = Rows()
    rows.end_some(5, fails=False)
    rows.end_some(3, fails=True)
    rows.end_some(N_FILES, fails=False)
    whole = rows.sequence()
    assert len(whole) == len(set(whole)) == N_FILES + 1
    for cut in [0, *cuts]:
        teller = Teller(whole[cut - 1] if cut > 0 else BEFORE_ALL)
        heard: list[EventId] = []
        while not rows.is_known(teller.position):
            heard += ids_of(teller.tell(rows.look(teller.position, page), rows.clock, 0.0))
        assert heard == whole[cut:]


def test_ids_are_microseconds_and_back() -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, 123457, tzinfo=UTC)
    assert to_moment(to_event_id(moment)) == moment
    assert to_event_id(moment + TICK) == to_event_id(moment) + 1
    assert to_moment(LAST_ID) == datetime.max.replace(tzinfo=UTC)


def test_the_end_comes_after_the_last_file_whatever_the_clock_says() -> None:
    rows = Rows()
    rows.clock = START + timedelta(seconds=5)
    rows.end_some(N_FILES - 1, fails=False)
    rows.clock = START - timedelta(hours=1)
    rows.end_some(1, fails=False)
    assert rows.sequence() == sorted(rows.sequence())
    assert rows.standing.end_id == rows.sequence()[-1]


def test_state_comes_before_the_files_and_the_last_one_after_them() -> None:
    rows, teller = Rows(), Teller()
    rows.end_some(2, fails=False)
    kinds = [type(each) for each in teller.tell(rows.look(teller.position, 100), START, 0.0)]
    assert kinds == [StateNews, FileNews, FileNews, ProgressNews]
    rows.end_some(N_FILES, fails=False)
    news = teller.tell(rows.look(teller.position, 100), START, 0.0)
    assert [type(each) for each in news] == [FileNews] * (N_FILES - 2) + [StateNews, ProgressNews, EndNews]


def test_progress_is_told_once_a_second_at_most_and_once_more_when_nothing_moves() -> None:
    rows, teller = Rows(), Teller()

    def tells(tick_s: float) -> bool:
        news = teller.tell(rows.look(teller.position, 100), START, tick_s)
        return any(isinstance(each, ProgressNews) for each in news)

    assert tells(100.0)
    rows.end_some(1, fails=False)
    assert not tells(100.5)
    assert tells(101.0)
    assert not tells(110.0)
    assert tells(101.0 + WINDOW_S + 1)
    assert not tells(1000.0)
    rows.end_some(1, fails=False)
    assert tells(1001.0)


def test_rates_are_those_of_the_window() -> None:
    window = Window()
    for second in range(100):
        for _ in range(2):
            window.add(Sample(START + timedelta(seconds=second), 3_000_000, 500))
    now = START + timedelta(seconds=99)
    rates = window.rates(now, START)
    assert rates.files_per_s == pytest.approx(2, rel=0.1)
    assert rates.input_mb_per_s == pytest.approx(6, rel=0.1)
    assert rates.events_per_s == pytest.approx(1000, rel=0.1)
    assert window.rates(now + timedelta(seconds=2 * WINDOW_S), START) == Rates()


def test_rates_at_the_beginning_count_from_the_beginning() -> None:
    window = Window()
    for _ in range(10):
        window.add(Sample(START + timedelta(seconds=1), 0, 0))
    assert window.rates(START + timedelta(seconds=5), START).files_per_s == 2.0
    assert window.rates(START, START).files_per_s == 10.0


def test_window_is_bounded() -> None:
    window = Window()
    for second in range(1000):
        window.add(Sample(START + timedelta(seconds=second), 1, 1))
    assert len(window._buckets) <= WINDOW_S + 1


def test_estimate() -> None:
    rows = Rows()
    rows.end_some(4, fails=False)
    standing = rows.standing
    now = START + timedelta(seconds=8)
    assert estimate_s(standing, Rates(files_per_s=2), now) == 4.0
    assert estimate_s(standing, Rates(), now) == 16.0  # as fast as since the submit
    assert estimate_s(replace(standing, active_since=now), Rates(), now) is None
    assert estimate_s(replace(standing, is_fileset_complete=False), Rates(2), now) is None
    assert estimate_s(replace(standing, counts=FileCounts(5)), Rates(), now) is None
    assert estimate_s(replace(standing, state=RequestState.CANCELED), Rates(), now) == 0.0


def test_it_is_told_at_once_that_workers_are_gone_and_that_they_are_back() -> None:
    rows, teller = Rows(), Teller()

    def told(*, lacks_workers: bool) -> list[bool]:
        news = teller.tell(rows.look(teller.position, 9), rows.clock, 0.0, lacks_workers=lacks_workers)
        return [each.progress.lacks_workers for each in news if isinstance(each, ProgressNews)]

    assert told(lacks_workers=False) == [False]
    assert told(lacks_workers=True) == [True]
    assert told(lacks_workers=True) == []
    assert told(lacks_workers=False) == [False]
