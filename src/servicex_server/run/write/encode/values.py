"""Values of a page as bytes.

The encodings: https://github.com/apache/parquet-format/blob/master/Encodings.md
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from servicex_server.run.write.encode.levels import encode_packed, encode_run
from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.encode.schema import Content, LeafNode, Physical
from servicex_server.run.write.encode.shred import Array, Text, Values
from servicex_server.run.write.encode.statistics import to_arrow

Bytes = npt.NDArray[np.uint8]

_SAMPLE = 1024
_MOST_IN_SAMPLE = 64
_MOST_ENTRIES = 256
_FEWEST_VALUES = 64


class Encoding(IntEnum):
    """`Encoding` of parquet.thrift."""

    PLAIN = 0
    RLE = 3
    RLE_DICTIONARY = 8
    BYTE_STREAM_SPLIT = 9


@dataclass(frozen=True, slots=True)
class Dictionary:
    """The different values of a column, and for each value which it is.

    Attributes:
        entries: at most 256.
        indices: uint8, one for each value.
        width: bits of an index, 1, 2, 4 or 8.
    """

    entries: Values
    indices: Bytes
    width: int

    def encode(self, start: int, stop: int) -> bytes:
        """The indices of a page, with their width before them."""
        head = bytes((self.width,))
        if start == stop:
            return head
        if len(self.entries) == 1:
            return head + encode_run(0, stop - start, self.width)
        return head + encode_packed(self.indices[start:stop], self.width)


def find_dictionary(leaf: LeafNode, values: Values) -> Dictionary | None:
    """A dictionary for a column of few different values; None if there are many, or too few at all.

    A sample tells most columns of many different values without looking at all of them.
    """
    if leaf.content is Content.NOTHING or leaf.physical is Physical.BOOLEAN or len(values) < _FEWEST_VALUES:
        return None
    if isinstance(values, Text):
        array = to_arrow(values)
    else:
        # As integers of the same bits: NaNs and zeros of both signs stay what they are.
        array = pa.array(values.view(f"u{values.dtype.itemsize}"))
    step = max(1, len(values) // _SAMPLE)
    sample = array.take(pa.array(np.arange(0, len(values), step)))
    if len(sample.unique()) > _MOST_IN_SAMPLE:
        return None
    encoded = array.dictionary_encode()
    n_entries = len(encoded.dictionary)
    if n_entries > _MOST_ENTRIES:
        return None
    width = next(width for width in (1, 2, 4, 8) if n_entries <= 1 << width)
    indices = encoded.indices.to_numpy().astype(np.uint8)
    return Dictionary(_entries(encoded.dictionary, values), indices, width)


def _entries(dictionary: pa.Array, values: Values) -> Values:
    if isinstance(values, Text):
        _, offsets, data = dictionary.buffers()
        n_entries = len(dictionary)
        edges = np.frombuffer(offsets, np.int64, n_entries + 1, 8 * dictionary.offset)
        content = np.empty(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
        return Text(edges - edges[0], content[edges[0] : edges[-1]])
    entries: Array = dictionary.to_numpy().view(values.dtype)
    return entries


def encode_plain(leaf: LeafNode, values: Values) -> Any:
    """Values one after the other; text with the length of each before it, bools as bits."""
    if isinstance(values, Text):
        return _interleave(values)
    if leaf.physical is Physical.BOOLEAN:
        return np.packbits(values, bitorder="little")
    return _widened(leaf, values).view(np.uint8)


def encode_split(leaf: LeafNode, values: Array) -> Bytes:
    """The first bytes of all values, then the second ones, and so on."""
    stored = _widened(leaf, values)
    streams = np.empty((stored.itemsize, len(stored)), np.uint8)
    streams[:] = stored.view(np.uint8).reshape(-1, stored.itemsize).T
    return streams.reshape(-1)


def choose_encoding(leaf: LeafNode, options: ParquetOptions) -> Encoding:
    """How values without a dictionary are encoded."""
    split = {
        Physical.FLOAT: options.split_floats,
        Physical.DOUBLE: options.split_floats,
        Physical.INT32: options.split_integers,
        Physical.INT64: options.split_integers,
    }
    if leaf.content is Content.NUMBERS and split.get(leaf.physical, False):
        return Encoding.BYTE_STREAM_SPLIT
    return Encoding.PLAIN


def encode_values(leaf: LeafNode, values: Values, encoding: Encoding) -> Any:
    """Values of a page without a dictionary."""
    if encoding is Encoding.BYTE_STREAM_SPLIT and not isinstance(values, Text):
        return encode_split(leaf, values)
    return encode_plain(leaf, values)


def _widened(leaf: LeafNode, values: Array) -> Array:
    return values.astype(leaf.stored, copy=False)


def _interleave(text: Text) -> Bytes:
    lengths = np.diff(text.offsets)
    out = np.empty(len(text.data) + 4 * len(lengths), np.uint8)
    is_data = np.ones(len(out), np.bool_)
    heads = text.offsets[:-1] + 4 * np.arange(len(lengths), dtype=np.int64)
    length_bytes = lengths.astype("<u4").view(np.uint8).reshape(-1, 4)
    for place in range(4):
        is_data[heads + place] = False
        out[heads + place] = length_bytes[:, place]
    out[is_data] = text.data
    return out
