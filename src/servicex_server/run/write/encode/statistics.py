"""Least and greatest values, by the rules of the format.

For floats NaN does not count; zeros are of both signs, since readers may compare either.
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift, `ColumnOrder`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from servicex_server.run.write.encode.schema import Content, LeafNode
from servicex_server.run.write.encode.shred import Text, Values
from servicex_server.run.write.encode.thrift import Struct

LONGEST_BOUND = 4096
"""Longer text is no bound: the footer is read by everybody who opens the file."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Least and greatest of some values: numpy numbers, or bytes."""

    least: Any
    greatest: Any


def find_bounds(leaf: LeafNode, values: Values) -> Bounds | None:
    """None where nothing can be said: no values, none but NaN."""
    if not len(values) or leaf.content is Content.NOTHING:
        return None
    if isinstance(values, Text):
        bounds = pc.min_max(to_arrow(values))
        return Bounds(bounds["min"].as_py(), bounds["max"].as_py())
    bounds = Bounds(values.min(), values.max())
    if values.dtype.kind == "f" and np.isnan(bounds.least):
        return find_bounds(leaf, values[~np.isnan(values)])
    return bounds


def join_bounds(parts: Iterable[Bounds | None]) -> Bounds | None:
    """The bounds of all values of the parts."""
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return Bounds(min(part.least for part in found), max(part.greatest for part in found))


def encode_bounds(leaf: LeafNode, bounds: Bounds) -> tuple[bytes, bytes]:
    """Both as the format's plain encoding has them, text without its length."""
    if isinstance(bounds.least, bytes):
        return bounds.least, bounds.greatest
    least, greatest = bounds.least, bounds.greatest
    if np.dtype(leaf.stored).kind == "f":
        least = -0.0 if least == 0 else least
        greatest = 0.0 if greatest == 0 else greatest
    return np.asarray(least, leaf.stored).tobytes(), np.asarray(greatest, leaf.stored).tobytes()


def to_statistics(leaf: LeafNode, bounds: Bounds | None, n_nulls: int) -> Struct:
    """The format's `Statistics`."""
    statistics = Struct().i64(3, n_nulls)
    if bounds is None:
        return statistics
    least, greatest = encode_bounds(leaf, bounds)
    if max(len(least), len(greatest)) > LONGEST_BOUND:
        return statistics
    # Both are exact: nothing was cut off.
    return statistics.binary(5, greatest).binary(6, least).boolean(7, True).boolean(8, True)


def to_arrow(text: Text) -> pa.Array:
    """The same text, not copied, for pyarrow's functions."""
    buffers = [None, pa.py_buffer(text.offsets), pa.py_buffer(text.data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(text), buffers)
