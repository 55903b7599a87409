"""The branches of a TTree by name, without deserialising them: where each one lies in the metadata.

Every object there is preceded by its number of bytes, so that a walk can hop from branch to branch and
read names alone: https://root.cern.ch/doc/master/dobject.html. Pure; whatever it does not expect is an
error, and then uproot reads the whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_COUNTED = 0x4000_0000
_COUNTED_VERSION = 0x4000
_NEW_CLASS = 0xFFFF_FFFF
_CLASS = 0x8000_0000
_IS_REFERENCED = 1 << 4
"""Bits of `TBufferFile` and `TObject`."""
MAP_OFFSET = 2
"""References to objects and classes count from so many bytes before the key."""
_LONG_STRING = 255

_DERIVED = ("TBranchElement", "TBranchObject")
_NUMBERS_BYTES = {
    10: (struct.calcsize(">iiiiqiIiqqq"), 0),
    11: (struct.calcsize(">iiiiqiIiqqqq"), 0),
    12: (struct.calcsize(">iiiiqiIiqqqq"), 0),
    13: (struct.calcsize(">iiiiq"), struct.calcsize(">iIiqqqq")),
}
"""By version of TBranch: bytes of plain numbers before its branches; in 13 an object is between them."""

_U1 = struct.Struct(">B")
_U2 = struct.Struct(">H")
_U4 = struct.Struct(">I")
_SIZE = struct.Struct(">ii")


class NotAsExpected(ValueError):
    """The metadata is laid out in a way that only uproot may know."""


@dataclass(frozen=True, slots=True)
class Node:
    """A branch.

    Attributes:
        name: its own, without those of the branches it is in.
        start, stop: where it lies in the metadata.
        children: the branches in it.
    """

    name: str
    start: int
    stop: int
    children: tuple[Node, ...]


def paths(nodes: Sequence[Node], prefix: str = "") -> Iterator[str]:
    """Names of all branches with those they are in (`outer/inner`), in the order of the file."""
    for node in nodes:
        yield prefix + node.name
        yield from paths(node.children, f"{prefix}{node.name}/")


class Walk:
    """A walk over the decompressed metadata of one tree."""

    def __init__(self, data: bytes, key_bytes: int) -> None:
        """
        Args:
            key_bytes: length of the key before the metadata, from which references count.
        """
        self._data = data
        self._key_bytes = key_bytes

    def skip_object(self, position: int) -> int:
        """The end of an object that begins with its number of bytes.

        Raises:
            NotAsExpected: it does not, or ends outside the metadata.
        """
        count = self._number(_U4, position)
        end = position + 4 + (count & ~_COUNTED)
        if not count & _COUNTED or end > len(self._data):
            message = f"no object with a number of bytes at {position}"
            raise NotAsExpected(message)
        return end

    def branches(self, position: int, limit: int) -> tuple[Node, ...]:
        """The branches in the `TObjArray` at this position, which ends at `limit` or before.

        Raises:
            NotAsExpected: it is not one, or not of branches alone.
        """
        end = self._end_within(position, limit)
        position = self._skip_tobject(position + 6)
        _, position = self._string(position)
        size, _ = self._numbers(_SIZE, position)
        position += _SIZE.size
        found = []
        for _ in range(size):
            found.append(self._branch(position, end))
            position = found[-1].stop
        if position != end:
            message = f"an array of branches ends at {position} and not at {end}"
            raise NotAsExpected(message)
        return tuple(found)

    def _branch(self, start: int, limit: int) -> Node:
        stop = self._end_within(start, limit)
        class_name, position = self._class_name(start + 4)
        if class_name in _DERIVED:
            self.skip_object(position)
            position += 6
        elif class_name != "TBranch":
            message = f"a branch of class {class_name!r}"
            raise NotAsExpected(message)
        self.skip_object(position)
        version = self._number(_U2, position + 4)
        if version not in _NUMBERS_BYTES:
            message = f"a TBranch of version {version}"
            raise NotAsExpected(message)
        named = position + 6
        name, _ = self._string(self._skip_tobject(named + 6))
        position = self.skip_object(self.skip_object(named))
        before, after = _NUMBERS_BYTES[version]
        position += before
        if after:
            position = self.skip_object(position) + after
        return Node(name, start, stop, self.branches(position, stop))

    def _end_within(self, position: int, limit: int) -> int:
        # What is inside something else ends there too: no byte is walked over twice.
        end = self.skip_object(position)
        if end > limit:
            message = f"an object at {position} ends outside of what it is in"
            raise NotAsExpected(message)
        return end

    def _class_name(self, position: int) -> tuple[str, int]:
        """The class of the object whose tag is here, and the place after the tag."""
        tag = self._number(_U4, position)
        if tag == _NEW_CLASS:
            return self._class_at(position)
        if not tag & _CLASS:
            message = f"a reference to an object at {position}"
            raise NotAsExpected(message)
        name, _ = self._class_at((tag & ~_CLASS) - MAP_OFFSET - self._key_bytes)
        return name, position + 4

    def _class_at(self, position: int) -> tuple[str, int]:
        end = self._data.find(b"\0", position + 4)
        if position < 0 or end < 0 or self._number(_U4, position) != _NEW_CLASS:
            message = f"no class is named at {position}"
            raise NotAsExpected(message)
        return self._data[position + 4 : end].decode(errors="replace"), end + 1

    def _skip_tobject(self, position: int) -> int:
        if self._number(_U2, position) & _COUNTED_VERSION:
            message = f"a TObject with a number of bytes at {position}"
            raise NotAsExpected(message)
        is_referenced = self._number(_U4, position + 6) & _IS_REFERENCED
        return position + 10 + (2 if is_referenced else 0)

    def _string(self, position: int) -> tuple[str, int]:
        size = self._number(_U1, position)
        position += 1
        if size == _LONG_STRING:
            size = self._number(_U4, position)
            position += 4
        # As uproot decodes names.
        return self._data[position : position + size].decode(errors="surrogateescape"), position + size

    def _number(self, form: struct.Struct, position: int) -> int:
        return self._numbers(form, position)[0]

    def _numbers(self, form: struct.Struct, position: int) -> tuple[int, ...]:
        try:
            return form.unpack_from(self._data, position)
        except struct.error as error:
            message = f"the metadata end before {position + form.size}"
            raise NotAsExpected(message) from error
