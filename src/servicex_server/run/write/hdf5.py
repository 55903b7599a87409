"""HDF5 results: a group for each tree, whose layout docs/hdf5.md tells to those who read it.

Each chunk of a dataset is compressed here and goes into the file as it is. The library would do the same
(shuffle, then deflate), but with a deflate that takes six times as long.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import deflate
import h5py
import numpy as np
from isal import isal_zlib

from servicex_server.errors import FormatError
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.plan import UNNAMED_COLUMN, BoundOutput
from servicex_server.plan.types import Type
from servicex_server.run.write.canonical import columns_of, schema_of
from servicex_server.run.write.fit import (
    ROOT_UNNAMED_BRANCH,
    check_columns,
    check_equal,
    check_trees,
    hdf5_name,
    hdf5_tree_name,
)
from servicex_server.run.write.held import let_go_rows
from servicex_server.run.write.protocol import Encoded
from servicex_server.run.write.unnest import Piece, groups, unnest

LAYOUT_VERSION = 1
CHUNK_BYTES = 64 * 1024
"""Uncompressed size of a dataset's chunks; less than one of them waits in memory for each dataset."""

_TEXT = h5py.string_dtype("utf-8")


class Hdf5Writer:
    """One HDF5 file with a group for each output tree name."""

    def __init__(self, path: Path, compression: Compression, provenance: Mapping[str, str]) -> None:
        # None compresses nothing.
        self._level = None if compression.codec == "none" else compression.level or 1
        # As an open file, whose errors come as they are: the library hides the number of its own.
        self._handle = path.open("w+b")
        self._file = h5py.File(self._handle, "w", track_order=True)
        self._file.attrs["layout"] = "servicex"
        self._file.attrs["layout_version"] = LAYOUT_VERSION
        if provenance:
            self._file.attrs["provenance"] = json.dumps(dict(provenance), sort_keys=True)
        self._tables: dict[str, _Table] = {}
        self._table: _Table | None = None

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        name, schema = output.output_tree, schema_of(empty)
        check_columns(schema, ResultFormat.HDF5)
        if name in self._tables:
            check_equal([self._tables[name].schema, schema], f"several results go into the tree {name!r}")
        else:
            check_trees([*self._tables, name])
            group = self._file.create_group(hdf5_tree_name(name), track_order=True)
            self._tables[name] = _Table(group, schema, unnest(_named(empty)), self._level)
        self._table = self._tables[name]

    def encode(self, rows: ak.Array) -> Encoded:
        pieces = unnest(_named(let_go_rows(rows)))
        return Encoded(len(rows), sum(piece.values.nbytes for piece in pieces), pieces)

    def write(self, encoded: Encoded) -> None:
        if self._table is None:
            message = "rows come before a table has begun"
            raise TypeError(message)
        self._table.append(encoded.n_rows, encoded.content)

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:  # noqa: ARG002 (cannot be done)
        if keys:
            message = f"an HDF5 file cannot hold copied objects ({', '.join(keys[:5])})"
            raise FormatError(message)

    def finish(self) -> None:
        for table in self._tables.values():
            table.finish()
        self._file.close()
        self._handle.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):
            self._file.close()
        self._handle.close()


class _Table:
    """The datasets of one tree. They are made once it shows whether they have rows for a whole chunk."""

    def __init__(
        self, group: Any, schema: Mapping[str, Type], pieces: Sequence[Piece], level: int | None
    ) -> None:
        self.schema = schema
        self._group = group
        group.attrs["layout"] = "table"
        self._kinds = groups({_column_name(name): kind for name, kind in schema.items()})
        self._datasets = [_Dataset(piece, level) for piece in pieces]
        self._n_rows = 0
        self._is_made = False

    def append(self, n_rows: int, pieces: Sequence[Piece]) -> None:
        self._n_rows += n_rows
        for dataset, piece in zip(self._datasets, pieces, strict=True):
            dataset.append(piece)
        if any(dataset.is_full for dataset in self._datasets):
            self._make(is_small=False)
            for dataset in self._datasets:
                dataset.flush()

    def finish(self) -> None:
        self._make(is_small=True)
        for dataset in self._datasets:
            dataset.flush(is_last=True)
        self._group.attrs["rows"] = self._n_rows

    def _make(self, *, is_small: bool) -> None:
        if self._is_made:
            return
        self._is_made = True
        made: dict[tuple[str, ...], Any] = {(): self._group}
        for dataset in self._datasets:
            *outer, last = dataset.path
            for depth in range(1, len(outer) + 1):
                path = tuple(outer[:depth])
                if path not in made:
                    made[path] = _make_named(made[path[:-1]].create_group, path[-1], track_order=True)
                    made[path].attrs["layout"] = self._kinds[path]
            dataset.make(made[tuple(outer)], last, is_small=is_small)


