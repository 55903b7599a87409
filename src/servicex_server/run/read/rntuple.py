"""One RNTuple: its schema, field by field on demand, and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import awkward as ak
import numpy as np

from servicex_server.errors import SourceCorrupt, UnknownName
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
        self._fields: dict[str, Any] | None = None
        self._forms: dict[str, tuple[Any, list[int]]] = {}

    def names(self) -> Sequence[str]:
        return tuple(self._paths())

    def _paths(self) -> Mapping[str, Any]:
        """uproot's field for each path, in the file's order, what is inside a field following it."""
        if self._fields is None:
            with reading(self._location, f"tree {self.name!r}"):
                self._fields = _fields_by_path(self._ntuple)
        return self._fields

    def type_of(self, name: str) -> types.Type:
        try:
            return to_type(self._form(name))
        except SourceCorrupt as error:
            # A field that is stored unsplit: whole objects in bytes.
            if isinstance(error.__cause__, NotImplementedError):
                return types.Unknown(self.typename_of(name))
            raise

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
        return sorted({number for name in columns for number in self._parts(name)[1]})

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
        return self._parts(name)[0]

    def _parts(self, name: str) -> tuple[Any, list[int]]:
        parts = self._forms.get(name)
        if parts is None:
            field = self._find_field(name)
            with reading(self._location, self._place(name)):
                parts = self._forms[name] = _field_form(field)
        return parts

    def _find_field(self, name: str) -> Any:
        field = self._paths().get(name)
        if field is None:
            message = f"no field {name!r} in tree {self.name!r}"
            raise UnknownName(message, name=name)
        return field

    def _place(self, name: str) -> str:
        return f"field {name!r} of tree {self.name!r}"


def _fields_by_path(ntuple: Any) -> dict[str, Any]:
    # uproot's own listing looks through all fields again for each one: seconds on real files.
    children: dict[int, list[int]] = {}
    outermost = []
    for number, record in enumerate(ntuple.field_records):
        if record.parent_field_id == number:
            outermost.append(number)
        else:
            children.setdefault(record.parent_field_id, []).append(number)
    found: dict[str, Any] = {}
    ahead = outermost[::-1]
    while ahead:
        number = ahead.pop()
        field = ntuple.all_fields[number]
        # Fields without a path only carry structure, or cannot be read apart from what they are in.
        if field.path is not None:
            found.setdefault(field.path, field)
        ahead.extend(reversed(children.get(number, ())))
    return found


def _field_form(field: Any) -> tuple[Any, list[int]]:
    """The form of one field's array, and the numbers of the physical columns behind it."""
    form, path = field.to_akform()
    array = ak.Array(form.length_zero_array())
    # uproot builds the outermost list around the field first, and picks the field out of it.
    for name in (*(path or [field.name])[:-1], field.name):
        array = array[name if name in array.fields else "0"]
    return array.layout.form, sorted(set(_physical(form)))


def _physical(form: Any) -> Iterator[int]:
    key = form.form_key or ""
    if key.startswith("column-"):
        yield int(key.split("-")[1])
    contents = getattr(form, "contents", None)
    inner = contents if contents is not None else [form.content] if hasattr(form, "content") else []
    for content in inner:
        if isinstance(content, ak.forms.Form):
            yield from _physical(content)
