"""The life of a request as a pure function: `step(lifecycle, event) -> (lifecycle, effects)`.

    Submitted ──FilesKnown──────────────► Submitted (preflight) ──PreflightPassed──► Running
        │  └────FilesKnown, no preflight ──────────────────────────────────────────► Running
        ├──LookupStarted──► Lookup ────────┐
        └──LookupJoined───► Pending Lookup ┴─FilesetClosed──► Running ──last outcome──► Complete
    a file set without files ► Complete     a failing look-up ► Bad Dataset
    any unfinished: Cancel ► Canceled       Fail, or a rejecting preflight ► Fatal
    ended with failed files: Retry ► Running, for the files without a result

Nothing but a retry leaves a terminal state, and an event that does not fit changes nothing: reports come
twice, late, and out of order. Effects say what whoever stores the state has to do after its commit; each
carries the cause that its event carried, so that logs tell why something happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from servicex_server.model.kinds import RequestState
from servicex_server.model.request import FileCounts

_NO_FILES = FileCounts()


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Where a request stands.

    Attributes:
        state: what clients see.
        counts: files known, delivered and failed.
        is_fileset_complete: no further files will be found.
        is_preflight_pending: no file may start before the query was tried on a first one.
    """

    state: RequestState = RequestState.SUBMITTED
    counts: FileCounts = _NO_FILES
    is_fileset_complete: bool = False
    is_preflight_pending: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a request; `cause` says what, for the log."""

    cause: str


@dataclass(frozen=True, slots=True)
class FilesKnown(Event):
    """The data set's files are all known already (a file list, or an earlier look-up)."""

    files: int
    with_preflight: bool


@dataclass(frozen=True, slots=True)
class LookupStarted(Event):
    """A finder was asked for the data set's files."""

    with_preflight: bool


@dataclass(frozen=True, slots=True)
class LookupJoined(Event):
    """Another request's look-up of the same data set is under way."""

    with_preflight: bool


@dataclass(frozen=True, slots=True)
class FilesFound(Event):
    """The finder found that many more files."""

    files: int


@dataclass(frozen=True, slots=True)
class FilesetClosed(Event):
    """The finder is through; `files` is how many the data set has."""

    files: int


@dataclass(frozen=True, slots=True)
class LookupFailed(Event):
    """The finder reported an error, or did not answer in time."""

    reason: str


@dataclass(frozen=True, slots=True)
class PreflightPassed(Event):
    """Nothing speaks against the query, as far as the sampled files could be read."""


@dataclass(frozen=True, slots=True)
class PreflightRejected(Event):
    """The query does not fit the sampled files."""

    reason: str


@dataclass(frozen=True, slots=True)
class FilesEnded(Event):
    """That many files got their outcome recorded just now."""

    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class CountsAudited(Event):
    """The rows say how many files were delivered and failed."""

    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Cancel(Event):
    """The owner no longer wants the request."""


@dataclass(frozen=True, slots=True)
class Fail(Event):
    """The request as a whole cannot go on."""

    reason: str


@dataclass(frozen=True, slots=True)
class Retry(Event):
    """The owner wants another try for what has no result."""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something to do because of an event, named in `cause`."""

    cause: str


@dataclass(frozen=True, slots=True)
class AskFinder(Effect):
    """Send the look-up to a finder."""


@dataclass(frozen=True, slots=True)
class StartPreflight(Effect):
    """Have a worker try the query on the first files."""


@dataclass(frozen=True, slots=True)
class DispatchFiles(Effect):
    """Offer every known file without an outcome to the workers."""


@dataclass(frozen=True, slots=True)
class DropWork(Effect):
    """Take the request's waiting and running units away from the workers."""


@dataclass(frozen=True, slots=True)
class SetFinishTime(Effect):
    """The request has ended now (stored together with the state).

    Attributes:
        life: as it ended, for the log.
    """

    life: Lifecycle | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ClearFinish(Effect):
    """The request goes on: forget finish time and failure text (stored together with the state)."""


@dataclass(frozen=True, slots=True)
class SetFailure(Effect):
    """Why the request ended as it did, for the user (stored together with the state)."""

    reason: str


@dataclass(frozen=True, slots=True)
class ForgetFailures(Effect):
    """Remove the failed files' outcomes (in the transaction that stores the state)."""


@dataclass(frozen=True, slots=True)
class MarkDatasetStale(Effect):
    """The next submit has to look the data set up again (in the transaction that stores the state)."""


@dataclass(frozen=True, slots=True)
class EnterState(Effect):
    """The stored request is in this state now; whoever stores it says so, for those who count."""

    state: RequestState


@dataclass(frozen=True, slots=True)
class NotifyWaiters(Effect):
    """Wake those who wait for the request."""


Step = tuple[Lifecycle, tuple[Effect, ...]]

_LOOKING = frozenset({RequestState.LOOKUP, RequestState.PENDING_LOOKUP})
_WORKING = frozenset({RequestState.LOOKUP, RequestState.RUNNING})


def step(life: Lifecycle, event: Event) -> Step:
    """What the event makes of the request and what is to be done; an event that does not fit does nothing."""
    if isinstance(event, CountsAudited):
        return _audit(life, event)
    if life.state.is_terminal:
        return _retry(life, event) if isinstance(event, Retry) else (life, ())
    match event:
        case FilesKnown() | LookupStarted() | LookupJoined():
            return _begin(life, event)
        case FilesFound() | FilesetClosed() | LookupFailed():
            return _look_up(life, event) if life.state in _LOOKING else (life, ())
        case PreflightPassed() | PreflightRejected():
            return _preflight(life, event) if life.is_preflight_pending else (life, ())
        case FilesEnded():
            return _count(life, event)
        case Cancel():
            return _end(life, RequestState.CANCELED, event.cause)
        case Fail():
            return _end(life, RequestState.FATAL, event.cause, event.reason)
    return life, ()


