"""Arrow IPC files: the random access kind, which pyarrow, polars and others map into memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import pyarrow as pa

from servicex_server.errors import FormatError
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of, to_canonical
from servicex_server.run.write.fit import check_columns
from servicex_server.run.write.held import let_go_rows
from servicex_server.run.write.origin import to_metadata, with_treename
from servicex_server.run.write.protocol import Encoded
from servicex_server.run.write.unnest import with_gaps

BATCH_BYTES = 4 * 1024 * 1024
"""Chunks are gathered until they hold so many bytes in memory: a batch of few rows costs as much to read."""


class ArrowWriter:
    """One Arrow file: the rows of all tables, one after the other, in record batches."""

    def __init__(self, path: Path, compression: Compression, provenance: Mapping[str, str]) -> None:
        self._compression = compression
        self._details = to_metadata(provenance)
        self._sink = pa.OSFile(str(path), "wb")
        self._writer: Any = None
        self._schema: Any = None
        self._output: BoundOutput | None = None
        self._empty: Any = None
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._has_batches = False

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        check_columns(schema_of(empty), ResultFormat.ARROW)
        self._output = output
        table = _to_table(empty, output)
        schema = table.schema
        if self._writer is None:
            self._writer = self._open(schema)
            self._schema, self._empty = schema, table
        elif not schema.equals(self._schema):
            message = (
                "an Arrow file keeps all trees in one table, so all must have the same columns and types; "
                f"tree {output.output_tree!r} differs"
            )
            raise FormatError(message)

    def encode(self, rows: ak.Array) -> Encoded:
        if self._output is None:
            message = "rows before the first table was begun"
            raise RuntimeError(message)
        table = _to_table(let_go_rows(rows), self._output)
        if not table.schema.equals(self._schema):
            message = f"a chunk has another schema than the first: {table.schema} instead of {self._schema}"
            raise TypeError(message)
        return Encoded(len(rows), table.nbytes, table)

    def write(self, encoded: Encoded) -> None:
        if not encoded.n_rows:
            return
        self._waiting.append(encoded.content)
        self._waiting_bytes += encoded.n_bytes
        if self._waiting_bytes >= BATCH_BYTES:
            self._flush()

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:  # noqa: ARG002 (cannot be done)
        if keys:
            message = f"an Arrow file cannot hold copied objects ({', '.join(keys[:5])})"
            raise FormatError(message)

    def finish(self) -> None:
        if self._writer is None:
            self._writer = self._open(pa.schema([]))
        elif not (self._waiting or self._has_batches):
            # Some readers take the columns' types from the first batch.
            self._waiting = [self._empty]
        self._flush()
        self._writer.close()
        self._sink.close()

    def abandon(self) -> None:
        self._waiting = []
        self._sink.close()

    def _open(self, schema: Any) -> Any:
        # Buffers are compressed by Arrow's own threads, without the interpreter's lock.
        match self._compression:
            case Compression(codec="none"):
                codec = None
            case Compression(codec="zstd", level=level):
                codec = pa.Codec("zstd", compression_level=level or 1)
            case Compression(codec=name):
                codec = pa.Codec(name)
        options = pa.ipc.IpcWriteOptions(compression=codec)
        return pa.ipc.new_file(self._sink, schema.with_metadata(self._details), options=options)

    def _flush(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting).combine_chunks()
            columns = [column.chunk(0) for column in table.columns]
            self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
            self._has_batches = True
        self._waiting = []
        self._waiting_bytes = 0


def _to_table(rows: ak.Array, output: BoundOutput) -> Any:
    canonical = to_canonical(with_treename(rows, output))
    # Plain types: polars and pyarrow compute on lists, not on awkward's extensions of them.
    return ak.to_arrow_table(ak.Array(_masked(canonical.layout)), extensionarray=False)


def _masked(layout: Any) -> Any:
    """Masks instead of indexes for what is missing: awkward fails at an index where all is missing."""
    if layout.is_option:
        valid = layout.index.data >= 0
        content = with_gaps(to_canonical(ak.Array(layout.project())).layout, valid)
        return ak.contents.ByteMaskedArray(ak.index.Index8(valid), _masked(content), valid_when=True)
    if layout.is_record:
        return layout.copy(contents=[_masked(content) for content in layout.contents])
    if layout.is_list and layout.parameter("__array__") is None:
        return layout.copy(content=_masked(layout.content))
    return layout
