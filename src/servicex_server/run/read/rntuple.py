"""One RNTuple: its schema, field by field on demand, and its columns."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.errors import ServicexError, SourceCorrupt, UnknownName
from servicex_server.plan import types
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.faults import reading
from servicex_server.run.read.ntuple.assemble import Assembler
from servicex_server.run.read.ntuple.columns import ColumnReader, PageSource
from servicex_server.run.read.ntuple.generic import GenericFields
from servicex_server.run.read.ntuple.metadata import load_metadata
from servicex_server.run.read.ntuple.shape import Column, Shape, Shapes, columns_in, type_of
from servicex_server.run.read.ntuple.spans import one_span, spans_of_mask
from servicex_server.run.read.ntuple.tables import PageTables


class RNTupleColumns:
    """An RNTuple as columns, named by the path of the field (`outer.inner`), for any number of threads."""

    def __init__(
        self,
        name: str,
        ntuple: Any,
        *,
        checks_pages: bool = True,
    ) -> None:
        """Reads the metadata. Another source may take the place of the file's later.

        Args:
            name: of the tree.
            ntuple: uproot's model of it.
            checks_pages: whether the checksums of pages are compared.

        Raises:
            SourceCorrupt: the metadata are broken.
        """
        self.name = name
        source: RangeSource = ntuple.file.source
        with reading(source.location, f"tree {name!r}"):
            self._metadata = load_metadata(source, ntuple)
        self.n_entries = self._metadata.n_entries
        self._shapes = Shapes(self._metadata)
        self._tables = PageTables(self._metadata)
        self._pages = PageSource(source, checks_pages)
        self._generic = GenericFields(ntuple, self._metadata, source)

    @property
    def _location(self) -> str:
        return self._pages.file.location

    def names(self) -> Sequence[str]:
        return tuple(self._paths)

    @cached_property
    def _paths(self) -> dict[str, int]:
        with reading(self._location, f"tree {self.name!r}"):
            found = self._metadata.paths
            return dict(self._generic.paths if found is None else found)

    def type_of(self, name: str) -> types.Type:
        shape = self._find_shape(name)
        if shape is not None:
            return type_of(shape)
        try:
            with self._reading(name):
                return self._generic.type_of(self._number(name))
        except SourceCorrupt as error:
            # A field that is stored unsplit: whole objects in bytes.
            if isinstance(error.__cause__, NotImplementedError):
                return types.Unknown(self.typename_of(name))
            raise

    def typename_of(self, name: str) -> str:
        return self._metadata.fields[self._number(name)].type_name

    def is_fast(self, name: str) -> bool:
        """Whether the field is decoded here; else uproot reads it."""
        return self._find_shape(name) is not None

    def read(
        self, columns: Sequence[str], start: int, stop: int, keep: npt.NDArray[np.bool_] | None = None
    ) -> dict[str, ak.Array]:
        """The columns' entries `[start, stop)`, or those of them that are kept.

        Args:
            columns: paths of fields.
            start: the first entry.
            stop: the first entry after these.
            keep: which entries to return, shape (stop - start,). Pages without any are neither read nor
                decompressed.

        Raises:
            SourceCorrupt: the bytes are not what the format promises.
            SourceUnavailable: they cannot be had.
            UnknownName: there is no such field.
            ValueError: there are no such entries, or `keep` does not fit them.
        """
        if not 0 <= start <= stop <= self.n_entries:
            message = f"entries {start} to {stop} of a tree of {self.n_entries}"
            raise ValueError(message)
        if keep is not None and (keep.dtype != np.bool_ or keep.shape != (stop - start,)):
            message = f"keep has {keep.shape} values of {keep.dtype} for {stop - start} entries"
            raise ValueError(message)
        shapes = {name: self._find_shape(name) for name in columns}
        known = {name: shape for name, shape in shapes.items() if shape is not None}
        found = self._read_known(known, start, stop, keep)
        for name in columns:
            if name not in known:
                found[name] = self._read_generic(name, start, stop, keep)
        return {name: found[name] for name in columns}

    def _read_known(
        self, shapes: dict[str, Shape], start: int, stop: int, keep: npt.NDArray[np.bool_] | None
    ) -> dict[str, ak.Array]:
        entries = one_span(start, stop) if keep is None else spans_of_mask(keep, start)
        owners: dict[Column, str] = {}
        for name, shape in shapes.items():
            for column in columns_in(shape):
                owners.setdefault(column, name)

        def naming(column: Column) -> AbstractContextManager[None]:
            return self._reading(owners[column])

        reader = ColumnReader(self._tables, self._pages, naming)
        with reading(self._location, f"tree {self.name!r}"):
            reader.read(owners, entries)
        assembler = Assembler(reader.values, reader.offsets)
        n_rows = int(entries.counts.sum())
        found = {}
        for name, shape in shapes.items():
            with self._reading(name):
                found[name] = assembler.build(shape, n_rows)
        return found

    @property
    def reads_ahead(self) -> bool:
        """Whether `fetch_ahead` does anything."""
        return self._pages.file.reads_ahead

    def fetch_ahead(self, columns: Sequence[str], start: int, stop: int) -> None:
        """Begins to fetch what `read` will ask for, where that is worth it; what is wrong shows there."""

        def find() -> list[ByteRange]:
            shapes = [self._find_shape(name) for name in columns]
            known = [column for shape in shapes if shape is not None for column in columns_in(shape)]
            reader = ColumnReader(self._tables, self._pages, lambda _column: contextlib.nullcontext())
            return reader.places(known, one_span(start, stop))

        with contextlib.suppress(ServicexError, ValueError):
            self._pages.file.begin(find)

    def _read_generic(self, name: str, start: int, stop: int, keep: npt.NDArray[np.bool_] | None) -> ak.Array:
        number = self._number(name)
        with self._reading(name):
            return self._generic.read(number, start, stop, keep)

    def n_bytes(self, columns: Sequence[str]) -> int:
        """Uncompressed bytes of the columns over all entries."""
        numbers = {number for name in columns for number in self._columns_of(name)}
        with reading(self._location, f"tree {self.name!r}"):
            return sum(map(self._tables.n_bytes, numbers))

    def boundaries(self, columns: Sequence[str]) -> Sequence[int]:  # noqa: ARG002 (one set for all columns)
        """Entry numbers at which a reader may stop without decompressing much twice: those of clusters."""
        edges: list[int] = self._metadata.first_entries.tolist()
        return edges

    def _columns_of(self, name: str) -> Sequence[int]:
        """Numbers of the physical columns behind a field."""
        shape = self._find_shape(name)
        if shape is not None:
            return [column.number for column in columns_in(shape)]
        with self._reading(name):
            return self._generic.columns_of(self._number(name))

    def _find_shape(self, name: str) -> Shape | None:
        with self._reading(name):
            return self._shapes.find(self._number(name))

    def _number(self, name: str) -> int:
        number = self._paths.get(name)
        if number is None:
            message = f"no field {name!r} in tree {self.name!r}"
            raise UnknownName(message, name=name)
        return number

    def _reading(self, name: str) -> AbstractContextManager[None]:
        return reading(self._location, f"field {name!r} of tree {self.name!r}")
