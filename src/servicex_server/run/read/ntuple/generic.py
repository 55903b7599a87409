"""Fields as uproot reads them: one at a time, for what the fast path does not know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.plan import types
from servicex_server.run.read.bytes import ByteRange, RangeSource
from servicex_server.run.read.checked import checked
from servicex_server.run.read.form import to_type
from servicex_server.run.read.ntuple.metadata import RNTupleMetadata


class GenericFields:
    """The fields of an RNTuple by number."""

    def __init__(self, ntuple: Any, metadata: RNTupleMetadata, source: RangeSource) -> None:
        self._ntuple = ntuple
        self._metadata = metadata
        self._source = source
        self._parts: dict[int, tuple[Any, list[int]]] = {}

    @cached_property
    def paths(self) -> Mapping[str, int]:
        """As `RNTupleMetadata.paths`, with uproot's names for fields that have the same path."""
        found: dict[str, int] = {}
        with self._source.lock:
            fields = self._ntuple.all_fields
            for number, _ in self._metadata.walk():
                if fields[number].path is not None:
                    found.setdefault(fields[number].path, number)
        return found

    def type_of(self, number: int) -> types.Type:
        return to_type(self._form(number)[0])

    def columns_of(self, number: int) -> list[int]:
        """Numbers of the physical columns behind a field."""
        return self._form(number)[1]

    def read(self, number: int, start: int, stop: int, keep: npt.NDArray[np.bool_] | None) -> ak.Array:
        """The entries `[start, stop)` of a field, or those of them that are kept.

        Raises:
            ValueError: it is not as long as it should be, or its lists make no sense.
            Exception: whatever uproot raises.
        """
        if start == stop or (keep is not None and not keep.any()):
            return ak.Array(self._form(number)[0].length_zero_array())
        if keep is not None:
            first, last = np.flatnonzero(keep)[[0, -1]].tolist()
            start, stop, keep = start + first, start + last + 1, keep[first : last + 1]
        columns = self.columns_of(number)
        with self._source.lock:
            self._source.fetch_ahead(list(self._page_ranges(columns, start, stop)))
            try:
                field = self._ntuple.all_fields[number]
                array = field.array(entry_start=start, entry_stop=stop, array_cache=None)
            finally:
                self._source.forget_ahead()
        array = checked(array, stop - start)
        return array if keep is None else ak.to_packed(array[keep])

    def _page_ranges(self, columns: Sequence[int], start: int, stop: int) -> Iterator[ByteRange]:
        first, _ = self._metadata.find_clusters(start, stop)
        # As uproot counts: an end on a cluster's edge takes the next cluster along.
        last = int(np.searchsorted(self._metadata.first_entries[:-1], stop, side="right"))
        for cluster in range(first, last):
            for column in columns:
                pages = self._metadata.pages(column, cluster)
                if pages is not None:
                    stops = pages["offset"] + pages["size_bytes"]
                    yield from zip(pages["offset"].tolist(), stops.tolist(), strict=True)

    def _form(self, number: int) -> tuple[Any, list[int]]:
        """The form of a field's array, and the numbers of the physical columns behind it."""
        parts = self._parts.get(number)
        if parts is None:
            with self._source.lock:
                field = self._ntuple.all_fields[number]
                form, path = field.to_akform()
            array = ak.Array(form.length_zero_array())
            # uproot builds the outermost list around the field first, and picks the field out of it.
            for name in (*(path or [field.name])[:-1], field.name):
                array = array[name if name in array.fields else "0"]
            parts = self._parts[number] = array.layout.form, sorted(set(_physical(form)))
        return parts


def _physical(form: Any) -> Iterator[int]:
    key = form.form_key or ""
    if key.startswith("column-"):
        yield int(key.split("-")[1])
    contents = getattr(form, "contents", None)
    inner = contents if contents is not None else [form.content] if hasattr(form, "content") else []
    for content in inner:
        if isinstance(content, ak.forms.Form):
            yield from _physical(content)
