"""One table of a result: entries of a tree in, encoded rows out, a chunk at a time or several at once.

A chunk is read, filtered and encoded by one thread, so that it stays in that core's cache and memory is
bounded by the chunks in flight; only appending to the file happens in order.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TypeVar

import awkward as ak
import numpy as np

from servicex_server.errors import QueryTypeError, ServicexError, UnknownName
from servicex_server.model.tally import CutStep, StageSeconds, Tally, WeightSum
from servicex_server.plan.ir import Expr
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.show import show
from servicex_server.plan.types import Bool, List, Number, String, Type
from servicex_server.plan.weight import weight_columns
from servicex_server.run.filter import empty_rows, evaluate, evaluate_lazily
from servicex_server.run.filter.evaluate import Kept, columns_of_all_rows
from servicex_server.run.filter.flat import to_flat
from servicex_server.run.read.chunk import entry_ranges
from servicex_server.run.read.root import Columns
from servicex_server.run.remembered import MOST_PLANS, Remembered
from servicex_server.run.threads import threads
from servicex_server.run.write.protocol import Encoded, Writer

Span = tuple[int, int]
_LEAST_SHARE_BYTES = 8 * 1024 * 1024
"""Of a chunk, uncompressed: for less it does not pay to wake a thread."""

_CHUNKS_AHEAD = 3
"""On their way, besides those at work."""

T = TypeVar("T")


@dataclass(slots=True)
class TableCounts:
    """What became of the entries of one tree.

    Attributes:
        n_in: entries looked at.
        n_out: rows written.
        n_passed: rows that passed each row condition, and those before it.
        weights: for each weight column its sum over all entries, and over those that pass all conditions.
        seconds: of the stages `load`, `filter`, `encode` and `write`, added up over threads.
    """

    n_in: int = 0
    n_out: int = 0
    n_passed: Counter[Expr] = field(default_factory=Counter)
    weights: dict[str, tuple[float, float]] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, other: TableCounts) -> None:
        """Counts the other's entries in."""
        self.n_in += other.n_in
        self.n_out += other.n_out
        self.n_passed.update(other.n_passed)
        for name, sums in other.weights.items():
            before, after = self.weights.get(name, (0.0, 0.0))
            self.weights[name] = (before + sums[0], after + sums[1])
        self.seconds.update(other.seconds)


def write_table(
    writer: Writer, output: BoundOutput, tree: Columns, span: Span, *, chunk_bytes: int, n_threads: int
) -> TableCounts:
    """Appends the output's rows for the entries `[start, stop)` of the tree, in their order.

    Args:
        chunk_bytes: uncompressed bytes of the columns in one chunk.
        n_threads: chunks at once.
    """
    writer.begin(output, evaluate_empty(output, tree))
    spans = list(_chunks(output, tree, span, chunk_bytes, n_threads))
    total = TableCounts()
    weights = _find_weights(output, tree)
    fetch_ahead = _fetcher(output, tree, spans, n_threads)

    def work(part: Span) -> tuple[Encoded, TableCounts]:
        fetch_ahead(part)
        return _encode(writer, output, tree, part, weights)

    chunks = _in_order(work, spans, n_threads)
    # Closed before an error leaves: no chunk may be at work on a writer that is abandoned.
    with contextlib.closing(chunks):
        for encoded, counts in chunks:
            total.add(counts)
            with _Clock(total.seconds, "write"):
                writer.write(encoded)
    return total


def _fetcher(
    output: BoundOutput, tree: Columns, spans: Sequence[Span], n_threads: int
) -> Callable[[Span], None]:
    """What to call with each chunk before work on it begins: the next ones then come meanwhile, from afar.

    The first ones are asked for here, in their order: they share the way, and work begins with the first.
    """
    if not tree.reads_ahead:
        return lambda _part: None
    columns = columns_of_all_rows(output)
    ahead = n_threads - 1 + _CHUNKS_AHEAD
    following = {part: spans[place + ahead : place + ahead + 1] for place, part in enumerate(spans)}
    for part in spans[:ahead]:
        tree.fetch_ahead(columns, *part)

    def fetch(part: Span) -> None:
        for each in following[part]:
            tree.fetch_ahead(columns, *each)

    return fetch


