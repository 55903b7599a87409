"""The schema of a table as the official transformers write it: what pyarrow makes of awkward's Arrow table.

Which fields are optional, how lists are called, and what awkward's readers need to find their types again
is decided there, and may change with their versions. So an empty table is written by pyarrow, and the
schema is taken out of its footer as it is. Field ids are those of `FileMetaData` and `SchemaElement` in
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from servicex_server.run.write.encode.thrift import Reader, Struct

_MOST_LEVELS = 100
_OPTIONAL, _REPEATED = 1, 2


class Physical(IntEnum):
    """`Type` of parquet.thrift."""

    BOOLEAN = 0
    INT32 = 1
    INT64 = 2
    FLOAT = 4
    DOUBLE = 5
    BYTE_ARRAY = 6
    FIXED_LEN_BYTE_ARRAY = 7


class Content(Enum):
    """What kind of values a column holds."""

    NUMBERS = "numbers"
    TEXT = "text"
    NOTHING = "nothing"


_PHYSICAL: dict[str, tuple[Physical, str]] = {
    "bool": (Physical.BOOLEAN, "?"),
    "int8": (Physical.INT32, "<i4"),
    "int16": (Physical.INT32, "<i4"),
    "int32": (Physical.INT32, "<i4"),
    "int64": (Physical.INT64, "<i8"),
    # Unsigned numbers keep their bits; a logical type says so.
    "uint8": (Physical.INT32, "<u4"),
    "uint16": (Physical.INT32, "<u4"),
    "uint32": (Physical.INT32, "<u4"),
    "uint64": (Physical.INT64, "<u8"),
    "float16": (Physical.FIXED_LEN_BYTE_ARRAY, "<f2"),
    "float32": (Physical.FLOAT, "<f4"),
    "float64": (Physical.DOUBLE, "<f8"),
}


class UnknownToEncoder(Exception):
    """A type that the encoder cannot write, though pyarrow may."""


@dataclass(frozen=True, slots=True)
class LeafNode:
    """A column.

    Attributes:
        path: names from the outside in, those of the groups of lists as well.
        stored: dtype of the values in the file.
        dtype: dtype of the values in awkward arrays; None for text and for nothing.
    """

    is_optional: bool
    path: tuple[str, ...]
    content: Content
    physical: Physical
    stored: npt.DTypeLike
    dtype: np.dtype[Any] | None

    @property
    def name(self) -> str:
        """The path as a user knows it."""
        return ".".join(self.path) or "(unnamed)"


@dataclass(frozen=True, slots=True)
class ListNode:
    """Lists; `size` is set when every list has that same length."""

    is_optional: bool
    size: int | None
    content: Node


@dataclass(frozen=True, slots=True)
class RecordNode:
    """Records with named fields."""

    is_optional: bool
    names: tuple[str, ...]
    contents: tuple[Node, ...]


Node = LeafNode | ListNode | RecordNode


@dataclass(frozen=True, slots=True)
class FileSchema:
    """What all row groups and the footer of a file have in common.

    Attributes:
        root: the columns of the table.
        is_unnamed: whether the rows have no field names; then `root` has one column, named "".
        elements: the encoded list of schema elements.
        key_values: encoded pairs of metadata that readers need.
        orders: the encoded list that says how columns are ordered.
    """

    root: RecordNode
    is_unnamed: bool
    elements: bytes
    key_values: tuple[bytes, ...]
    orders: bytes


def read_schema(table: pa.Table, form: Any) -> FileSchema:
    """The schema of an empty Arrow table that awkward made of arrays of this form.

    Raises:
        UnknownToEncoder: the encoder does not know a type in it.
        pyarrow.ArrowException: Parquet has no such type.
    """
    footer = _footer(table)
    elements = iter([_values(element) for element in footer[2][0]])
    next(elements)  # the root, of which all is known
    if form.is_option and form.content.is_record:
        # Of rows that may be missing awkward makes columns of their fields all the same.
        message = f"rows of type {form.type}"
        raise UnknownToEncoder(message)
    is_table = isinstance(form, ak.forms.RecordForm) and not form.is_tuple
    columns = form.contents if is_table else [form]
    contents = [_node(column, elements, (), 0) for column in columns]
    names = tuple(form.fields) if is_table else ("",)
    pairs = footer[5][0] if 5 in footer else []
    return FileSchema(
        RecordNode(False, names, tuple(contents)),
        not is_table,
        footer[2][1],
        tuple(_encode_pair(pair) for pair in pairs),
        footer[7][1],
    )


def to_key_value(key: bytes, value: bytes) -> bytes:
    """One pair of a file's metadata."""
    return Struct().binary(1, key).binary(2, value).to_bytes()


