"""From the uncompressed bytes of a page to its elements, by the column's encoding. Pure.

The encodings are those of the specification, section "Column Types". Elements go straight into the column
that is being filled: one copy per byte of an element's width is the quickest way that numpy has to undo
"split" (a transposed copy takes three times as long).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Encoding(NamedTuple):
    """How the elements of a column are stored.

    Attributes:
        dtype: of one element.
        n_bits: of one element in a page.
        is_split: all first bytes come first, then all second bytes, and so on.
        is_delta: each element is the difference to the one before it in the page.
        is_zigzag: the sign is in the lowest bit.
        is_index: an element is the end of a collection, counted in the items of its cluster.
    """

    dtype: np.dtype[np.generic]
    n_bits: int
    is_split: bool = False
    is_delta: bool = False
    is_zigzag: bool = False
    is_index: bool = False


def _plain(dtype: str) -> Encoding:
    return Encoding(np.dtype(dtype), 8 * np.dtype(dtype).itemsize)


def _split(dtype: str) -> Encoding:
    return _plain(dtype)._replace(is_split=True)


ENCODINGS = {
    0x00: Encoding(np.dtype("bool"), 1),
    0x01: _plain("uint8"),  # a byte
    0x02: _plain("uint8"),  # a character
    0x03: _plain("int8"),
    0x04: _plain("uint8"),
    0x05: _plain("int16"),
    0x06: _plain("uint16"),
    0x07: _plain("int32"),
    0x08: _plain("uint32"),
    0x09: _plain("int64"),
    0x0A: _plain("uint64"),
    0x0B: _plain("float16"),
    0x0C: _plain("float32"),
    0x0D: _plain("float64"),
    0x0E: _plain("int32")._replace(is_index=True),
    0x0F: _plain("int64")._replace(is_index=True),
    0x11: _split("int16")._replace(is_zigzag=True),
    0x12: _split("uint16"),
    0x13: _split("int32")._replace(is_zigzag=True),
    0x14: _split("uint32"),
    0x15: _split("int64")._replace(is_zigzag=True),
    0x16: _split("uint64"),
    0x17: _split("float16"),
    0x18: _split("float32"),
    0x19: _split("float64"),
    0x1A: _split("int32")._replace(is_index=True, is_delta=True),
    0x1B: _split("int64")._replace(is_index=True, is_delta=True),
}
"""By the number that a column record has. Not here, and left to uproot: 0x10 (which alternative a variant
holds), 0x1C and 0x1D (floats of fewer bits)."""

CHARACTER = 0x02


def page_bytes(encoding: Encoding, n_elements: int) -> int:
    """Uncompressed size of a page."""
    return (n_elements * encoding.n_bits + 7) // 8


def decode_page(encoding: Encoding, data: Bytes, column: npt.NDArray[np.generic]) -> None:
    """Fills `column` with the elements in `data`.

    Args:
        encoding: of the column.
        data: uncompressed, as long as `page_bytes` says.
        column: the place of the page's elements, contiguous; of the encoding's dtype, or int64 for an index.
    """
    if encoding.n_bits == 1:
        column.view(np.uint8)[:] = np.unpackbits(data, count=len(column), bitorder="little")
        return
    if column.dtype != encoding.dtype:
        narrow = np.empty(len(column), encoding.dtype)
        decode_page(encoding._replace(is_delta=False), data, narrow)
        column[:] = narrow
    elif encoding.is_split:
        _undo_split(data, column)
    else:
        column.view(np.uint8)[:] = data
    if encoding.is_delta:
        np.cumsum(column, out=column)
    elif encoding.is_zigzag:
        _undo_zigzag(column)


def _undo_split(data: Bytes, column: npt.NDArray[np.generic]) -> None:
    """Puts the bytes of each element together."""
    n_elements, width = len(column), column.dtype.itemsize
    elements = column.view(np.uint8).reshape(n_elements, width)
    used = width
    if column.dtype.kind in "iu":
        # Most integers are small, and so are most differences, but for the first of a page: what counts a
        # list's items, say, has one byte that is not zero.
        while used > 1 and not data[(used - 1) * n_elements + 1 : used * n_elements].max(initial=0):
            used -= 1
    if used == 1:
        np.copyto(column, data[:n_elements], casting="unsafe")
    else:
        for number in range(used):
            elements[:, number] = data[number * n_elements : (number + 1) * n_elements]
        elements[:, used:] = 0
    elements[:1] = data[::n_elements] if n_elements else 0


def _undo_zigzag(column: npt.NDArray[np.generic]) -> None:
    """Turns 0, 1, 2, 3, … into 0, -1, 1, -2, … in place."""
    unsigned = column.view(f"u{column.dtype.itemsize}")
    sign = unsigned & 1
    np.negative(sign, out=sign)
    np.right_shift(unsigned, 1, out=unsigned)
    np.bitwise_xor(unsigned, sign, out=unsigned)