def evaluate_empty(output: BoundOutput, tree: Columns) -> ak.Array:
    """The output for no entries, cut to no rows: tells the types of the result's columns.

    Raises:
        QueryTypeError: the query cannot be evaluated on columns of these types.
    """
    if not output.schema:
        message = f"the query selects no column of tree {output.tree!r}"
        raise UnknownName(message)
    if not output.is_chunkable:
        # A query over all rows of a file (its first, say) may rightly fail where there are none.
        return empty_rows(output)
    forms = _telling_forms(output, tree)
    known = _empties.get(output)
    if known is None or known.forms != forms:
        known = _empties.put(output, _Empty(forms, _evaluate_none(output, tree)))
    return known.rows


@dataclass(frozen=True, slots=True)
class _Empty:
    """What an output is for no entries of columns that have these forms."""

    forms: Mapping[str, object]
    rows: ak.Array


_empties: Remembered[BoundOutput, _Empty] = Remembered(MOST_PLANS)


def _telling_forms(output: BoundOutput, tree: Columns) -> Mapping[str, object]:
    """Awkward's forms of those columns of which the types, that the output was bound to, do not tell all."""
    names = [name for name in output.columns if not _is_plain(tree.type_of(name))]
    return {name: array.layout.form for name, array in tree.read(names, 0, 0).items()} if names else {}


def _is_plain(kind: Type) -> bool:
    while isinstance(kind, List):
        kind = kind.content
    return isinstance(kind, Number | Bool | String)


def _evaluate_none(output: BoundOutput, tree: Columns) -> ak.Array:
    columns: Mapping[str, ak.Array] = tree.read(output.columns, 0, 0)
    try:
        return evaluate(output, columns)[:0]
    except ServicexError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        message = f"the query does not fit the types in tree {output.tree!r}: {reason}"
        raise QueryTypeError(message) from error


def _chunks(
    output: BoundOutput, tree: Columns, span: Span, chunk_bytes: int, n_threads: int
) -> Iterator[Span]:
    start, stop = span
    if not output.is_chunkable:
        yield start, stop
        return
    total_bytes = tree.n_bytes(output.columns)
    yield from entry_ranges(
        start,
        stop,
        boundaries=tree.boundaries(output.columns),
        bytes_per_entry=total_bytes / max(1, tree.n_entries),
        chunk_bytes=chunk_bytes,
        share_bytes=_share_bytes(tree, total_bytes, n_threads),
    )


def _share_bytes(tree: Columns, total_bytes: int, n_threads: int) -> float | None:
    """Of columns from afar some are decoded while others are on their way, also by one thread."""
    if tree.reads_ahead:
        return max(_LEAST_SHARE_BYTES, total_bytes / (8 * n_threads))
    return None if n_threads == 1 else max(_LEAST_SHARE_BYTES, total_bytes / (2 * n_threads))


def _in_order(work: Callable[[Span], T], spans: Sequence[Span], n_threads: int) -> Generator[T]:
    """What the work gives for each span, in order; only few results wait at any time."""
    if n_threads == 1 or len(spans) == 1:
        yield from map(work, spans)
        return
    waiting: deque[Future[T]] = deque()
    pool = threads(n_threads)
    try:
        for span in spans:
            waiting.append(pool.submit(work, span))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        wait([future for future in waiting if not future.cancel()])


def _find_weights(output: BoundOutput, tree: Columns) -> frozenset[str]:
    """Columns with the weight of each event, if their sum after the selection can be told."""
    if not output.is_selection_known:
        return frozenset()
    return frozenset(
        name for name in weight_columns(output.columns) if isinstance(tree.type_of(name), Number)
    )