class _Dataset:
    """One dataset that grows by whole chunks."""

    def __init__(self, piece: Piece, level: int | None) -> None:
        values = piece.values
        self._level = level
        self.path = piece.path
        self._dtype = values.dtype
        self._shape = values.shape[1:]
        self._is_text = values.dtype == object
        row_bytes = values.dtype.itemsize * int(np.prod(self._shape, dtype=np.int64))
        self._chunk_rows = max(1, CHUNK_BYTES // row_bytes)
        # Lists begin at zero; each piece adds the ends of its own.
        self._waiting = [np.zeros(1, dtype=np.int64)] if piece.is_offsets else []
        self._n_waiting = len(self._waiting)
        self._n_written = 0
        self._end = 0
        self._dataset: Any = None

    @property
    def is_full(self) -> bool:
        return bool(self._n_waiting >= self._chunk_rows)

    def append(self, piece: Piece) -> None:
        values = piece.values
        if (piece.path, values.dtype, values.shape[1:]) != (self.path, self._dtype, self._shape):
            message = (
                f"a chunk has {values.dtype}{values.shape[1:]} in {'/'.join(piece.path)}, "
                f"the first had {self._dtype}{self._shape} in {'/'.join(self.path)}"
            )
            raise TypeError(message)
        if not len(values):
            return
        if piece.is_offsets:
            values = values + self._end
            self._end = int(values[-1])
        self._waiting.append(values)
        self._n_waiting += len(values)

    def make(self, group: Any, name: str, *, is_small: bool) -> None:
        """Makes the dataset; the chunk of a small one is as large as itself, lest it be mostly empty."""
        if is_small:
            self._chunk_rows = max(1, self._n_waiting)
        options: dict[str, object] = {}
        if not self._is_text and self._level is not None:
            options = {"compression": "gzip", "compression_opts": self._level, "shuffle": True}
        self._dataset = _make_named(
            group.create_dataset,
            name,
            shape=(0, *self._shape),
            maxshape=(None, *self._shape),
            chunks=(self._chunk_rows, *self._shape),
            dtype=_TEXT if self._is_text else self._dtype,
            **options,
        )

    def flush(self, *, is_last: bool = False) -> None:
        """Writes the whole chunks among what waits, and with the last the rest."""
        n_rows = self._n_waiting if is_last else self._n_waiting - self._n_waiting % self._chunk_rows
        if not n_rows:
            return
        values = self._waiting[0] if len(self._waiting) == 1 else np.concatenate(self._waiting)
        start = self._n_written
        self._dataset.resize(start + n_rows, axis=0)
        if self._is_text:
            self._dataset[start : start + n_rows] = values[:n_rows]
        else:
            for first in range(0, n_rows, self._chunk_rows):
                self._write_chunk(start + first, values[first : first + self._chunk_rows])
        self._n_written += n_rows
        self._n_waiting -= n_rows
        # A copy, lest a few rows hold all of the array.
        self._waiting = [values[n_rows:].copy()] if self._n_waiting else []

    def _write_chunk(self, start: int, values: Any) -> None:
        if len(values) < self._chunk_rows:
            whole = np.zeros((self._chunk_rows, *self._shape), dtype=self._dtype)
            whole[: len(values)] = values
            values = whole
        place = (start,) + (0,) * len(self._shape)
        self._dataset.id.write_direct_chunk(place, _compress(np.ascontiguousarray(values), self._level))


def _compress(values: Any, level: int | None) -> Any:
    """The bytes of a chunk as the library's filters would leave them."""
    if level is None:
        return values
    # HDF5's shuffle: the first bytes of all numbers, then all second ones, …
    rows = values.view(np.uint8).reshape(-1, values.dtype.itemsize)
    shuffled = np.ascontiguousarray(rows.T)
    # ISA-L has no more than what is about level 1, three times as fast as anybody else.
    return isal_zlib.compress(shuffled, 1) if level == 1 else deflate.zlib_compress(shuffled, level)


def _named(rows: ak.Array) -> dict[str, ak.Array]:
    return {_column_name(name): array for name, array in columns_of(rows).items()}


def _column_name(name: str) -> str:
    return ROOT_UNNAMED_BRANCH if name == UNNAMED_COLUMN else name


def _make_named(make: Any, name: str, **options: object) -> Any:
    """A new object under a name that HDF5 takes; its attribute tells the true name if that is another."""
    link = hdf5_name(name)
    made = make(link, **options)
    if link != name:
        made.attrs["name"] = name.encode(errors="replace").decode().replace("\0", "�")
    return made
