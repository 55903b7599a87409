"""One basket of a TTree: the header before it, and the entries in it. Pure.

A basket is a key (https://root.cern.ch/doc/master/classTKey.html) whose header ends in five numbers of
the basket's own. The entries follow, then for most entries of varying size a table of where each begins:
https://root.cern.ch/doc/master/TBasket_8cxx_source.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from servicex_server.run.read.decompress import MOST_BYTES, Block, Bytes, decompressor, split_blocks

_KEY = struct.Struct(">ihiIh")
_OWN = struct.Struct(">HiiiiB")
_ADDRESSES_BYTES = 8
"""At least: the place of the basket and of its folder, each in four or eight bytes."""


@dataclass(frozen=True, slots=True)
class Basket:
    """A basket whose sizes have been found to add up.

    Attributes:
        n_entries: entries in it.
        content_bytes: bytes of the entries, without the table of where they begin.
        size_bytes: bytes of entries and table.
    """

    n_entries: int
    content_bytes: int
    size_bytes: int
    _header_bytes: int
    _stored: memoryview
    _blocks: tuple[Block, ...] = ()
    _edges: npt.NDArray[np.int64] | None = None

    def read(self, want: int) -> Bytes:
        """The first `want` bytes or more; may be valid only until this thread reads the next basket."""
        if not want:
            return np.empty(0, np.uint8)
        if self._blocks:
            return decompressor().read(self._blocks, want)
        return np.frombuffer(self._stored, np.uint8)

    def entry_edges(self, data: Bytes) -> npt.NDArray[np.int64]:
        """Where each entry begins, and the last ends; `data` are all `size_bytes`. Shape (n_entries + 1,).

        Raises:
            ValueError: there is no such table, or it points outside the content.
        """
        if self._edges is not None:
            return self._edges
        table = data[self.content_bytes : self.size_bytes]
        # The number of values, the values, and one more that means nothing.
        if len(table) != 4 * (self.n_entries + 2):
            message = f"its table of entries has {len(table)} bytes, and {self.n_entries} entries"
            raise ValueError(message)
        return checked_edges(
            np.frombuffer(table, ">i4")[1:-1].astype(np.int64) - self._header_bytes, self.content_bytes
        )


def checked_edges(starts: npt.NDArray[np.int64], content_bytes: int) -> npt.NDArray[np.int64]:
    """The starts of entries, and the end of the last, if they follow each other within the content."""
    edges = np.append(starts, content_bytes)
    if len(starts) and (edges[0] != 0 or bool(np.any(edges[1:] < edges[:-1]))):
        message = "its table of entries is out of order"
        raise ValueError(message)
    return edges


def embedded_basket(n_entries: int, content: Bytes, starts: npt.NDArray[np.int64] | None) -> Basket:
    """A basket that was never written on its own: the tree's metadata hold it, uncompressed."""
    edges = None if starts is None else checked_edges(starts, len(content))
    return Basket(n_entries, len(content), len(content), 0, content.data, _edges=edges)


def parse_basket(data: memoryview) -> Basket:
    """The basket in these bytes, which begin with its key.

    Raises:
        ValueError: the numbers in its header contradict each other.
    """
    if len(data) < _KEY.size:
        message = f"its header is truncated after {len(data)} bytes"
        raise ValueError(message)
    n_bytes, _version, size_bytes, _time, header_bytes = _KEY.unpack_from(data)
    least = _KEY.size + _ADDRESSES_BYTES + _OWN.size
    if not least <= header_bytes <= n_bytes <= len(data) or not 0 <= size_bytes <= MOST_BYTES:
        message = (
            f"its header says {n_bytes} bytes, {header_bytes} of header, {size_bytes} of content; "
            f"the file has {len(data)} for it"
        )
        raise ValueError(message)
    _, _, _, n_entries, last, _ = _OWN.unpack_from(data, header_bytes - _OWN.size)
    content_bytes = last - header_bytes
    if n_entries < 0 or not 0 <= content_bytes <= size_bytes:
        message = f"its header says {n_entries} entries in {content_bytes} of {size_bytes} bytes"
        raise ValueError(message)
    stored = data[header_bytes:n_bytes]
    blocks = () if len(stored) == size_bytes else tuple(split_blocks(stored, size_bytes))
    return Basket(n_entries, content_bytes, size_bytes, header_bytes, stored, blocks)