def _footer(table: pa.Table) -> dict[int, tuple[Any, bytes]]:
    sink = io.BytesIO()
    pq.ParquetWriter(sink, table.schema, compression="none").close()
    data = sink.getvalue()
    length = int.from_bytes(data[-8:-4], "little")
    return Reader(data[-8 - length : -8]).read_struct()


def _values(fields: dict[int, tuple[Any, bytes]]) -> dict[int, Any]:
    return {number: value for number, (value, _) in fields.items()}


def _encode_pair(pair: dict[int, tuple[Any, bytes]]) -> bytes:
    values = _values(pair)
    return to_key_value(values[1], values.get(2, b""))


def _node(form: Any, elements: Iterator[dict[int, Any]], path: tuple[str, ...], depth: int) -> Node:
    element = next(elements)
    path = (*path, element[4].decode())
    is_optional = element.get(3) == _OPTIONAL
    while isinstance(form, ak.forms.IndexedForm):
        form = form.content
    if form.is_option:
        if not is_optional:
            message = f"{'.'.join(path)} is an option, but not in the schema"
            raise UnknownToEncoder(message)
        form = form.content
    depth += 1
    if depth > _MOST_LEVELS:
        message = f"more than {_MOST_LEVELS} levels"
        raise UnknownToEncoder(message)
    array = form.parameter("__array__")
    match form:
        case ak.forms.RecordForm(fields=fields):
            if element.get(5) != len(fields):
                message = f"{'.'.join(path)} has other fields in the schema"
                raise UnknownToEncoder(message)
            contents = [_node(content, elements, path, depth) for content in form.contents]
            return RecordNode(is_optional, tuple(fields), tuple(contents))
        case ak.forms.RegularForm() | ak.forms.ListOffsetForm() | ak.forms.ListForm() if array is None:
            middle = next(elements)
            if element.get(6) != 3 or middle.get(3) != _REPEATED or middle.get(5) != 1:
                message = f"{'.'.join(path)} is a list, but not in the schema"
                raise UnknownToEncoder(message)
            size = form.size if isinstance(form, ak.forms.RegularForm) else None
            content = _node(form.content, elements, (*path, middle[4].decode()), depth + 1)
            return ListNode(is_optional, size, content)
    return _leaf(form, element, path, is_optional)


def _leaf(form: Any, element: dict[int, Any], path: tuple[str, ...], is_optional: bool) -> LeafNode:
    array = form.parameter("__array__")
    match form:
        case ak.forms.EmptyForm() if is_optional and element.get(1) == Physical.INT32:
            return LeafNode(is_optional, path, Content.NOTHING, Physical.INT32, "<i4", None)
        case ak.forms.NumpyForm(inner_shape=()) if array is None and form.primitive in _PHYSICAL:
            physical, stored = _PHYSICAL[form.primitive]
            if element.get(1) == physical:
                dtype = np.dtype(form.primitive)
                return LeafNode(is_optional, path, Content.NUMBERS, physical, stored, dtype)
        case ak.forms.RegularForm() | ak.forms.ListOffsetForm() | ak.forms.ListForm():
            if array in ("string", "bytestring") and element.get(1) == Physical.BYTE_ARRAY:
                return LeafNode(is_optional, path, Content.TEXT, Physical.BYTE_ARRAY, "u1", None)
    message = f"{'.'.join(path)} is of type {form.type}"
    raise UnknownToEncoder(message)
