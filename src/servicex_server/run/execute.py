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
from dataclasses import dataclass, replace
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
    StoreUnavailable,
)
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.naming import show_location
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
from servicex_server.run.write.open import new_result
from servicex_server.source.open import open_source
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import ByteSource, SourceLimits
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
    locations: str | Sequence[str],
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
    limits: SourceLimits | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    n_threads: int = 1,
    sandbox: SandboxLimits | None = _DEFAULT_SANDBOX,
    compression: Compression | None = None,
    needs_tree: bool = False,
    recall: Recall | None = None,
) -> TransformSummary:
    """Runs a query over one file and writes its result to `output`, which appears when it is complete.

    Args:
        locations: the file, or its replicas in the order to try them.
        tree_name: the tree, for query languages whose text need not name one.
        entry_start, entry_stop: entries of each tree to look at.
        max_events: look at no more than so many entries of each tree.
        chunk_bytes: uncompressed bytes of the columns to work on at once, per thread.
        n_threads: threads to work with.
        sandbox: what the code of a python query may use; None where such queries are switched off.
        compression: of the result; None for its format's default.
        needs_tree: refuse a file that has none of the trees which the query names, instead of making an
            empty result.
        recall: what earlier requests made, which is looked at before the query is run.

    Raises:
        InvalidRequest: the query, the input or the output format is at fault.
        TransformError: the file could not be transformed.
    """
    replicas = (locations,) if isinstance(locations, str) else tuple(locations)
    plan = load_plan(codegen, selection, tree_name)
    entries = EntryRange(entry_start, entry_stop, max_events)
    if plan.script is not None and entries != EntryRange():
        message = "a python query reads files whole: the number of events cannot be limited"
        raise InvalidRequest(message)
    task = _Task(
        plan=plan,
        result_format=result_format,
        output=output,
        policy=policy,
        entries=entries,
        limits=limits,
        chunk_bytes=chunk_bytes,
        n_threads=n_threads,
        sandbox=sandbox,
        compression=compression,
        needs_tree=needs_tree,
        recall=recall,
        started=time.monotonic(),
    )
    faults: list[ServicexError] = []
    for replica in replicas:
        try:
            return _transform_replica(task, replica)
        except (SourceUnavailable, SourceRefused, SourceCorrupt) as fault:
            log.info("replica failed: %s", fault.message)
            faults.append(fault)
    raise _worst_of(faults)


@dataclass(frozen=True, slots=True)
class _Task:
    """The arguments of `transform_file`, for one replica after the other."""

    plan: Plan
    result_format: ResultFormat
    output: Path
    policy: SourcePolicy
    entries: EntryRange
    limits: SourceLimits | None
    chunk_bytes: int
    n_threads: int
    sandbox: SandboxLimits | None
    compression: Compression | None
    needs_tree: bool
    recall: Recall | None
    started: float


def _transform_replica(task: _Task, replica: str) -> TransformSummary:
    opened = time.monotonic()
    with closing(open_source(replica, task.policy, task.limits)) as source:
        question_key = task.recall.ask(task.plan, source, replica) if task.recall is not None else None
        earlier = task.recall.find(question_key) if task.recall is not None and question_key else None
        if earlier is not None:
            summary = _recalled(task, replica, source, earlier)
        elif task.plan.script is not None:
            summary = _run_script(task, task.plan.script, replica, source, opened)
        else:
            summary = _run_plan(task, replica, source)
    return replace(summary, question_key=question_key, seconds=time.monotonic() - task.started)


def _recalled(task: _Task, replica: str, source: ByteSource, earlier: Note) -> TransformSummary:
    return TransformSummary(
        path=task.output,
        location=show_location(replica),
        n_events_in=earlier.n_events_in,
        n_events_out=earlier.n_events_out,
        bytes_read=source.bytes_read,
        size_bytes=earlier.size_bytes,
        seconds=0.0,
        # What was found holds for this request too, but not the work that it took.
        tally=replace(from_document(earlier.tally), bytes_decompressed=0, seconds=StageSeconds()),
        earlier=earlier,
    )


def _run_script(
    task: _Task, script: ScriptQuery, replica: str, source: ByteSource, opened: float
) -> TransformSummary:
    counts = transform_script(
        script,
        replica,
        source,
        result_format=task.result_format,
        output=task.output,
        sandbox=task.sandbox,
        compression=task.compression,
        provenance=_provenance(task.plan),
        started=task.started,
        opened=opened,
    )
    return TransformSummary(
        path=task.output,
        location=show_location(replica),
        # Nobody but the code knows how many entries it looked at.
        n_events_in=counts.n_rows,
        n_events_out=counts.n_rows,
        bytes_read=counts.bytes_read,
        size_bytes=task.output.stat().st_size,
        seconds=0.0,
        tally=counts.tally,
    )