def _encode(
    writer: Writer, output: BoundOutput, tree: Columns, span: Span, weights: frozenset[str]
) -> tuple[Encoded, TableCounts]:
    """The rows of one chunk, ready to be written."""
    start, stop = span
    counts = TableCounts(n_in=stop - start)
    columns = _ChunkColumns(tree, span, weights, counts.seconds)
    with _Clock(counts.seconds, "filter"):
        evaluation = evaluate_lazily(output, columns.load)
    counts.seconds["filter"] -= counts.seconds["load"]
    counts.n_passed.update(evaluation.n_passed)
    counts.n_out = len(evaluation.rows)
    for name, values in columns.whole.items():
        _sum_weights(counts, name, values, evaluation.kept)
    with _Clock(counts.seconds, "encode"):
        return writer.encode(evaluation.rows), counts


class _ChunkColumns:
    """The columns of one chunk. Weights are read once and whole, as all of them are added up."""

    def __init__(self, tree: Columns, span: Span, weights: frozenset[str], seconds: Counter[str]) -> None:
        self.whole: dict[str, ak.Array] = {}
        self._tree = tree
        self._span = span
        self._weights = weights
        self._seconds = seconds

    def load(self, names: Sequence[str], kept: Kept | None) -> Mapping[str, ak.Array]:
        with _Clock(self._seconds, "load"):
            if kept is None:
                arrays = self._tree.read(names, *self._span)
                self.whole.update((name, arrays[name]) for name in names if name in self._weights)
                return arrays
            weights = [name for name in names if name in self._weights]
            missing = [name for name in weights if name not in self.whole]
            self.whole.update(self._tree.read(missing, *self._span))
            others = [name for name in names if name not in self._weights]
            arrays = self._tree.read(others, *self._span, kept)
            return arrays | {name: self.whole[name][kept] for name in weights}


def _sum_weights(counts: TableCounts, name: str, weights: ak.Array, kept: Kept | None) -> None:
    flat = to_flat(weights)
    if flat is None or flat.offsets is not None or flat.content.dtype.kind not in "iuf":
        return  # several weights per event have no one sum
    values = flat.content.astype(np.float64)
    after = values if kept is None else values[kept]
    counts.weights[name] = (float(values.sum()), float(after.sum()))


def tally_of(
    counts: Sequence[tuple[BoundOutput, TableCounts]], *, bytes_decompressed: int, seconds_waiting: float
) -> Tally:
    """What was counted in all tables of a file, for its user.

    Args:
        bytes_decompressed: of the file's columns.
        seconds_waiting: for bytes of the file; the rest of loading is decompression.
    """
    cut_flow: list[CutStep] = []
    weights: list[WeightSum] = []
    seconds: Counter[str] = Counter()
    tables = _name_tables([output.tree for output, _ in counts])
    for table, (output, part) in zip(tables, counts, strict=True):
        seconds.update(part.seconds)
        cut_flow += [
            CutStep(show(condition, output.row_conditions), part.n_passed[condition], table)
            for condition in output.row_conditions
        ]
        weights += [WeightSum(branch, *sums, table) for branch, sums in part.weights.items()]
    stages = StageSeconds(
        read=seconds_waiting,
        decompress=max(0.0, seconds["load"] - seconds_waiting),
        filter=seconds["filter"],
        encode=seconds["encode"],
        write=seconds["write"],
    )
    return Tally(bytes_decompressed, stages, tuple(cut_flow), tuple(weights))


def _name_tables(trees: Sequence[str]) -> list[str]:
    """What tells the tables of a file apart: the tree, and a number where several are made of one.

    >>> _name_tables(["Events", "Runs", "Events"])
    ['Events #1', 'Runs', 'Events #2']
    """
    totals, seen = Counter(trees), Counter[str]()
    names = []
    for tree in trees:
        seen[tree] += 1
        names.append(tree if totals[tree] == 1 else f"{tree} #{seen[tree]}")
    return names


class _Clock:
    """Adds the seconds that a block takes to a stage."""

    def __init__(self, seconds: Counter[str], stage: str) -> None:
        self._seconds = seconds
        self._stage = stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        # Counters of floats are fine; their type says int.
        self._seconds[self._stage] += time.perf_counter() - self._started  # type: ignore[assignment]
