"""Parquet results, with the schema that the official transformers give them."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import awkward as ak
import pyarrow as pa
import pyarrow.parquet as pq

from servicex_server.errors import FormatError
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.remembered import MOST_PLANS, Remembered
from servicex_server.run.write.canonical import schema_of, to_canonical
from servicex_server.run.write.encode.file import EncodedFile
from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.encode.schema import FileSchema, UnknownToEncoder, read_schema
from servicex_server.run.write.fit import check_columns
from servicex_server.run.write.held import let_go_rows
from servicex_server.run.write.origin import to_metadata, with_treename
from servicex_server.run.write.protocol import Encoded


class ParquetWriter:
    """One Parquet file: the rows of all tables, one after the other.

    Args:
        provenance: what the file says of its origin.
        n_threads: to encode with.
    """

    def __init__(
        self,
        path: Path,
        options: ParquetOptions | None = None,
        provenance: Mapping[str, str] | None = None,
        *,
        n_threads: int = 1,
    ) -> None:
        self._path = path
        self._n_threads = n_threads
        self._options = options or ParquetOptions()
        self._details = to_metadata(provenance)
        self._file: _File | None = None
        self._schema: Any = None
        self._output: BoundOutput | None = None
        self._empty: Any = None

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        kind = _layouts.get(empty)
        if kind is None or kind.output is not output:
            kind = _layouts.put(empty, _describe(output, empty))
        self._output = output
        self._empty = kind.empty
        if self._file is None:
            try:
                self._file = self._open(kind)
            except (pa.ArrowNotImplementedError, pa.ArrowTypeError, pa.ArrowInvalid) as error:
                message = f"Parquet cannot hold {', '.join(kind.schema.names)}: {error}"
                raise FormatError(message) from error
            self._schema = kind.schema
        elif not kind.schema.equals(self._schema):
            message = (
                "Parquet keeps all trees in one table, so all must have the same columns and types; "
                f"tree {output.output_tree!r} differs"
            )
            raise FormatError(message)

    def _open(self, kind: _Layout) -> _File:
        if kind.encoder_schema is None:
            # One column that only pyarrow can write is enough.
            return ArrowFile(self._path, kind.schema, self._options, details=self._details)
        schema = kind.encoder_schema
        return EncodedFile(
            self._path,
            schema,
            self._options,
            details=self._details,
            created_by=_created_by(),
            n_threads=self._n_threads,
        )

    def encode(self, rows: ak.Array) -> Encoded:
        file, output = self._begun()
        return file.encode(with_treename(rows, output))

    def write(self, encoded: Encoded) -> None:
        file, _ = self._begun()
        file.write(encoded)

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:  # noqa: ARG002 (cannot be done)
        if keys:
            message = f"Parquet cannot hold copied objects ({', '.join(keys[:5])})"
            raise FormatError(message)

    def finish(self) -> None:
        if self._file is None:
            pq.write_table(pa.table({}), self._path)
            return
        self._file.finish(self._empty)

    def abandon(self) -> None:
        if self._file is not None:
            self._file.abandon()

    def _begun(self) -> tuple[_File, BoundOutput]:
        if self._file is None or self._output is None:
            message = "rows before the first table was begun"
            raise RuntimeError(message)
        return self._file, self._output


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the rows of an output are as a table.

    Attributes:
        empty: no rows of it, in the layout of all chunks.
        schema: for pyarrow.
        encoder_schema: for our encoder; None if it does not know all types.
    """

    output: BoundOutput
    empty: ak.Array
    schema: pa.Schema
    encoder_schema: FileSchema | None


def _describe(output: BoundOutput, empty: ak.Array) -> _Layout:
    check_columns(schema_of(empty), ResultFormat.PARQUET)
    canonical = to_canonical(with_treename(empty, output))
    table = ak.to_arrow_table(canonical)
    try:
        encoder_schema = read_schema(table, canonical.layout.form)
    except UnknownToEncoder:
        encoder_schema = None
    return _Layout(output, canonical, table.schema, encoder_schema)


_layouts: Remembered[ak.Array, _Layout] = Remembered(MOST_PLANS)


class _File(Protocol):
    """A file whose schema is known."""

    def encode(self, rows: ak.Array) -> Encoded: ...

    def write(self, encoded: Encoded) -> None: ...

    def finish(self, empty: ak.Array) -> None: ...

    def abandon(self) -> None: ...


class ArrowFile:
    """A file that pyarrow encodes, for types that our encoder does not know."""

    def __init__(
        self, path: Path, schema: pa.Schema, options: ParquetOptions, *, details: Mapping[str, str]
    ) -> None:
        self._schema = schema
        self._options = options
        codec = {"none": None, "lz4_raw": "lz4"}.get(options.compression, options.compression)
        kept = schema.with_metadata({**(schema.metadata or {}), **details})
        self._writer = pq.ParquetWriter(path, kept, compression=codec, compression_level=options.level)
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        self._has_rows = False

    def encode(self, rows: ak.Array) -> Encoded:
        table = ak.to_arrow_table(let_go_rows(to_canonical(rows)))
        if not table.schema.equals(self._schema):
            message = f"a chunk has another schema than the first: {table.schema} instead of {self._schema}"
            raise TypeError(message)
        return Encoded(len(rows), table.nbytes, table)

    def write(self, encoded: Encoded) -> None:
        self._waiting.append(encoded.content)
        self._waiting_bytes += encoded.n_bytes
        if self._waiting_bytes >= self._options.group_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
            self._has_rows = True
        self._waiting = []
        self._waiting_bytes = 0

    def finish(self, empty: ak.Array) -> None:
        if not (self._has_rows or self._waiting):
            # awkward cannot read a file without any row group; nor do the official transformers write one.
            self._waiting = [ak.to_arrow_table(empty)]
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        self._waiting = []
        self._writer.close()


@functools.cache
def _created_by() -> str:
    # Readers parse this text; the official tools write it in this form.
    return f"servicex-server version {importlib.metadata.version('servicex-server')}"