def _begin(life: Lifecycle, event: FilesKnown | LookupStarted | LookupJoined) -> Step:
    if life.state is not RequestState.SUBMITTED or life.is_fileset_complete:
        return life, ()
    if isinstance(event, LookupStarted):
        begun = replace(life, state=RequestState.LOOKUP, is_preflight_pending=event.with_preflight)
        return begun, (AskFinder(event.cause), NotifyWaiters(event.cause))
    if isinstance(event, LookupJoined):
        begun = replace(life, state=RequestState.PENDING_LOOKUP, is_preflight_pending=event.with_preflight)
        return begun, (NotifyWaiters(event.cause),)
    known = replace(life, counts=replace(life.counts, files=event.files), is_fileset_complete=True)
    if event.files == 0:
        return _end(known, RequestState.COMPLETE, event.cause)
    if event.with_preflight:
        return replace(known, is_preflight_pending=True), (StartPreflight(event.cause),)
    return _run(known, event.cause)


def _look_up(life: Lifecycle, event: FilesFound | FilesetClosed | LookupFailed) -> Step:
    if isinstance(event, LookupFailed):
        ended, effects = _end(life, RequestState.BAD_DATASET, event.cause, event.reason)
        return ended, (MarkDatasetStale(event.cause), *effects)
    if isinstance(event, FilesFound):
        return _find(life, event)
    files = max(event.files, life.counts.files)  # what was found stays found, whatever the finder sums up
    known = replace(life, counts=replace(life.counts, files=files), is_fileset_complete=True)
    if known.counts.remaining == 0:
        return _end(known, RequestState.COMPLETE, event.cause)
    running = replace(known, state=RequestState.RUNNING)
    if not life.is_preflight_pending:
        return running, (DispatchFiles(event.cause), NotifyWaiters(event.cause))
    # A preflight is under way already if files were found before; a joined look-up starts it now.
    starts = (StartPreflight(event.cause),) if life.counts.files == 0 else ()
    return running, (*starts, NotifyWaiters(event.cause))


def _find(life: Lifecycle, event: FilesFound) -> Step:
    if life.state is not RequestState.LOOKUP or event.files == 0:
        return life, ()  # a joined look-up takes its files when the set is complete
    found = replace(life, counts=replace(life.counts, files=life.counts.files + event.files))
    if not life.is_preflight_pending:
        return found, (DispatchFiles(event.cause),)
    return found, (StartPreflight(event.cause),) if life.counts.files == 0 else ()


def _preflight(life: Lifecycle, event: PreflightPassed | PreflightRejected) -> Step:
    if isinstance(event, PreflightRejected):
        return _end(life, RequestState.FATAL, event.cause, event.reason)
    passed = replace(life, is_preflight_pending=False)
    if life.state is RequestState.SUBMITTED:
        return _run(passed, event.cause)
    return passed, (DispatchFiles(event.cause),)


def _run(life: Lifecycle, cause: str) -> Step:
    return replace(life, state=RequestState.RUNNING), (DispatchFiles(cause), NotifyWaiters(cause))


def _count(life: Lifecycle, event: FilesEnded) -> Step:
    if not accepts_outcomes(life) or event.completed + event.failed > life.counts.remaining:
        return life, ()
    counts = replace(
        life.counts,
        completed=life.counts.completed + event.completed,
        failed=life.counts.failed + event.failed,
    )
    return _complete(replace(life, counts=counts), event.cause)


def accepts_outcomes(life: Lifecycle) -> bool:
    """Whether outcomes of files may be recorded in this state."""
    return life.state in _WORKING


def _audit(life: Lifecycle, event: CountsAudited) -> Step:
    """Takes the counts from the rows, in any state; only a running request completes by it."""
    counts = replace(life.counts, completed=event.completed, failed=event.failed)
    if counts.remaining < 0:
        counts = replace(counts, files=event.completed + event.failed)
    return _complete(replace(life, counts=counts), event.cause)


def _complete(life: Lifecycle, cause: str) -> Step:
    """Only a running request completes: during a look-up more files may come."""
    is_done = life.counts.files > 0 and life.counts.remaining == 0
    if life.state is RequestState.RUNNING and life.is_fileset_complete and is_done:
        return _end(life, RequestState.COMPLETE, cause)
    return life, ()


def _end(life: Lifecycle, state: RequestState, cause: str, reason: str | None = None) -> Step:
    ended = replace(life, state=state, is_preflight_pending=False)
    effects: list[Effect] = [SetFinishTime(cause, ended)]
    if reason is not None:
        effects.append(SetFailure(cause, reason))
    if state is not RequestState.COMPLETE:
        effects.append(DropWork(cause))
    return ended, (*effects, NotifyWaiters(cause))


def _retry(life: Lifecycle, event: Retry) -> Step:
    """Back to work for the failed files, and for those that a cancel or failure left without an outcome."""
    if not life.is_fileset_complete or life.counts.failed == 0:
        return life, ()
    again = replace(life, state=RequestState.RUNNING, counts=replace(life.counts, failed=0))
    cause = event.cause
    return again, (ForgetFailures(cause), ClearFinish(cause), DispatchFiles(cause), NotifyWaiters(cause))
