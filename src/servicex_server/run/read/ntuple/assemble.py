"""From offsets and elements to awkward arrays. Nothing is copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt

from servicex_server.run.offsets import Integers
from servicex_server.run.read.ntuple.shape import (
    Arrays,
    Column,
    Lengths,
    Lists,
    Numbers,
    Records,
    Shape,
    Text,
)

Values = npt.NDArray[Any]


class Assembler:
    """Arrays out of columns that have been read. Lists of one collection share their offsets.

    Args:
        values: elements by column.
        offsets: offsets (from 0, int64) by the column that they are read from.
    """

    def __init__(self, values: Mapping[Column, Values], offsets: Mapping[Column, Integers]) -> None:
        self._values = values
        self._offsets = {column: ak.index.Index64(edges) for column, edges in offsets.items()}

    def build(self, shape: Shape, n_rows: int) -> ak.Array:
        return ak.Array(self._layout(shape, n_rows))

    def _layout(self, shape: Shape, length: int) -> Any:
        match shape:
            case Numbers(column):
                return ak.contents.NumpyArray(self._values[column])
            case Lengths(offsets):
                lengths = np.diff(self._offsets[offsets].data)
                return ak.contents.NumpyArray(lengths.astype(offsets.encoding.dtype, copy=False))
            case Text(offsets, characters):
                bytes_ = ak.contents.NumpyArray(self._values[characters], parameters={"__array__": "char"})
                return ak.contents.ListOffsetArray(
                    self._offsets[offsets], bytes_, parameters={"__array__": "string"}
                )
            case Lists(offsets, content):
                edges = self._offsets[offsets]
                return ak.contents.ListOffsetArray(edges, self._layout(content, int(edges[-1])))
            case Arrays(size, content):
                return ak.contents.RegularArray(self._layout(content, length * size), size, length)
            case Records(names, contents, is_tuple):
                members = [self._layout(content, length) for content in contents]
                return ak.contents.RecordArray(members, None if is_tuple else names, length)