def _run_plan(task: _Task, replica: str, source: ByteSource) -> TransformSummary:
    clocked = timed(source)
    with RootFile(clocked) as file:
        counts, missing_trees = _transform(
            file,
            task.plan,
            result_format=task.result_format,
            path=task.output,
            entries=task.entries,
            chunk_bytes=task.chunk_bytes,
            n_threads=task.n_threads,
            compression=task.compression,
            needs_tree=task.needs_tree,
        )
        tally = tally_of(
            counts,
            bytes_decompressed=file.bytes_decompressed,
            seconds_waiting=clocked.seconds_waiting,
        )
        return TransformSummary(
            path=task.output,
            location=show_location(replica),
            # Several tables may be made of one tree, whose entries count once.
            n_events_in=sum({table.tree: part.n_in for table, part in counts}.values()),
            n_events_out=sum(part.n_out for _, part in counts),
            bytes_read=clocked.bytes_read,
            size_bytes=task.output.stat().st_size,
            seconds=0.0,
            tally=tally,
            missing_trees=missing_trees,
        )


def _worst_of(faults: Sequence[ServicexError]) -> ServicexError:
    """One error for all replicas: the kind that lets the file be tried again, if one may help."""
    if not faults:
        message = "the file has no location"
        return SourceUnavailable(message)
    if len(faults) == 1:
        return faults[0]
    may_come = [fault for fault in faults if to_failure(fault).reason.is_transient]
    kind = type((may_come or faults)[0])
    message = "no replica can be read: " + "; ".join(fault.message for fault in faults)
    return kind(message)


def _transform(
    file: RootFile,
    plan: Plan,
    *,
    result_format: ResultFormat,
    path: Path,
    entries: EntryRange,
    chunk_bytes: int,
    n_threads: int,
    compression: Compression | None,
    needs_tree: bool,
) -> tuple[list[tuple[BoundOutput, TableCounts]], tuple[str, ...]]:
    """Writes the result; what happened to each of its tables, and the trees that are missing."""
    bound = bind_to_file(plan, file)
    if needs_tree:
        require_some_tree(bound, file)
    check_format(bound, result_format)
    counts: list[tuple[BoundOutput, TableCounts]] = []
    with new_result(
        path, result_format, compression, provenance=_provenance(plan), n_threads=n_threads
    ) as writer:
        for output in bound.outputs:
            tree = file.tree(output.tree)
            span = entries.within(tree.n_entries)
            counts.append(
                (
                    output,
                    write_table(writer, output, tree, span, chunk_bytes=chunk_bytes, n_threads=n_threads),
                )
            )
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
    limits: SourceLimits | None = None,
    n_threads: int = 1,
    sandbox: SandboxLimits | None = _DEFAULT_SANDBOX,
) -> FileDone | FileFailed:
    """Transforms a file and puts the result into the store; a failure is an outcome, not an exception."""
    started = time.monotonic()
    recall = Recall(store, unit) if unit.uses_cache else None
    path = store.scratch_folder() / f"{uuid.uuid4().hex}{unit.result_format.extension}"
    try:
        summary = transform_file(
            unit.paths,
            codegen=unit.codegen,
            selection=unit.selection,
            result_format=unit.result_format,
            output=path,
            policy=policy,
            tree_name=unit.tree_name,
            entry_start=unit.entry_start,
            entry_stop=unit.entry_stop,
            limits=limits,
            n_threads=n_threads,
            sandbox=sandbox,
            compression=unit.compression,
            recall=recall,
        )
        store_key, size_bytes = _store(store, unit, recall, summary)
    except Exception as error:  # whatever happens, the request must hear of it
        failure = to_failure(error)
        if failure.reason is Reason.INTERNAL:
            log.exception("file %s of request %s failed unexpectedly", unit.file_id, unit.request_id)
        return FileFailed(
            request_id=unit.request_id,
            file_id=unit.file_id,
            path=show_location(unit.paths[0]) if unit.paths else "",
            failure=failure,
            seconds=time.monotonic() - started,
            attempt=unit.attempt,
            entry_start=unit.entry_start,
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
    first_line = (str(error).strip().splitlines() or [""])[0][:300]
    return Failure(reason, f"the server met an unexpected error: {type(error).__name__}: {first_line}")
