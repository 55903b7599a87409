"""A python query over one file: its code runs in the sandbox, what it returns becomes a result file."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import awkward as ak

from servicex_server.errors import FormatError, UnknownCodegen
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.tally import StageSeconds, Tally
from servicex_server.plan.ir import Zip
from servicex_server.plan.plan import (
    DEFAULT_OUTPUT_TREE,
    TREENAME_COLUMN,
    BoundOutput,
    BoundPlan,
    ScriptQuery,
)
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.process import InputFile, run_script
from servicex_server.run.sandbox.result import ScriptOutput
from servicex_server.run.sandbox.stage import plain_name, staged
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.fit import check_format
from servicex_server.run.write.open import new_result
from servicex_server.run.write.protocol import Writer
from servicex_server.source.local import LocalSource
from servicex_server.source.protocol import ByteSource

CHUNK_BYTES = 64 * 2**20
"""The result is encoded in pieces of about this size."""
_LEAST_TIME_S = 1.0


@dataclass(frozen=True, slots=True)
class ScriptCounts:
    """What a script did.

    Attributes:
        n_rows: rows that it returned.
        bytes_read: size of the file that it was given.
        tally: seconds to fetch the file (`read`), to run the code, its own reading included (`filter`), and
            to write the result (`encode`). Nothing else shows from outside.
    """

    n_rows: int
    bytes_read: int
    tally: Tally


def transform_script(
    script: ScriptQuery,
    source: ByteSource,
    location: str,
    *,
    result_format: ResultFormat,
    output: Path,
    sandbox: SandboxLimits | None,
    compression: Compression | None,
    provenance: Mapping[str, str],
    started: float,
) -> ScriptCounts:
    """Runs the code over one replica, which is closed then, and writes what it returns to `output`.

    Args:
        source: the replica.
        location: of it; the code is told the file's name.
        sandbox: what the code may use; None where python queries are switched off.
        compression: of the result; None for its format's default.
        provenance: what the result says of its origin.
        started: when the work at this file began, with other replicas maybe, on the monotonic clock.

    Raises:
        QueryError: the code failed; says in which of its lines.
        FormatError: what it returned does not fit the format.
        TransformError: the replica cannot be read, or the sandbox does not start.
    """
    opened = time.monotonic()
    try:
        if sandbox is None:
            message = "the code generator 'python' is switched off here"
            raise UnknownCodegen(message)
        with _input(source, location, output.parent, sandbox, started) as input_file:
            fetched = time.monotonic()
            left_s = max(_LEAST_TIME_S, started + sandbox.file_time_s - fetched)
            limits = replace(sandbox, time_s=min(sandbox.time_s, round(left_s, 1)))
            arrays = run_script(script.source, input_file, limits, output.parent)
            ended = time.monotonic()
    finally:
        source.close()
    outputs = [_to_output(each) for each in arrays]
    if result_format is ResultFormat.PARQUET and len(outputs) > 1:
        outputs = _stack(outputs)
    check_format(BoundPlan(tuple(bound for bound, _ in outputs)), result_format)
    with new_result(output, result_format, compression, provenance=provenance) as writer:
        for bound, array in outputs:
            _write(writer, bound, array)
    seconds = StageSeconds(read=fetched - opened, filter=ended - fetched, encode=time.monotonic() - ended)
    return ScriptCounts(sum(len(array) for _, array in outputs), source.size_bytes, Tally(seconds=seconds))


@contextmanager
def _input(
    source: ByteSource, location: str, scratch: Path, sandbox: SandboxLimits, started: float
) -> Iterator[InputFile]:
    """The file for the sandbox: a local one where it lies, any other as a copy."""
    name = plain_name(location)
    if isinstance(source, LocalSource):
        # The path may come to lead elsewhere before the sandbox opens it.
        yield InputFile(Path(source.location), name, _identity(source))
        return
    with staged(source, scratch, sandbox.input_bytes, started + sandbox.fetch_time_s) as copy:
        yield InputFile(copy, name)


def _identity(source: ByteSource) -> tuple[int, int, int]:
    size, changed_ns, inode = map(int, source.identity.rsplit(":", 3)[1:])
    return size, changed_ns, inode


def _to_output(script_output: ScriptOutput) -> tuple[BoundOutput, ak.Array]:
    array = script_output.array
    bound = BoundOutput(
        tree="",
        output_tree=script_output.name or DEFAULT_OUTPUT_TREE,
        columns=(),
        row_conditions=(),
        expression=Zip((), (), 1),
        schema=schema_of(array[:0]),
    )
    return bound, array


def _stack(outputs: Sequence[tuple[BoundOutput, ak.Array]]) -> list[tuple[BoundOutput, ak.Array]]:
    """Several keys for one table: rows of one after those of the other, told apart by a column.

    Raises:
        FormatError: they are of different types.
    """
    first, _ = outputs[0]
    for bound, _ in outputs[1:]:
        if list(bound.schema.items()) != list(first.schema.items()):
            message = (
                "Parquet holds one table, so all keys of the returned dict must have equal columns; "
                f"{first.output_tree!r} has {_show(first)}, {bound.output_tree!r} has {_show(bound)}. "
                "root-file and root-rntuple keep a tree for each key; ak.zip makes one array of several"
            )
            raise FormatError(message)
    named = []
    for bound, array in outputs:
        table = array if array.layout.is_record else ak.zip({"": array}, depth_limit=1)
        named.append((_with_treename(bound), table))
    return named


def _with_treename(bound: BoundOutput) -> BoundOutput:
    return BoundOutput(
        tree=bound.tree,
        output_tree=bound.output_tree,
        columns=(),
        row_conditions=(),
        expression=bound.expression,
        schema=bound.schema,
        treename_column=TREENAME_COLUMN,
    )


def _show(bound: BoundOutput) -> str:
    shown = [f"{name} {kind}" if name else str(kind) for name, kind in bound.schema.items()]
    return ", ".join(shown[:8]) + (", …" if len(shown) > 8 else "")


def _write(writer: Writer, bound: BoundOutput, array: ak.Array) -> None:
    writer.begin(bound, array[:0])
    n_rows = max(1, CHUNK_BYTES * len(array) // max(1, array.nbytes))
    for start in range(0, len(array), n_rows):
        writer.write(writer.encode(array[start : start + n_rows]))
