"""Work units and what workers say about them: the messages of the queue.

Plain frozen dataclasses of msgpack-able fields, so that every transport can carry them
(msgspec encodes dataclasses as they are).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from servicex_server.model.compression import Compression
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.replica import ReplicaAttempt
from servicex_server.model.tally import NO_TALLY, Tally


class Reason(StrEnum):
    """Why an attempt did not deliver; tells the dispatcher whether another one may help."""

    QUERY = "query"
    """The query does not fit this file (missing tree or branch, wrong type): final."""
    REFUSED = "refused"
    """The file may not be read here: final."""
    CORRUPT = "corrupt"
    """The bytes are broken: final."""
    FORMAT = "format"
    """The result does not fit the output format: final."""
    MISSING = "missing"
    """There is no such local file: final."""
    UNAVAILABLE = "unavailable"
    """Not reachable now: worth another attempt."""
    LOST = "lost"
    """The worker process died (killed, out of memory): worth another attempt."""
    TIMED_OUT = "timed-out"
    """Ran past its deadline: worth another attempt."""
    RESOURCES = "resources"
    """Disk full, memory bound: worth another attempt."""
    INTERNAL = "internal"
    """A defect of the server: final."""

    @property
    def is_transient(self) -> bool:
        return self in _TRANSIENT


_TRANSIENT = frozenset({Reason.UNAVAILABLE, Reason.LOST, Reason.TIMED_OUT, Reason.RESOURCES})


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, in words for the user who asked."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class TransformUnit:
    """One file (or entry range of it) of one request, to be turned into one result object.

    Attributes:
        paths: replicas of the file in the order to try them.
        entry_start: first entry, 0 for the whole file.
        entry_stop: one past the last entry, None for the end of the file.
        store_key: where the result object goes, unless it may be shared.
        attempt: 1 for the first try.
        deadline_s: seconds after which the attempt is ended from outside.
        compression: of the result; None for its format's default.
        owner: who asked; users take turns.
        uses_cache: the result may be one of an earlier request, and serve later ones.
        checksum: of the file's content, if the catalogue knows it, as in `adler32:0a1b2c3d`.
        source_key: where in the store the file is, if it is a result of an earlier request (`model.earlier`)
            and still there.
    """

    request_id: RequestId
    file_id: FileId
    paths: tuple[str, ...]
    codegen: str
    selection: str
    result_format: ResultFormat
    store_key: str
    attempt: int = 1
    deadline_s: float = 3600.0
    entry_start: int = 0
    entry_stop: int | None = None
    tree_name: str | None = None
    compression: Compression | None = None
    owner: str = ""
    uses_cache: bool = False
    checksum: str | None = None
    source_key: str | None = None

    @property
    def adler32(self) -> str | None:
        """The checksum, if it is one of this kind."""
        kind, _, value = (self.checksum or "").partition(":")
        return value if kind == "adler32" else None


@dataclass(frozen=True, slots=True)
class PreflightUnit:
    """Bind a query to the first readable of a few files, before anything is fanned out.

    Attributes:
        files: replicas of up to three files.
        owner: who asked; users take turns.
        source_keys: of these files, as `TransformUnit.source_key`; empty if none is such a result.
    """

    request_id: RequestId
    files: tuple[tuple[str, ...], ...]
    codegen: str
    selection: str
    result_format: ResultFormat
    deadline_s: float = 60.0
    tree_name: str | None = None
    owner: str = ""
    source_keys: tuple[str | None, ...] = ()


Unit = TransformUnit | PreflightUnit


@dataclass(frozen=True, slots=True)
class FileDone:
    """The object of a file is in the store: the file was transformed, now or for an earlier request.

    Attributes:
        path: the replica that was read, or that an earlier result is known of.
        store_key: where the object is, which is not always where the unit said.
        n_events_in: entries read, before any selection; of a python query the rows that it returned.
        n_events_out: rows written, after the selection.
        bytes_read: bytes fetched from the replica.
        size_bytes: size of the result object as the worker saw it; the store has the last word.
        seconds: wall time of the attempt.
        tally: what else was counted and timed.
        is_cached: the object was there already. Rows, cut flow and sums are those of the attempt that made
            it; bytes read and times are those of this one.
        replicas: what happened at each replica that was tried.
    """

    request_id: RequestId
    file_id: FileId
    path: str
    store_key: str
    n_events_in: int
    n_events_out: int
    bytes_read: int
    size_bytes: int
    seconds: float
    attempt: int = 1
    entry_start: int = 0
    tally: Tally = NO_TALLY
    is_cached: bool = False
    replicas: tuple[ReplicaAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class FileFailed:
    """An attempt at a file ended without an object.

    Attributes:
        path: the replica that was tried last.
        replicas: what happened at each that was tried.
    """

    request_id: RequestId
    file_id: FileId
    path: str
    failure: Failure
    seconds: float
    attempt: int = 1
    entry_start: int = 0
    replicas: tuple[ReplicaAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class PreflightDone:
    """What binding the query to the sampled files showed.

    Attributes:
        rejection: the text for the user, if every readable file lacks what the query names
            (or the result cannot be written in the asked format); None lets the request go on.
    """

    request_id: RequestId
    rejection: str | None = None


Report = FileDone | FileFailed | PreflightDone
