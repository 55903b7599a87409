"""Arrays out of the file that a sandboxed process left. Whoever wrote it may have meant harm: all is checked.

The format is told in `inside`. Every buffer must lie in the file, every offset and index in what it points
into; only then an array is made, over the mapped bytes.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn, cast

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from servicex_server.errors import QueryError
from servicex_server.run.sandbox.inside import MAGIC

MAX_HEADER_BYTES = 8 * 2**20
MAX_NODES = 20_000
MAX_DEPTH = 40
MAX_OUTPUTS = 1_000
MAX_NAME = 200
_BLOCK = 1 << 20
_DTYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
     "float64")
)  # fmt: skip
_CONTROLS = frozenset(map(chr, (*range(32), 127)))

Json = Mapping[str, object]


class BadResult(QueryError):
    """The code has tampered with its result."""


@dataclass(frozen=True, slots=True)
class ScriptError:
    """What went wrong inside, by its own account.

    Attributes:
        kind: `raised`, `returned`, `exit`, `memory`, `size`, `disk` or `input`.
        message: the exception's type and message.
        line: of the user's code; 0 if unknown.
        text: of that line.
    """

    kind: str
    message: str
    line: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class ScriptOutput:
    """One array that a script returned; `name` is its key, None for an array that was returned alone."""

    name: str | None
    array: ak.Array


def has_started(descriptor: int) -> bool:
    """Whether the program inside came as far as to run anything."""
    return os.fstat(descriptor).st_size > 0


def read_result(descriptor: int) -> tuple[ScriptOutput, ...] | ScriptError | None:
    """What a process that has ended wrote; None if it did not come to an end of its own.

    Raises:
        BadResult: the file is not what our program writes.
    """
    size = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, 16, max(0, size - 16))
    if len(tail) < 16 or tail[8:] != MAGIC:
        return None
    (n_header,) = struct.unpack("<Q", tail[:8])
    if n_header > min(MAX_HEADER_BYTES, size - 16):
        _fail("its header is too long")
    n_data = size - 16 - n_header
    header = _load(os.pread(descriptor, n_header, n_data))
    if "error" in header:
        return _read_error(_object(header["error"]))
    outputs = header.get("outputs")
    if not isinstance(outputs, list) or not 0 < len(outputs) <= MAX_OUTPUTS:
        _fail(f"it must hold 1 to {MAX_OUTPUTS} arrays")
    # The arrays keep the mapping alive.
    mapped = mmap.mmap(descriptor, size, prot=mmap.PROT_READ)
    reader = _Reader(np.frombuffer(mapped, np.uint8, n_data))
    return tuple(reader.output(_object(entry)) for entry in outputs)


def _load(text: bytes) -> Json:
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError) as error:
        message = f"the code has tampered with its result: {error}"[:300]
        raise BadResult(message) from error


def _read_error(entry: Json) -> ScriptError:
    kind, message, line, text = (entry.get(key) for key in ("kind", "message", "line", "text"))
    if not isinstance(kind, str) or not isinstance(message, str):
        _fail("its error is none")
    return ScriptError(
        kind=kind[:20],
        message=message[:1000],
        line=line if isinstance(line, int) and 0 < line < 1 << 31 else 0,
        text=text[:200] if isinstance(text, str) else "",
    )


class _Reader:
    """Builds arrays over the bytes of one result."""

    def __init__(self, data: npt.NDArray[np.uint8]) -> None:
        self._data = data
        self._n_nodes = 0
        self._n_bytes = 0

    def output(self, entry: Json) -> ScriptOutput:
        name = entry.get("name")
        if name is not None:
            name = _name(name)
        return ScriptOutput(name, ak.Array(self._content(entry.get("layout"), 0)))

    def _content(self, value: object, depth: int) -> ak.contents.Content:
        node = _object(value)
        self._n_nodes += 1
        if depth > MAX_DEPTH or self._n_nodes > MAX_NODES:
            _fail(f"its type is too large: at most {MAX_NODES} parts, {MAX_DEPTH} inside each other")
        length = _count(node.get("length"))
        # What takes no bytes at all (arrays of size 0) could else be of any length.
        if length > len(self._data):
            _fail(f"it has {length} values in {len(self._data)} bytes")
        match node.get("kind"):
            case "numbers":
                return self._numbers(node, length)
            case "list":
                return self._list(node, length, depth)
            case "regular":
                return self._regular(node, length, depth)
            case "record":
                return self._record(node, length, depth)
            case "option":
                return self._option(node, length, depth)
            case "empty" if length == 0:
                return ak.contents.EmptyArray()
        return _fail(f"it has a part of kind {node.get('kind')!r:.50}")

    def _numbers(self, node: Json, length: int) -> ak.contents.NumpyArray:
        dtype = node.get("dtype")
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            _fail(f"it has numbers of type {dtype!r:.50}")
        array = self._buffer(node.get("buffer"), dtype, length)
        if dtype == "bool":
            # Any other byte than 0 and 1 would be a bool that numpy does not expect.
            array = array.view(np.uint8) != 0
        return ak.contents.NumpyArray(array)

    def _list(self, node: Json, length: int, depth: int) -> ak.contents.ListOffsetArray:
        offsets = self._buffer(node.get("offsets"), "int64", length + 1)
        content = self._content(node.get("content"), depth + 1)
        if offsets[0] != 0 or not _is_sorted(offsets) or offsets[-1] != content.length:
            _fail("its lists do not cover their content")
        kind = _text(node)
        if kind is None:
            return ak.contents.ListOffsetArray(ak.index.Index64(offsets), content)
        content = _to_characters(content, kind)
        if kind == "string":
            _check_text(offsets, np.asarray(content.data))
        return ak.contents.ListOffsetArray(ak.index.Index64(offsets), content, parameters={"__array__": kind})

    def _regular(self, node: Json, length: int, depth: int) -> ak.contents.RegularArray:
        size = _count(node.get("size"))
        content = self._content(node.get("content"), depth + 1)
        if content.length != size * length:
            _fail("its arrays of fixed size do not cover their content")
        kind = _text(node)
        parameters = None
        if kind is not None:
            content, parameters = _to_characters(content, kind), {"__array__": kind}
            if kind == "string":
                _check_text(np.arange(length + 1, dtype=np.int64) * size, np.asarray(content.data))
        return ak.contents.RegularArray(content, size, zeros_length=length, parameters=parameters)

    def _record(self, node: Json, length: int, depth: int) -> ak.contents.RecordArray:
        fields, contents, name = (node.get(key) for key in ("fields", "contents", "name"))
        if not isinstance(contents, list):
            _fail("its records have no contents")
        names = None
        if fields is not None:
            if not isinstance(fields, list) or len(fields) != len(contents):
                _fail("its records have fields without content")
            names = [_name(field) for field in fields]
            if len(set(names)) != len(names):
                _fail("its records have a field twice")
        built = [self._content(content, depth + 1) for content in contents]
        if any(content.length != length for content in built):
            _fail("its records have fields of different lengths")
        parameters = None if name is None else {"__record__": _name(name)}
        return ak.contents.RecordArray(built, names, length, parameters=parameters)

    def _option(self, node: Json, length: int, depth: int) -> ak.contents.Content:
        index = self._buffer(node.get("index"), "int64", length)
        content = self._content(node.get("content"), depth + 1)
        if length and int(index.max()) >= content.length:
            _fail("its missing values point outside")
        return ak.contents.IndexedOptionArray.simplified(ak.index.Index64(index), content)

    def _buffer(self, place: object, dtype: str, length: int) -> npt.NDArray[np.generic]:
        """`length` numbers, in native byte order."""
        if not isinstance(place, list) or len(place) != 2:
            _fail("it has a buffer without a place")
        start, n_bytes = map(_count, place)
        kind = np.dtype(dtype).newbyteorder("<")
        if n_bytes != length * kind.itemsize or start % 8 or start + n_bytes > len(self._data):
            _fail("it has a buffer outside of its file")
        # One buffer in many places would make a small result a gigantic one.
        self._n_bytes += n_bytes
        if self._n_bytes > len(self._data):
            _fail("it uses a buffer twice")
        return self._data[start : start + n_bytes].view(kind).astype(np.dtype(dtype), copy=False)


def _to_characters(content: ak.contents.Content, kind: str) -> ak.contents.NumpyArray:
    if not isinstance(content, ak.contents.NumpyArray) or content.dtype != np.dtype(np.uint8):
        _fail("its text is not made of bytes")
    return ak.contents.NumpyArray(
        content.data, parameters={"__array__": "char" if kind == "string" else "byte"}
    )


def _check_text(offsets: npt.NDArray[np.generic], data: npt.NDArray[np.uint8]) -> None:
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data)]
    try:
        pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers).validate(full=True)
    except pa.ArrowInvalid as error:
        message = "run_query returned text that is not UTF-8"
        raise QueryError(message) from error


def _is_sorted(offsets: npt.NDArray[np.generic]) -> bool:
    """In blocks: a comparison of all at once would need as much memory again."""
    for start in range(0, len(offsets) - 1, _BLOCK):
        block = cast("npt.NDArray[np.int64]", offsets[start : start + _BLOCK + 1])
        if bool((block[1:] < block[:-1]).any()):
            return False
    return True


def _text(node: Json) -> str | None:
    kind = node.get("text")
    if kind is None:
        return None
    if kind in ("string", "bytestring"):
        return str(kind)
    return _fail(f"it has text of kind {kind!r:.50}")


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        _fail("its header is not made of objects")
    return cast(Json, value)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 48:
        _fail(f"it has {value!r:.50} for a number of things")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or _CONTROLS & set(value):
        message = (
            f"run_query returned the name {value!r:.100}; names have 1 to {MAX_NAME} printable characters"
        )
        raise QueryError(message)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        message = f"run_query returned the name {value!a:.100}, which is not valid Unicode"
        raise QueryError(message) from error
    return value


def _fail(problem: str) -> NoReturn:
    message = f"the code has tampered with its result: {problem}"
    raise BadResult(message)
