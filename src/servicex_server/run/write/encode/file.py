"""A Parquet file in the making, by our own encoder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import awkward as ak

from servicex_server.run.write.encode.footer import MAGIC, PlacedGroup, encode_end, place_group
from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.encode.pages import RowGroup, encode_group
from servicex_server.run.write.encode.schema import FileSchema
from servicex_server.run.write.encode.shred import Column, compact, concatenate, n_bytes, shred
from servicex_server.run.write.protocol import Encoded


@dataclass(frozen=True, slots=True)
class _Ready:
    """Row groups that only have to be appended."""

    groups: tuple[RowGroup, ...]


@dataclass(frozen=True, slots=True)
class _Loose:
    """Columns of a small chunk, to be encoded together with those of others."""

    columns: Sequence[Column]


class EncodedFile:
    """Row groups one after the other; small chunks are gathered into one.

    Args:
        n_threads: to encode what was gathered of small chunks, when nobody else is at work.
    """

    def __init__(
        self,
        path: Path,
        schema: FileSchema,
        options: ParquetOptions,
        *,
        details: Mapping[str, str],
        created_by: str,
        n_threads: int = 1,
    ) -> None:
        self._schema = schema
        self._options = options
        self._details = details
        self._created_by = created_by
        self._n_threads = n_threads
        self._groups: list[PlacedGroup] = []
        self._waiting: list[Sequence[Column]] = []
        self._waiting_bytes = 0
        self._waiting_rows = 0
        self._file = path.open("wb")
        self._file.write(MAGIC)
        self._position = len(MAGIC)

    def encode(self, rows: ak.Array) -> Encoded:
        """Row groups of a large chunk, the columns of a small one.

        Raises:
            TypeError: the rows are not of the types that the file has.
        """
        columns = shred(rows, self._schema)
        size = n_bytes(columns)
        options = self._options
        if size < options.direct_bytes and len(rows) < options.group_rows:
            return Encoded(len(rows), size, _Loose(compact(columns)))
        n_groups = min(len(rows), max(-(-size // options.split_bytes), -(-len(rows) // options.group_rows)))
        if n_groups <= 1:
            groups = [encode_group(columns, options)]
        else:
            del columns
            edges = [len(rows) * number // n_groups for number in range(n_groups + 1)]
            parts = (rows[start:stop] for start, stop in itertools.pairwise(edges))
            groups = [encode_group(shred(part, self._schema), options) for part in parts]
        return Encoded(len(rows), sum(group.n_bytes for group in groups), _Ready(tuple(groups)))

    def write(self, encoded: Encoded) -> None:
        """Appends row groups, or keeps columns until there are enough."""
        if not encoded.n_rows:
            return
        match encoded.content:
            case _Ready(groups=groups):
                self._flush()
                for group in groups:
                    self._append(group)
            case _Loose(columns=columns):
                self._gather(columns, encoded)
            case other:
                message = f"a Parquet file cannot write {type(other).__name__}: another writer encoded it"
                raise TypeError(message)

    def _gather(self, columns: Sequence[Column], encoded: Encoded) -> None:
        self._waiting.append(columns)
        self._waiting_bytes += encoded.n_bytes
        self._waiting_rows += encoded.n_rows
        options = self._options
        if self._waiting_bytes >= options.group_bytes or self._waiting_rows >= options.group_rows:
            self._flush()

    def finish(self, empty: ak.Array) -> None:
        """Completes the file; `empty` are no rows of the table."""
        self._flush()
        if not self._groups:
            # awkward cannot read a file without any row group; nor do the official transformers write one.
            self._append(encode_group(shred(empty, self._schema), self._options))
        end = encode_end(self._schema, self._groups, self._details, self._created_by)
        self._file.write(end)
        self._file.close()

    def abandon(self) -> None:
        """Lets go of the file."""
        self._waiting.clear()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            columns = concatenate(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = self._waiting_rows = 0
            self._append(encode_group(columns, self._options, n_threads=self._n_threads))

    def _append(self, group: RowGroup) -> None:
        placed = place_group(group, self._position, self._options.compression)
        for chunk in group.chunks:
            for buffer in chunk.buffers():
                self._file.write(buffer)
        self._groups.append(placed)
        self._position += placed.n_bytes
