"""One RNTuple: its schema, field by field on demand, and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import awkward as ak
import numpy as np

from servicex_server.errors import UnknownName
from servicex_server.plan import types
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.faults import reading
from servicex_server.run.read.form import to_type


class RNTupleColumns:
    """An RNTuple as columns, named by the path of the field (`outer.inner`)."""

    def __init__(self, name: str, ntuple: Any, location: str) -> None:
        self.name = name
        self.n_entries = int(ntuple.num_entries)
        self._ntuple = ntuple
        self._location = location
        self._source: RangeSource = ntuple.file.source
        self._names: tuple[str, ...] | None = None
        self._forms: dict[str, Any] = {}

    def names(self) -> Sequence[str]:
        if self._names is None:
            # Field by field: listing all nested keys at once takes uproot seconds on real files.
            self._names = tuple(
                name
                for field in self._ntuple.fields
                for name in (field.name, *(f"{field.name}.{inner}" for inner in field.iterkeys()))
            )
        return self._names

    def type_of(self, name: str) -> types.Type:
        try:
            return to_type(self._form(name))
        except NotImplementedError:
            return types.Unknown(self.typename_of(name))

    def typename_of(self, name: str) -> str:
        return str(self._find_field(name).typename)

    def read(self, columns: Sequence[str], start: int, stop: int) -> dict[str, ak.Array]:
        """The columns' entries `[start, stop)`."""
        if start == stop:
            return {name: ak.Array(self._form(name).length_zero_array()) for name in columns}
        with reading(self._location, f"tree {self.name!r}"):
            numbers = self._column_numbers(columns)
            self._source.fetch_ahead(list(self._page_ranges(numbers, start, stop)))
        try:
            return {name: self._read_field(name, start, stop) for name in columns}
        finally:
            self._source.forget_ahead()

    def _read_field(self, name: str, start: int, stop: int) -> ak.Array:
        field = self._find_field(name)
        with reading(self._location, self._place(name)):
            array = field.array(entry_start=start, entry_stop=stop, array_cache=None)
            if len(array) != stop - start:
                message = f"it has {len(array)} entries where {stop - start} are due"
                raise ValueError(message)
            return array

    def n_bytes(self, columns: Sequence[str]) -> int:
        """Uncompressed bytes of the columns over all entries."""
        with reading(self._location, f"tree {self.name!r}"):
            records = self._ntuple.column_records
            return sum(
                page.num_elements * int(records[number].nbits) // 8
                for pages in self._ntuple.page_link_list
                for number in self._column_numbers(columns)
                if number < len(pages)
                for page in pages[number].pages
            )

    def boundaries(self, columns: Sequence[str]) -> Sequence[int]:  # noqa: ARG002 (one set for all columns)
        """Entry numbers at which a reader may stop without decompressing much twice."""
        starts = [int(cluster.num_first_entry) for cluster in self._ntuple.cluster_summaries]
        return [*starts, self.n_entries]

    def _column_numbers(self, columns: Sequence[str]) -> list[int]:
        """Numbers of the physical columns behind the named fields."""
        return sorted({number for name in columns for number in _physical(self._form(name))})

    def _page_ranges(self, numbers: Sequence[int], start: int, stop: int) -> Iterator[ByteRange]:
        firsts = np.array([cluster.num_first_entry for cluster in self._ntuple.cluster_summaries])
        first_cluster = max(0, int(np.searchsorted(firsts, start, side="right")) - 1)
        # As uproot counts: an end on a cluster's edge takes the next cluster along.
        last_cluster = int(np.searchsorted(firsts, stop, side="right"))
        for pages in self._ntuple.page_link_list[first_cluster:last_cluster]:
            for number in numbers:
                for page in pages[number].pages if number < len(pages) else ():
                    yield page.locator.offset, page.locator.offset + page.locator.num_bytes

    def _form(self, name: str) -> Any:
        form = self._forms.get(name)
        if form is None:
            field = self._find_field(name)
            with reading(self._location, self._place(name)):
                form = self._forms[name] = _field_form(field)
        return form

    def _find_field(self, name: str) -> Any:
        try:
            return self._ntuple[name]
        except KeyError as error:
            message = f"no field {name!r} in tree {self.name!r}"
            raise UnknownName(message, name=name) from error

    def _place(self, name: str) -> str:
        return f"field {name!r} of tree {self.name!r}"


def _field_form(field: Any) -> Any:
    """The form of one field's array, out of the form of the record that uproot builds around it."""
    form, path = field.to_akform()
    for outer in (path or [field.name])[:-1]:
        form = form.content(outer)
    return form.content(field.name)


def _physical(form: Any) -> Iterator[int]:
    key = form.form_key or ""
    if key.startswith("column-"):
        yield int(key.split("-")[1])
    contents = getattr(form, "contents", None)
    inner = contents if contents is not None else [form.content] if hasattr(form, "content") else []
    for content in inner:
        if isinstance(content, ak.forms.Form):
            yield from _physical(content)
