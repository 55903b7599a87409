"""Columns of few different values: each value is written once, and everywhere else its number.

Numbers of few bits (integers of a small range; floats whose last bits are zero, as experiments store
them) are counted by a table with one place for each possible value, which takes a few nanoseconds per
value; text, and numbers far apart, by a hash table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from servicex_server.run.write.encode.levels import encode_packed, encode_run
from servicex_server.run.write.encode.schema import Content, LeafNode, Physical
from servicex_server.run.write.encode.shred import Array, Text, Values
from servicex_server.run.write.encode.statistics import to_arrow

_SAMPLE = 1024
_MOST_IN_SAMPLE = 64
_MOST_HASHED = 256
_MOST_COUNTED = 65536
_MOST_PLACES = 1 << 22
_PLACES_PER_VALUE = 64
_FEWEST_VALUES = 64
_FEWEST_REPEATS = 4


@dataclass(frozen=True, slots=True)
class Dictionary:
    """The different values of a column, and for each value which it is.

    Attributes:
        entries: at most 65536.
        indices: uint8 or uint16, one for each value.
        width: bits of an index in the file, 1, 2, 4, 8 or 16.
    """

    entries: Values
    indices: Array
    width: int

    def encode(self, start: int, stop: int) -> Any:
        """The indices of a page, with their width before them."""
        head = bytes((self.width,))
        if start == stop:
            return head
        if len(self.entries) == 1:
            return head + encode_run(0, stop - start, self.width)
        return head + encode_packed(self.indices[start:stop], self.width)


def find_dictionary(leaf: LeafNode, values: Values, most_entries: int = _MOST_COUNTED) -> Dictionary | None:
    """A dictionary for a column of few different values; None if there are many, or too few at all.

    Args:
        most_entries: at most so many different values are few.
    """
    if leaf.content is Content.NOTHING or leaf.physical is Physical.BOOLEAN or len(values) < _FEWEST_VALUES:
        return None
    if isinstance(values, Text):
        return _find_by_hash(to_arrow(values), values)
    keys = _find_keys(values)
    if keys is not None and (most_entries > _MOST_HASHED or keys.is_low()):
        return _find_by_table(keys, most_entries)
    # As integers of the same bits: NaNs and zeros of both signs stay what they are.
    return _find_by_hash(pa.array(values.view(f"u{values.itemsize}")), values)


@dataclass(frozen=True, slots=True)
class _Keys:
    """Small numbers >= 0 in place of values, different for different values.

    Attributes:
        keys: intp, one for each value.
        greatest: of the keys.
        least: what was subtracted from the values' bits, after
        shift: so many zero bits at the end were dropped.
        dtype: of the values.
    """

    keys: npt.NDArray[np.intp]
    greatest: int
    least: int
    shift: int
    dtype: np.dtype[Any]

    def is_low(self) -> bool:
        """Whether a sample holds few different ones."""
        sample = self.keys[:: max(1, len(self.keys) // _SAMPLE)]
        return len(np.unique(sample)) <= _MOST_IN_SAMPLE

    def restore(self, keys: npt.NDArray[np.intp]) -> Array:
        """The values that have these keys."""
        if self.dtype.kind != "f":
            values: Array = (keys + self.least).astype(self.dtype)
            return values
        bits = keys.astype(f"u{self.dtype.itemsize}")
        restored: Array = (bits << bits.dtype.type(self.shift)).view(self.dtype)
        return restored


def _find_keys(values: Array) -> _Keys | None:
    """Keys of a range that suits a table; None if there are none."""
    most = min(_MOST_PLACES, max(_MOST_COUNTED, _PLACES_PER_VALUE * len(values)))
    if values.dtype.kind == "f":
        bits = values.view(f"u{values.itemsize}")
        # The bits of a few values tell whether it is worth to look at all.
        shift = _trailing_zeros(bits[:: max(1, len(bits) // _SAMPLE)])
        if 8 * bits.itemsize - shift > _MOST_PLACES.bit_length():
            return None
        shift = min(shift, _trailing_zeros(bits))
        greatest = int(bits.max()) >> shift
        if greatest >= most:
            return None
        keys = (bits >> bits.dtype.type(shift)).astype(np.intp)
        return _Keys(keys, greatest, 0, shift, values.dtype)
    least, greatest = int(values.min()), int(values.max())
    if greatest - least >= most or greatest >= 1 << 62 or least <= -1 << 62:
        return None
    if least >= 0 and greatest < most:
        least = 0
    return _Keys(values.astype(np.intp) - least, greatest - least, least, 0, values.dtype)


def _trailing_zeros(bits: Array) -> int:
    """Zero bits at the end of all numbers."""
    joined = int(np.bitwise_or.reduce(bits))
    return (joined & -joined).bit_length() - 1 if joined else 8 * bits.itemsize - 1


def _find_by_table(keys: _Keys, most_entries: int) -> Dictionary | None:
    is_found = np.zeros(keys.greatest + 1, np.bool_)
    is_found[keys.keys] = True
    found = np.flatnonzero(is_found)
    if len(found) > min(most_entries, len(keys.keys) // _FEWEST_REPEATS):
        return None
    numbers = np.empty(len(is_found), np.uint8 if len(found) <= _MOST_HASHED else np.uint16)
    numbers[found] = np.arange(len(found), dtype=numbers.dtype)
    return Dictionary(keys.restore(found), numbers[keys.keys], _width(len(found)))


def _find_by_hash(array: pa.Array, values: Values) -> Dictionary | None:
    # A sample tells most columns of many different values without looking at all of them.
    step = max(1, len(values) // _SAMPLE)
    if len(array.take(pa.array(np.arange(0, len(values), step))).unique()) > _MOST_IN_SAMPLE:
        return None
    encoded = array.dictionary_encode()
    n_entries = len(encoded.dictionary)
    if n_entries > _MOST_HASHED:
        return None
    indices = encoded.indices.to_numpy().astype(np.uint8)
    return Dictionary(_entries(encoded.dictionary, values), indices, _width(n_entries))


def _width(n_entries: int) -> int:
    return next(width for width in (1, 2, 4, 8, 16) if n_entries <= 1 << width)


def _entries(dictionary: pa.Array, values: Values) -> Values:
    if not isinstance(values, Text):
        entries: npt.NDArray[Any] = dictionary.to_numpy().view(values.dtype)
        return entries
    _, offsets, data = dictionary.buffers()
    edges = np.frombuffer(offsets, np.int64, len(dictionary) + 1, 8 * dictionary.offset)
    content = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return Text(edges - edges[0], content[edges[0] : edges[-1]])
