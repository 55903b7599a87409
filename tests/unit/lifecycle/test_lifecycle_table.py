"""Every state meets every event."""

from __future__ import annotations

import pytest

from servicex_server.model.kinds import RequestState as S
from servicex_server.model.lifecycle import (
    AskFinder,
    Cancel,
    ClearFinish,
    CountsAudited,
    DispatchFiles,
    DropWork,
    Event,
    Fail,
    FilesEnded,
    FilesetClosed,
    FilesFound,
    FilesKnown,
    ForgetFailures,
    Lifecycle,
    LookupFailed,
    LookupJoined,
    LookupStarted,
    MarkDatasetStale,
    NotifyWaiters,
    PreflightPassed,
    PreflightRejected,
    Retry,
    SetFailure,
    SetFinishTime,
    StartPreflight,
    accepts_outcomes,
    step,
)
from servicex_server.model.request import FileCounts

C = "a cause"

LIVES = {
    "new": Lifecycle(),
    "tried": Lifecycle(S.SUBMITTED, FileCounts(3), is_fileset_complete=True, is_preflight_pending=True),
    "looking": Lifecycle(S.LOOKUP),
    "looking, tried": Lifecycle(S.LOOKUP, FileCounts(2), is_preflight_pending=True),
    "looking, found": Lifecycle(S.LOOKUP, FileCounts(2, 1, 0)),
    "looking, all so far": Lifecycle(S.LOOKUP, FileCounts(2, 1, 1)),
    "joined": Lifecycle(S.PENDING_LOOKUP),
    "joined, to be tried": Lifecycle(S.PENDING_LOOKUP, is_preflight_pending=True),
    "running": Lifecycle(S.RUNNING, FileCounts(3, 1, 1), is_fileset_complete=True),
    "running, tried": Lifecycle(
        S.RUNNING, FileCounts(3), is_fileset_complete=True, is_preflight_pending=True
    ),
    "complete": Lifecycle(S.COMPLETE, FileCounts(3, 3, 0), is_fileset_complete=True),
    "complete, failed": Lifecycle(S.COMPLETE, FileCounts(3, 2, 1), is_fileset_complete=True),
    "fatal": Lifecycle(S.FATAL, FileCounts(3), is_fileset_complete=True),
    "fatal, failed": Lifecycle(S.FATAL, FileCounts(3, 0, 1), is_fileset_complete=True),
    "fatal, looking": Lifecycle(S.FATAL, FileCounts(3, 0, 1)),
    "canceled": Lifecycle(S.CANCELED, FileCounts(3, 1, 0), is_fileset_complete=True),
    "canceled, failed": Lifecycle(S.CANCELED, FileCounts(3, 0, 2), is_fileset_complete=True),
    "bad": Lifecycle(S.BAD_DATASET),
}

EVENTS: dict[str, Event] = {
    "known": FilesKnown(C, 3, with_preflight=False),
    "known, try": FilesKnown(C, 3, with_preflight=True),
    "known, none": FilesKnown(C, 0, with_preflight=True),
    "lookup": LookupStarted(C, with_preflight=True),
    "join": LookupJoined(C, with_preflight=False),
    "found": FilesFound(C, 2),
    "found none": FilesFound(C, 0),
    "closed 2": FilesetClosed(C, 2),
    "closed 0": FilesetClosed(C, 0),
    "lookup failed": LookupFailed(C, "no such DID"),
    "passed": PreflightPassed(C),
    "rejected": PreflightRejected(C, "no branch"),
    "ended": FilesEnded(C, 1, 0),
    "ended badly": FilesEnded(C, 0, 1),
    "audited": CountsAudited(C, 2, 1),
    "cancel": Cancel(C),
    "fail": Fail(C, "stop"),
    "retry": Retry(C),
}

RUN = (DispatchFiles(C), NotifyWaiters(C))
COMPLETE = (SetFinishTime(C), NotifyWaiters(C))
FATAL = (SetFinishTime(C), SetFailure(C, "stop"), DropWork(C), NotifyWaiters(C))
REJECTED = (SetFinishTime(C), SetFailure(C, "no branch"), DropWork(C), NotifyWaiters(C))
BAD = (MarkDatasetStale(C), SetFinishTime(C), SetFailure(C, "no such DID"), DropWork(C), NotifyWaiters(C))
AGAIN = (ForgetFailures(C), ClearFinish(C), *RUN)

