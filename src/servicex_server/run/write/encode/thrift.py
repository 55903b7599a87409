"""Thrift's compact protocol, as far as Parquet's headers and footer need it.

The protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Self


class Kind(IntEnum):
    """Type codes of fields and of list elements."""

    TRUE = 1
    FALSE = 2
    I8 = 3
    I16 = 4
    I32 = 5
    I64 = 6
    DOUBLE = 7
    BINARY = 8
    LIST = 9
    SET = 10
    STRUCT = 12


def to_varint(number: int) -> bytes:
    """A number >= 0 in groups of seven bits, the lowest first.

    >>> to_varint(300).hex()
    'ac02'
    """
    if number < 128:
        return bytes((number,))
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def to_zigzag(number: int) -> bytes:
    """A signed number of up to 64 bits; small absolute values are short.

    >>> to_zigzag(-1).hex(), to_zigzag(1).hex()
    ('01', '02')
    """
    return to_varint((number << 1) ^ (number >> 63))


def to_binary(value: bytes) -> bytes:
    """Bytes with their length before them."""
    return to_varint(len(value)) + value


def to_list(kind: Kind, items: Sequence[bytes]) -> bytes:
    """A list of elements that are encoded already."""
    if len(items) < 15:
        head = bytes((len(items) << 4 | kind,))
    else:
        head = bytes((0xF0 | kind,)) + to_varint(len(items))
    return head + b"".join(items)


class Struct:
    """A struct in the making: fields in ascending order of their ids."""

    __slots__ = ("_last", "_out")

    def __init__(self) -> None:
        self._out = bytearray()
        self._last = 0

    def _begin(self, field: int, kind: Kind) -> None:
        step = field - self._last
        if 0 < step < 16:
            self._out.append(step << 4 | kind)
        else:
            self._out.append(kind)
            self._out += to_zigzag(field)
        self._last = field

    def i16(self, field: int, value: int) -> Self:
        self._begin(field, Kind.I16)
        self._out += to_zigzag(value)
        return self

    def i32(self, field: int, value: int) -> Self:
        self._begin(field, Kind.I32)
        self._out += to_zigzag(value)
        return self

    def i64(self, field: int, value: int) -> Self:
        self._begin(field, Kind.I64)
        self._out += to_zigzag(value)
        return self

    def boolean(self, field: int, value: bool) -> Self:
        self._begin(field, Kind.TRUE if value else Kind.FALSE)
        return self

    def binary(self, field: int, value: bytes) -> Self:
        self._begin(field, Kind.BINARY)
        self._out += to_binary(value)
        return self

    def struct(self, field: int, value: Struct) -> Self:
        self._begin(field, Kind.STRUCT)
        self._out += value.to_bytes()
        return self

    def items(self, field: int, kind: Kind, items: Sequence[bytes]) -> Self:
        """A list of elements that are encoded already."""
        return self.encoded(field, Kind.LIST, to_list(kind, items))

    def encoded(self, field: int, kind: Kind, value: bytes) -> Self:
        """A value that is encoded already, of any kind but a boolean."""
        self._begin(field, kind)
        self._out += value
        return self

    def to_bytes(self) -> bytes:
        return bytes(self._out) + b"\0"


class Reader:
    """Reads what a trusted writer wrote; see `read_struct`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    def read_struct(self) -> dict[int, tuple[Any, bytes]]:
        """Each field's value and its encoding. Structs are dicts of the same kind, lists are lists."""
        fields: dict[int, tuple[Any, bytes]] = {}
        field = 0
        while head := self._byte():
            step = head >> 4
            field = field + step if step else self._zigzag()
            start = self.position
            kind = Kind(head & 15)
            value = kind is Kind.TRUE if kind in (Kind.TRUE, Kind.FALSE) else self._value(kind)
            fields[field] = value, self._data[start : self.position]
        return fields

    def _value(self, kind: Kind) -> Any:
        match kind:
            case Kind.I16 | Kind.I32 | Kind.I64:
                return self._zigzag()
            case Kind.TRUE | Kind.FALSE:
                return self._byte() == Kind.TRUE
            case Kind.I8:
                return self._bytes(1)
            case Kind.DOUBLE:
                return self._bytes(8)
            case Kind.BINARY:
                return self._bytes(self._varint())
            case Kind.STRUCT:
                return self.read_struct()
            case Kind.LIST | Kind.SET:
                head = self._byte()
                length = head >> 4 if head < 0xF0 else self._varint()
                return [self._value(Kind(head & 15)) for _ in range(length)]

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _bytes(self, length: int) -> bytes:
        self.position += length
        return self._data[self.position - length : self.position]

    def _varint(self) -> int:
        number = shift = 0
        while (byte := self._byte()) > 127:
            number |= (byte & 127) << shift
            shift += 7
        return number | byte << shift

    def _zigzag(self) -> int:
        number = self._varint()
        return number >> 1 ^ -(number & 1)
