"""Memory that rows hold while they wait to be written: no more than they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any, TypeVar

import awkward as ak
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Key = TypeVar("Key", bound=Hashable)

_MOST_RATIO = 2
"""Memory may be so many times as large as what is used of it; beyond, that is copied."""


def let_go(arrays: Mapping[Key, Array]) -> dict[Key, Array]:
    """The same values, copied where they are little of the memory in which they lie.

    A few rows that pass a cut may be views of all that was decompressed for their chunk. Views of the
    same values get one copy.
    """
    places = {key: _place(array) for key, array in arrays.items()}
    distinct = {places[key]: array for key, array in arrays.items()}
    owners = {place: _owner(array) for place, array in distinct.items()}
    used: Counter[int] = Counter()
    for place, array in distinct.items():
        used[id(owners[place])] += array.nbytes
    kept = {
        place: array.copy() if _size(owners[place]) > _MOST_RATIO * used[id(owners[place])] else array
        for place, array in distinct.items()
    }
    return {key: kept[place] for key, place in places.items()}


def let_go_rows(rows: ak.Array) -> ak.Array:
    """The same rows, in memory that is not much larger than they are."""
    # Packed first: the content of lists may go on before and behind those that are there.
    packed = ak.to_packed(rows)
    form, length, buffers = ak.to_buffers(packed)
    kept = let_go(buffers)
    if all(kept[key] is buffer for key, buffer in buffers.items()):
        return packed
    return ak.from_buffers(form, length, kept)


def _place(array: Array) -> tuple[object, ...]:
    return array.__array_interface__["data"][0], array.shape, array.strides, array.dtype.str


def _owner(array: Array) -> object:
    """Whose memory the array is a view of; itself, if nobody's."""
    owner: object = array
    while True:
        inner = owner.base if isinstance(owner, np.ndarray) else getattr(owner, "obj", None)
        if inner is None:
            return owner
        owner = inner


def _size(owner: object) -> int:
    if isinstance(owner, bytes | bytearray):
        return len(owner)
    n_bytes = getattr(owner, "nbytes", 0)
    return n_bytes if isinstance(n_bytes, int) else 0