# (state, event) -> new state, (files, completed, failed), effects. What is not listed changes nothing;
# cancel, fail and audit follow rules of their own below.
TABLE = {
    ("new", "known"): (S.RUNNING, (3, 0, 0), RUN),
    ("new", "known, try"): (S.SUBMITTED, (3, 0, 0), (StartPreflight(C),)),
    ("new", "known, none"): (S.COMPLETE, (0, 0, 0), COMPLETE),
    ("new", "lookup"): (S.LOOKUP, (0, 0, 0), (AskFinder(C), NotifyWaiters(C))),
    ("new", "join"): (S.PENDING_LOOKUP, (0, 0, 0), (NotifyWaiters(C),)),
    ("tried", "passed"): (S.RUNNING, (3, 0, 0), RUN),
    ("tried", "rejected"): (S.FATAL, (3, 0, 0), REJECTED),
    ("looking", "found"): (S.LOOKUP, (2, 0, 0), (DispatchFiles(C),)),
    ("looking", "closed 2"): (S.RUNNING, (2, 0, 0), RUN),
    ("looking", "closed 0"): (S.COMPLETE, (0, 0, 0), COMPLETE),
    ("looking", "lookup failed"): (S.BAD_DATASET, (0, 0, 0), BAD),
    ("looking, tried", "found"): (S.LOOKUP, (4, 0, 0), ()),
    ("looking, tried", "closed 2"): (S.RUNNING, (2, 0, 0), (NotifyWaiters(C),)),
    ("looking, tried", "closed 0"): (S.RUNNING, (2, 0, 0), (NotifyWaiters(C),)),
    ("looking, tried", "lookup failed"): (S.BAD_DATASET, (2, 0, 0), BAD),
    ("looking, tried", "passed"): (S.LOOKUP, (2, 0, 0), (DispatchFiles(C),)),
    ("looking, tried", "rejected"): (S.FATAL, (2, 0, 0), REJECTED),
    ("looking, tried", "ended"): (S.LOOKUP, (2, 1, 0), ()),
    ("looking, tried", "ended badly"): (S.LOOKUP, (2, 0, 1), ()),
    ("looking, found", "found"): (S.LOOKUP, (4, 1, 0), (DispatchFiles(C),)),
    ("looking, found", "closed 2"): (S.RUNNING, (2, 1, 0), RUN),
    ("looking, found", "closed 0"): (S.RUNNING, (2, 1, 0), RUN),
    ("looking, found", "lookup failed"): (S.BAD_DATASET, (2, 1, 0), BAD),
    ("looking, found", "ended"): (S.LOOKUP, (2, 2, 0), ()),
    ("looking, found", "ended badly"): (S.LOOKUP, (2, 1, 1), ()),
    ("looking, all so far", "found"): (S.LOOKUP, (4, 1, 1), (DispatchFiles(C),)),
    ("looking, all so far", "closed 2"): (S.COMPLETE, (2, 1, 1), COMPLETE),
    ("looking, all so far", "closed 0"): (S.COMPLETE, (2, 1, 1), COMPLETE),
    ("looking, all so far", "lookup failed"): (S.BAD_DATASET, (2, 1, 1), BAD),
    ("joined", "closed 2"): (S.RUNNING, (2, 0, 0), RUN),
    ("joined", "closed 0"): (S.COMPLETE, (0, 0, 0), COMPLETE),
    ("joined", "lookup failed"): (S.BAD_DATASET, (0, 0, 0), BAD),
    ("joined, to be tried", "closed 2"): (S.RUNNING, (2, 0, 0), (StartPreflight(C), NotifyWaiters(C))),
    ("joined, to be tried", "closed 0"): (S.COMPLETE, (0, 0, 0), COMPLETE),
    ("joined, to be tried", "lookup failed"): (S.BAD_DATASET, (0, 0, 0), BAD),
    ("joined, to be tried", "passed"): (S.PENDING_LOOKUP, (0, 0, 0), (DispatchFiles(C),)),
    ("joined, to be tried", "rejected"): (S.FATAL, (0, 0, 0), REJECTED),
    ("running", "ended"): (S.COMPLETE, (3, 2, 1), COMPLETE),
    ("running", "ended badly"): (S.COMPLETE, (3, 1, 2), COMPLETE),
    ("running, tried", "passed"): (S.RUNNING, (3, 0, 0), (DispatchFiles(C),)),
    ("running, tried", "rejected"): (S.FATAL, (3, 0, 0), REJECTED),
    ("running, tried", "ended"): (S.RUNNING, (3, 1, 0), ()),
    ("running, tried", "ended badly"): (S.RUNNING, (3, 0, 1), ()),
    ("complete, failed", "retry"): (S.RUNNING, (3, 2, 0), AGAIN),
    ("fatal, failed", "retry"): (S.RUNNING, (3, 0, 0), AGAIN),
    ("canceled, failed", "retry"): (S.RUNNING, (3, 0, 0), AGAIN),
}


