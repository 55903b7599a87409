"""Any order of events keeps the promises that clients rely on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from servicex_server.model.kinds import RequestState
from servicex_server.model.lifecycle import (
    Cancel,
    ClearFinish,
    DropWork,
    Event,
    Fail,
    FilesEnded,
    FilesetClosed,
    FilesFound,
    FilesKnown,
    Lifecycle,
    LookupFailed,
    LookupJoined,
    LookupStarted,
    NotifyWaiters,
    PreflightPassed,
    PreflightRejected,
    Retry,
    SetFinishTime,
    step,
)

CAUSE = "cause"
few = st.integers(0, 4)
begin = st.one_of(
    st.builds(FilesKnown, st.just(CAUSE), few, st.booleans()),
    st.builds(LookupStarted, st.just(CAUSE), st.booleans()),
    st.builds(LookupJoined, st.just(CAUSE), st.booleans()),
)
going_on = st.one_of(
    begin,
    st.builds(FilesFound, st.just(CAUSE), few),
    st.builds(FilesetClosed, st.just(CAUSE), few),
    st.builds(LookupFailed, st.just(CAUSE), st.just("why")),
    st.builds(PreflightPassed, st.just(CAUSE)),
    st.builds(PreflightRejected, st.just(CAUSE), st.just("why")),
    st.builds(FilesEnded, st.just(CAUSE), few, few),
    st.builds(FilesEnded, st.just(CAUSE), st.just(1), st.just(0)),
    st.builds(Cancel, st.just(CAUSE)),
    st.builds(Fail, st.just(CAUSE), st.just("why")),
    st.builds(Retry, st.just(CAUSE)),
)


@settings(max_examples=400, deadline=None)
@given(begin, st.lists(going_on, max_size=25))
def test_any_order_of_events_keeps_the_promises(first: Event, others: list[Event]) -> None:
    life = Lifecycle()
    ended = 0
    for event in (first, *others):
        before = life
        life, effects = step(before, event)
        counts = life.counts
        assert counts.completed >= 0
        assert counts.failed >= 0
        assert counts.completed + counts.failed <= counts.files
        if before.state.is_terminal and life != before:
            assert isinstance(event, Retry)
            assert life.state is RequestState.RUNNING
            assert counts.remaining > 0
        kinds = [type(effect) for effect in effects]
        ended += kinds.count(SetFinishTime)
        ended -= kinds.count(ClearFinish)
        assert ended == int(life.state.is_terminal), "an end is told exactly once"
        if life.state is not before.state:
            assert NotifyWaiters in kinds
        if life.state.is_terminal and life.state is not RequestState.COMPLETE and life != before:
            assert DropWork in kinds
        if life.state is RequestState.COMPLETE:
            assert counts.remaining == 0
        if life.state is RequestState.RUNNING:
            assert counts.remaining > 0
