"""Awkward arrays of all types that Parquet holds, in all layouts that awkward has for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

NUMBERS = ("bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
WORDS = (b"", b"a", b"b", b"zz", "žluť".encode(), b"a longer text")


def numbers(rng: np.random.Generator, dtype: str, length: int, *, few: bool = False) -> npt.NDArray[Any]:
    """Numbers of the whole range of a dtype; `few` of them are different if asked for."""
    kind = np.dtype(dtype)
    size = min(length, 5) if few else length
    if kind.kind == "b":
        return rng.integers(0, 2, length).astype(np.bool_)
    if kind.kind == "f":
        values = rng.normal(scale=100, size=size).astype(kind)
        special = np.array(
            [np.nan, -0.0, 0.0, np.inf, -np.inf, np.finfo(kind).tiny, np.finfo(kind).max], kind
        )
        where = rng.random(size) < 0.3
        values[where] = rng.choice(special, int(where.sum()))
    else:
        limits = np.iinfo(kind)
        values = rng.integers(limits.min, limits.max, size, dtype=kind, endpoint=True)
    return rng.choice(values, length) if size < length else values


def text(rng: np.random.Generator, length: int, kind: str = "string") -> Any:
    """The layout of strings, or of bytestrings."""
    words = [WORDS[number] for number in rng.integers(0, len(WORDS), length)]
    data = np.frombuffer(b"".join(words), np.uint8)
    inner = "char" if kind == "string" else "byte"
    content = ak.contents.NumpyArray(data, parameters={"__array__": inner})
    offsets = ak.index.Index64(np.cumsum([0, *map(len, words)], dtype=np.int64))
    return ak.contents.ListOffsetArray(offsets, content, parameters={"__array__": kind})


@st.composite
def tables(draw: st.DrawFn, most_rows: int = 12) -> ak.Array:
    """Tables of columns x, y, … or arrays without field names."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    length = draw(st.integers(0, most_rows))
    if draw(st.integers(0, 5)) == 0:
        return ak.Array(draw(layouts(rng, length, depth=0, may_miss=False)))
    names = ["x", "y", "z"][: draw(st.integers(1, 3))]
    columns = [draw(layouts(rng, length, depth=0)) for _ in names]
    return ak.Array(ak.contents.RecordArray(columns, names, length))


@st.composite
def layouts(
    draw: st.DrawFn, rng: np.random.Generator, length: int, depth: int, *, may_miss: bool = True
) -> Any:
    """A layout of that length.

    Args:
        may_miss: whether the outermost layout may be an option or an index (of which awkward makes one).
    """
    kinds = ["numbers", "numbers", "text"]
    if depth < 3:
        kinds += ["lists", "lists", "regular", "record"]
    if may_miss:
        kinds += ["option", "option", "index"]
    kind = draw(st.sampled_from(kinds))
    if kind == "numbers":
        dtype = draw(st.sampled_from(NUMBERS))
        return ak.contents.NumpyArray(numbers(rng, dtype, length, few=draw(st.booleans())))
    if kind == "text":
        return text(rng, length, draw(st.sampled_from(["string", "bytestring"])))
    if kind == "record":
        fields: Sequence[str] | None = draw(st.sampled_from([["a"], ["a", "b"], None]))
        contents = [draw(layouts(rng, length, depth + 1)) for _ in fields or ("0", "1")]
        return ak.contents.RecordArray(contents, fields, length)
    if kind == "regular":
        size = draw(st.integers(1, 3))
        return ak.contents.RegularArray(draw(layouts(rng, length * size, depth + 1)), size, length)
    if kind == "lists":
        return draw(_lists(rng, length, depth))
    if kind == "index":
        content = draw(layouts(rng, length + 1, depth, may_miss=False))
        return ak.contents.IndexedArray(ak.index.Index64(rng.integers(0, length + 1, length)), content)
    return draw(_options(rng, length, depth))


@st.composite
def _lists(draw: st.DrawFn, rng: np.random.Generator, length: int, depth: int) -> Any:
    counts = rng.integers(0, 4, length) * (rng.random(length) < draw(st.sampled_from([0.0, 0.6, 1.0])))
    first = draw(st.integers(0, 2))
    offsets = first + np.cumsum([0, *counts], dtype=np.int64)
    content = draw(layouts(rng, int(offsets[-1]) + draw(st.integers(0, 2)), depth + 1))
    match draw(st.sampled_from(["64", "32", "u32", "list"])):
        case "64":
            return ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
        case "32":
            return ak.contents.ListOffsetArray(ak.index.Index32(offsets.astype(np.int32)), content)
        case "u32":
            return ak.contents.ListOffsetArray(ak.index.IndexU32(offsets.astype(np.uint32)), content)
    order = rng.permutation(length)
    starts, stops = offsets[:-1][order], offsets[1:][order]
    return ak.contents.ListArray(ak.index.Index64(starts), ak.index.Index64(stops), content)


@st.composite
def _options(draw: st.DrawFn, rng: np.random.Generator, length: int, depth: int) -> Any:
    valid = rng.random(length) < draw(st.sampled_from([0.0, 0.7, 1.0]))
    kind = draw(st.sampled_from(["indexed", "bytes", "bits", "unmasked"]))
    if kind == "indexed":
        content = draw(layouts(rng, length + 1, depth, may_miss=False))
        index = np.where(valid, rng.integers(0, length + 1, length), -1)
        return ak.contents.IndexedOptionArray(ak.index.Index64(index), content)
    content = draw(layouts(rng, length, depth, may_miss=False))
    if kind == "bytes":
        return ak.contents.ByteMaskedArray(ak.index.Index8(valid.astype(np.int8)), content, valid_when=True)
    if kind == "bits":
        bits = ak.index.IndexU8(np.packbits(~valid, bitorder="little"))
        return ak.contents.BitMaskedArray(bits, content, valid_when=False, length=length, lsb_order=True)
    return ak.contents.UnmaskedArray(content)
