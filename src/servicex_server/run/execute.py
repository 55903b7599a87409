"""One work unit: a query and the places of a file in, a finished result out."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from servicex_server.errors import (
    AttemptLost,
    FormatError,
    InvalidRequest,
    ResourceExhausted,
    ServicexError,
    SourceCorrupt,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
    SpoolUnavailable,
    StoreUnavailable,
)
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.replica import ReplicaAttempt
from servicex_server.model.tally import NO_TALLY, StageSeconds, Tally, from_document
from servicex_server.model.unit import (
    Failure,
    FileDone,
    FileFailed,
    Reason,
    TransformUnit,
)
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput, Plan, ScriptQuery
from servicex_server.plan.tree import require_some_tree
from servicex_server.run.binding import bind_to_file
from servicex_server.run.read.chunk import CHUNK_BYTES
from servicex_server.run.read.root import RootFile
from servicex_server.run.recall import Note, Recall
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.script import transform_script
from servicex_server.run.table import TableCounts, tally_of, write_table
from servicex_server.run.write.fit import check_format
from servicex_server.run.write.open import DISK_FULL, new_result
from servicex_server.source.ahead import AheadSource
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import ByteSource, SourceLimits
from servicex_server.source.reading import Reading
from servicex_server.source.replica import FAULTS, Replicas, ReplicaSource
from servicex_server.source.stored import opener_of
from servicex_server.source.timed import timed
from servicex_server.store.protocol import Store

log = logging.getLogger(__name__)

_DEFAULT_SANDBOX = SandboxLimits()

_REASONS: tuple[tuple[type[BaseException], Reason], ...] = (
    (SourceRefused, Reason.REFUSED),
    (FormatError, Reason.FORMAT),
    (InvalidRequest, Reason.QUERY),
    (SourceCorrupt, Reason.CORRUPT),
    (SourceMissing, Reason.MISSING),
    (SpoolUnavailable, Reason.RESOURCES),
    (SourceUnavailable, Reason.UNAVAILABLE),
    (StoreUnavailable, Reason.UNAVAILABLE),
    (AttemptLost, Reason.LOST),
    (ResourceExhausted, Reason.RESOURCES),
    (MemoryError, Reason.RESOURCES),
)


@dataclass(frozen=True, slots=True)
class TransformSummary:
    """What became of one file.

    Attributes:
        path: the result file.
        location: the replica that was read, safe to show.
        n_events_in: entries read, before any selection; of a python query the rows that it returned.
        n_events_out: rows written.
        bytes_read: bytes fetched from the replica.
        size_bytes: size of the result file.
        seconds: wall time.
        tally: what else was counted and timed.
        missing_trees: trees that the query names and the file lacks, where the query tolerates that.
        question_key: under which others find the result, if it may be kept for them.
        earlier: the result of an earlier request that answers the same; there is no file then.
        replicas: what happened at each replica that was tried.
    """

    path: Path
    location: str
    n_events_in: int
    n_events_out: int
    bytes_read: int
    size_bytes: int
    seconds: float
    tally: Tally = NO_TALLY
    missing_trees: tuple[str, ...] = ()
    question_key: str | None = None
    earlier: Note | None = None
    replicas: tuple[ReplicaAttempt, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryRange:
    """The entries of each tree that a transform looks at."""

    start: int = 0
    stop: int | None = None
    most: int | None = None

    def within(self, n_entries: int) -> tuple[int, int]:
        start = min(self.start, n_entries)
        stop = n_entries if self.stop is None else min(self.stop, n_entries)
        if self.most is not None:
            stop = min(stop, start + self.most)
        return start, max(start, stop)


@functools.lru_cache(maxsize=64)
def load_plan(codegen: str, selection: str, tree_name: str | None) -> Plan:
    """The parsed query; a worker meets the same text once per file."""
    return parse(codegen, selection, tree_name=tree_name)


def transform_file(
    locations: str | Sequence[str] | Replicas,
    *,
    codegen: str,
    selection: str,
    result_format: ResultFormat,
    output: Path,
    policy: SourcePolicy,
    tree_name: str | None = None,
    entry_start: int = 0,
    entry_stop: int | None = None,
    max_events: int | None = None,
    reading: Reading | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    n_threads: int = 1,
    sandbox: SandboxLimits | None = _DEFAULT_SANDBOX,
    compression: Compression | None = None,
    needs_tree: bool = False,
) -> TransformSummary:
    """Runs a query over one file and writes its result to `output`, which appears when it is complete.

    Args:
        locations: the file, or its replicas in the order to try them; `Replicas` if opening has begun, which
            know `policy` and `reading` already.
        tree_name: the tree, for query languages whose text need not name one.
        entry_start, entry_stop: entries of each tree to look at.
        max_events: look at no more than so many entries of each tree.
        reading: how replicas are read.
        chunk_bytes: uncompressed bytes of the columns to work on at once, per thread.
        n_threads: threads to work with.
        sandbox: what the code of a python query may use; None where such queries are switched off.
        compression: of the result; None for its format's default.
        needs_tree: refuse a file that has none of the trees which the query names, instead of making an
            empty result.

    Raises:
        InvalidRequest: the query, the input or the output format is at fault.
        TransformError: the file could not be transformed.
    """
    if isinstance(locations, Replicas):
        replicas = locations
    else:
        replicas = Replicas((locations,) if isinstance(locations, str) else locations, policy, reading)
    work = _Work(
        plan=load_plan(codegen, selection, tree_name),
        result_format=result_format,
        output=output,
        entries=EntryRange(entry_start, entry_stop, max_events),
        chunk_bytes=chunk_bytes,
        n_threads=n_threads,
        sandbox=sandbox,
        compression=compression,
        needs_tree=needs_tree,
    )
    return _transform_replicas(replicas, work)


@dataclass(frozen=True, slots=True)
class _Work:
    """What to do with a file, whichever of its replicas is read; as the arguments of `transform_file`."""

    plan: Plan
    result_format: ResultFormat
    output: Path
    entries: EntryRange = EntryRange()
    chunk_bytes: int = CHUNK_BYTES
    n_threads: int = 1
    sandbox: SandboxLimits | None = _DEFAULT_SANDBOX
    compression: Compression | None = None
    needs_tree: bool = False
    recall: Recall | None = None
    started: float = field(default_factory=time.monotonic)


def _transform_replicas(replicas: Replicas, work: _Work) -> TransformSummary:
    if work.plan.script is not None and work.entries != EntryRange():
        message = "a python query reads files whole: the number of events cannot be limited"
        raise InvalidRequest(message)
    while True:
        source = replicas.open()
        try:
            summary = _answer(replicas, source, work)
        except FAULTS as fault:
            replicas.give_up(fault)
            continue
        except BaseException:
            replicas.finish()
            raise
        replicas.finish()
        seconds = time.monotonic() - work.started
        return replace(summary, location=replicas.location, seconds=seconds, replicas=replicas.attempts)


def _answer(replicas: Replicas, source: ByteSource, work: _Work) -> TransformSummary:
    recall = work.recall
    with closing(source):
        question_key = recall.ask(work.plan, source, replicas.given_location) if recall is not None else None
        earlier = recall.find(question_key) if recall is not None and question_key else None
        if earlier is not None:
            summary = _recalled(source, work, earlier)
        elif work.plan.script is not None:
            summary = _run_script(work.plan.script, replicas.given_location, source, work)
        else:
            summary = _transform_source(_reading_ahead(source, replicas.limits), work)
    if isinstance(source, ReplicaSource) and source.is_mixed:
        question_key = None  # it names the content of the replica that was opened
    return replace(summary, question_key=question_key)


def _recalled(source: ByteSource, work: _Work, earlier: Note) -> TransformSummary:
    return TransformSummary(
        path=work.output,
        location=source.location,
        n_events_in=earlier.n_events_in,
        n_events_out=earlier.n_events_out,
        bytes_read=source.bytes_read,
        size_bytes=earlier.size_bytes,
        seconds=0.0,
        # What was found holds for this request too, but not the work that it took.
        tally=replace(from_document(earlier.tally), bytes_decompressed=0, seconds=StageSeconds()),
        earlier=earlier,
    )


def _run_script(script: ScriptQuery, location: str, source: ByteSource, work: _Work) -> TransformSummary:
    counts = transform_script(
        script,
        source,
        location,
        result_format=work.result_format,
        output=work.output,
        sandbox=work.sandbox,
        compression=work.compression,
        provenance=_provenance(work.plan),
        started=work.started,
    )
    return TransformSummary(
        path=work.output,
        location=source.location,
        # Nobody but the code knows how many entries it looked at.
        n_events_in=counts.n_rows,
        n_events_out=counts.n_rows,
        bytes_read=counts.bytes_read,
        size_bytes=work.output.stat().st_size,
        seconds=0.0,
        tally=counts.tally,
    )


def _reading_ahead(source: ByteSource, limits: SourceLimits) -> ByteSource:
    """The source as it is, if it is a local one, whose bytes are at hand."""
    return AheadSource(source, limits.ahead_bytes) if isinstance(source, ReplicaSource) else source


def _transform_source(opened: ByteSource, work: _Work) -> TransformSummary:
    source = timed(opened)
    with RootFile(source) as file:
        counts, missing_trees = _write_result(file, work)
        return TransformSummary(
            path=work.output,
            location=source.location,
            # Several tables may be made of one tree, whose entries count once.
            n_events_in=sum({table.tree: part.n_in for table, part in counts}.values()),
            n_events_out=sum(part.n_out for _, part in counts),
            bytes_read=source.bytes_read,
            size_bytes=work.output.stat().st_size,
            seconds=0.0,
            tally=tally_of(
                counts, bytes_decompressed=file.bytes_decompressed, seconds_waiting=source.seconds_waiting
            ),
            missing_trees=missing_trees,
        )


def _write_result(
    file: RootFile, work: _Work
) -> tuple[list[tuple[BoundOutput, TableCounts]], tuple[str, ...]]:
    """Writes the result; what happened to each of its tables, and the trees that are missing."""
    bound = bind_to_file(work.plan, file)
    if work.needs_tree:
        require_some_tree(bound, file)
    check_format(bound, work.result_format)
    counts: list[tuple[BoundOutput, TableCounts]] = []
    with new_result(
        work.output,
        work.result_format,
        work.compression,
        provenance=_provenance(work.plan),
        n_threads=work.n_threads,
    ) as writer:
        for output in bound.outputs:
            tree = file.tree(output.tree)
            span = work.entries.within(tree.n_entries)
            part = write_table(
                writer, output, tree, span, chunk_bytes=work.chunk_bytes, n_threads=work.n_threads
            )
            counts.append((output, part))
        writer.copy(file.directory, bound.copied_objects)
    return counts, bound.missing_trees


@functools.lru_cache(maxsize=64)
def _provenance(plan: Plan) -> Mapping[str, str]:
    """What a result says of its origin: the question, and who answered it; nothing of people or places."""
    digest = hashlib.sha256(plan.canonical().encode()).hexdigest()
    return {"plan": digest, "engine": f"servicex-server {importlib.metadata.version('servicex-server')}"}


def transform_unit(
    unit: TransformUnit,
    store: Store,
    policy: SourcePolicy,
    *,
    reading: Reading | None = None,
    n_threads: int = 1,
    sandbox: SandboxLimits | None = _DEFAULT_SANDBOX,
) -> FileDone | FileFailed:
    """Transforms a file and puts the result into the store; a failure is an outcome, not an exception."""
    started = time.monotonic()
    recall = Recall(store, unit) if unit.uses_cache else None
    opener = opener_of(store, unit.paths[0], unit.source_key) if unit.paths else None
    replicas = Replicas(unit.paths, policy, reading, adler32=unit.adler32, opener=opener)
    path = store.scratch_folder() / f"{uuid.uuid4().hex}{unit.result_format.extension}"
    try:
        work = _Work(
            plan=load_plan(unit.codegen, unit.selection, unit.tree_name),
            result_format=unit.result_format,
            output=path,
            entries=EntryRange(unit.entry_start, unit.entry_stop),
            n_threads=n_threads,
            sandbox=sandbox,
            compression=unit.compression,
            recall=recall,
        )
        summary = _transform_replicas(replicas, work)
        store_key, size_bytes = _store(store, unit, recall, summary)
    except Exception as error:  # whatever happens, the request must hear of it
        failure = to_failure(error)
        if failure.reason is Reason.INTERNAL:
            log.exception("file %s of request %s failed unexpectedly", unit.file_id, unit.request_id)
        return FileFailed(
            request_id=unit.request_id,
            file_id=unit.file_id,
            path=replicas.location,
            failure=failure,
            seconds=time.monotonic() - started,
            attempt=unit.attempt,
            entry_start=unit.entry_start,
            replicas=replicas.attempts,
        )
    finally:
        path.unlink(missing_ok=True)
    return FileDone(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=summary.location,
        store_key=store_key,
        n_events_in=summary.n_events_in,
        n_events_out=summary.n_events_out,
        bytes_read=summary.bytes_read,
        size_bytes=size_bytes,
        seconds=time.monotonic() - started,
        attempt=unit.attempt,
        entry_start=unit.entry_start,
        tally=summary.tally,
        is_cached=summary.earlier is not None,
        replicas=summary.replicas,
    )


def _store(
    store: Store, unit: TransformUnit, recall: Recall | None, summary: TransformSummary
) -> tuple[str, int]:
    """Key and size of the result in the store, where it is put unless an earlier request did."""
    if summary.earlier is not None:
        return summary.earlier.store_key, summary.earlier.size_bytes
    if recall is not None and summary.question_key is not None:
        stored = recall.keep(summary.question_key, summary.path, summary)
    else:
        stored = store.put_file(unit.store_key, summary.path)
    return stored.key, stored.size_bytes


def to_failure(error: BaseException) -> Failure:
    """What a user hears of an error, and whether another attempt may help."""
    reason = next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.INTERNAL)
    if isinstance(error, ServicexError):
        return Failure(reason, error.message)
    if reason is Reason.RESOURCES:
        return Failure(reason, "the worker ran out of memory")
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        # Of a temporary file, say: another worker, or the same one later, may have room.
        return Failure(Reason.RESOURCES, f"the worker's disk is full: {error.strerror}")
    first_line = (str(error).strip().splitlines() or [""])[0][:300]
    return Failure(reason, f"the server met an unexpected error: {type(error).__name__}: {first_line}")
