"""Values of a page as bytes.

The encodings: https://github.com/apache/parquet-format/blob/master/Encodings.md
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from servicex_server.run.write.encode.options import ParquetOptions
from servicex_server.run.write.encode.schema import Content, LeafNode, Physical
from servicex_server.run.write.encode.shred import Array, Text, Values

Bytes = npt.NDArray[np.uint8]


class Encoding(IntEnum):
    """`Encoding` of parquet.thrift."""

    PLAIN = 0
    RLE = 3
    RLE_DICTIONARY = 8
    BYTE_STREAM_SPLIT = 9


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
    is_float = leaf.content is Content.NUMBERS and leaf.physical in (Physical.FLOAT, Physical.DOUBLE)
    if is_float and options.split_floats:
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