@pytest.mark.parametrize("event_name", [name for name in EVENTS if name != "audited"])
@pytest.mark.parametrize("life_name", LIVES)
def test_every_state_meets_every_event(life_name: str, event_name: str) -> None:
    before, event = LIVES[life_name], EVENTS[event_name]
    after, effects = step(before, event)
    expected = TABLE.get((life_name, event_name))
    if expected is None and not before.state.is_terminal and event_name == "cancel":
        assert after.state is S.CANCELED
        assert after.counts == before.counts
        assert effects == (SetFinishTime(C), DropWork(C), NotifyWaiters(C))
    elif expected is None and not before.state.is_terminal and event_name == "fail":
        assert after.state is S.FATAL
        assert after.counts == before.counts
        assert effects == FATAL
    elif expected is None:
        assert (after, effects) == (before, ())
    else:
        assert (after.state, after.counts, effects) == (expected[0], FileCounts(*expected[1]), expected[2])


@pytest.mark.parametrize("life_name", LIVES)
def test_an_audit_takes_the_counts_from_the_rows(life_name: str) -> None:
    before = LIVES[life_name]
    after, effects = step(before, CountsAudited(C, 2, 1))
    assert (after.counts.completed, after.counts.failed) == (2, 1)
    assert after.counts.remaining >= 0
    if before.state is S.RUNNING:
        assert after.state is S.COMPLETE
        assert effects == COMPLETE
    else:
        assert after.state is before.state
        assert effects == ()


def test_the_preflight_is_over_once_it_passed() -> None:
    passed, _ = step(LIVES["tried"], PreflightPassed(C))
    assert step(passed, PreflightRejected(C, "too late")) == (passed, ())
    assert step(passed, PreflightPassed(C)) == (passed, ())


def test_a_joined_lookup_is_tried_when_its_files_are_known() -> None:
    life, effects = step(LIVES["joined, to be tried"], FilesetClosed(C, 2))
    assert StartPreflight(C) in effects
    assert step(life, PreflightPassed(C))[1] == (DispatchFiles(C),)


def test_files_known_twice_change_nothing() -> None:
    life, _ = step(Lifecycle(), FilesKnown(C, 3, with_preflight=True))
    assert step(life, FilesKnown(C, 3, with_preflight=True)) == (life, ())


def test_more_outcomes_than_files_are_left_to_the_audit() -> None:
    life = LIVES["running"]
    assert step(life, FilesEnded(C, 2, 0)) == (life, ())


def test_outcomes_are_taken_while_files_are_worked_on() -> None:
    taking = {life.state for life in LIVES.values() if accepts_outcomes(life)}
    assert taking == {S.LOOKUP, S.RUNNING}


@pytest.mark.parametrize("event_name", EVENTS)
@pytest.mark.parametrize("life_name", LIVES)
def test_effects_carry_the_cause_of_their_event(life_name: str, event_name: str) -> None:
    _, effects = step(LIVES[life_name], EVENTS[event_name])
    assert {effect.cause for effect in effects} <= {C}
