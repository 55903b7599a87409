"""Parquet results, with the schema that the official transformers give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq

from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.write.canonical import schema_of, to_canonical
from servicex_server.run.write.fit import check_columns
from servicex_server.run.write.protocol import Encoded

ROW_GROUP_BYTES = 32 * 1024 * 1024
"""Chunks are gathered until they hold so many bytes in memory: tiny row groups are slow to read."""


class ParquetWriter:
    """One Parquet file: the rows of all tables, one after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None
        self._schema: Any = None
        self._treename: tuple[str, str] | None = None
        self._empty: Any = None
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._has_rows = False

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        check_columns(schema_of(empty), ResultFormat.PARQUET)
        self._treename = (output.treename_column, output.output_tree) if output.treename_column else None
        self._empty = self._to_table(empty)
        schema = self._empty.schema
        if self._writer is None:
            try:
                self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
            except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
                message = f"Parquet cannot hold {', '.join(schema.names)}: {error}"
                raise FormatError(message) from error
            self._schema = schema
        elif not schema.equals(self._schema):
            message = (
                "Parquet keeps all trees in one table, so all must have the same columns and types; "
                f"tree {output.output_tree!r} differs"
            )
            raise FormatError(message)

    def encode(self, rows: ak.Array) -> Encoded:
        table = self._to_table(rows)
        if not table.schema.equals(self._schema):
            message = f"a chunk has another schema than the first: {table.schema} instead of {self._schema}"
            raise TypeError(message)
        return Encoded(len(rows), table.nbytes, table)

    def write(self, encoded: Encoded) -> None:
        self._waiting.append(encoded.content)
        self._waiting_bytes += encoded.n_bytes
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._flush()

    def _to_table(self, rows: ak.Array) -> Any:
        canonical = to_canonical(rows)
        if self._treename is not None:
            column, name = self._treename
            # Of the type that assigning a text to a column gives, as the official transformers do.
            canonical = to_canonical(ak.with_field(canonical, name, column))
        return ak.to_arrow_table(canonical)

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._has_rows = True
        self._waiting = []
        self._waiting_bytes = 0

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:  # noqa: ARG002 (cannot be done)
        if keys:
            message = f"Parquet cannot hold copied objects ({', '.join(keys[:5])})"
            raise FormatError(message)

    def finish(self) -> None:
        if self._writer is None:
            pq.write_table(pa.table({}), self._path)
            return
        if not (self._has_rows or self._waiting):
            # awkward cannot read a file without any row group; nor do the official transformers write one.
            self._waiting = [self._empty]
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        self._waiting = []
        if self._writer is not None:
            self._writer.close()
