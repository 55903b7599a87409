"""Arrays that uproot made of the bytes of a file, before anybody relies on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import awkward as ak
import numpy as np


def checked(array: ak.Array, n_entries: int) -> ak.Array:
    """The array itself, if it holds what it says.

    uproot takes the offsets of lists as they are; wrong ones would lead out of the array later.

    Raises:
        ValueError: it has another length, or lists that make no sense.
    """
    if len(array) != n_entries:
        message = f"it has {len(array)} entries where {n_entries} are due"
        raise ValueError(message)
    fault = next(_faults(array.layout), None)
    if fault is not None:
        message = f"its lists make no sense: {fault}"
        raise ValueError(message)
    return array


def _faults(layout: Any) -> Iterator[str]:
    unions: list[Any] = []
    fault = ak.validity_error(_without_unions(layout, unions))
    if fault:
        yield fault
    for union in unions:
        yield from _faults_of_union(union)


def _without_unions(layout: Any, unions: list[Any]) -> Any:
    """The layout with something harmless in the place of each union.

    uproot's unions hold an option for each alternative. awkward calls these mergeable, and looks no
    further.
    """
    if layout.is_union:
        unions.append(layout)
        return ak.contents.NumpyArray(np.zeros(layout.length, np.int8))
    if layout.is_record:
        return layout.copy(contents=[_without_unions(content, unions) for content in layout.contents])
    if layout.is_list or layout.is_option or layout.is_indexed:
        return layout.copy(content=_without_unions(layout.content, unions))
    return layout


def _faults_of_union(union: Any) -> Iterator[str]:
    tags, index = union.tags.data, union.index.data
    if len(index) < len(tags):
        yield f"{len(tags)} alternatives, and places of {len(index)}"
        return
    lengths = np.array([content.length for content in union.contents], np.int64)
    if len(tags) and not 0 <= int(tags.min()) <= int(tags.max()) < len(lengths):
        yield f"alternatives {tags.min()} to {tags.max()} of {len(lengths)}"
        return
    places = index[: len(tags)]
    if bool(np.any(places < 0)) or bool(np.any(places >= lengths[tags])):
        yield "an alternative that is not there"
    for content in union.contents:
        yield from _faults(content)
