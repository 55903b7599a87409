"""What a field is made of, as far as the fast path knows it. Pure.

A shape mirrors the array that comes out: lists, records, arrays of fixed size, and at the ends physical
columns. uproot's choices of types and names are followed. What is not known here has no shape and is left to
uproot: variants, options, whole objects in bytes, floats of fewer bits, and columns that are stored in
several representations or begin later than the first entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from servicex_server.plan import types
from servicex_server.run.read.ntuple.envelope import FieldRecord, Role
from servicex_server.run.read.ntuple.metadata import RNTupleMetadata
from servicex_server.run.read.ntuple.page import CHARACTER, ENCODINGS, Encoding

_TUPLE_MEMBER = re.compile(r"_[0-9]+")
_DEEPEST = 32
"""Levels of fields in fields."""
_LARGEST_ARRAY = 1 << 22
"""Elements of all fixed-size arrays around each other, per entry or item."""


@dataclass(frozen=True, eq=False)
class Column:
    """A physical column and what its elements belong to. There is one object for each: see `Shapes`.

    Attributes:
        number: among the columns of the RNTuple.
        encoding: of its elements.
        around: the column of offsets whose items it describes; None if it describes entries.
        factor: how many elements there are for each entry or item.
        depth: how many collections it is in.
    """

    number: int
    encoding: Encoding
    around: Column | None
    factor: int
    depth: int


@dataclass(frozen=True)
class Numbers:
    """Numbers or bools, one per element."""

    column: Column


@dataclass(frozen=True)
class Lengths:
    """How many items each list of a collection has, as numbers."""

    offsets: Column


@dataclass(frozen=True)
class Text:
    """Strings in UTF-8."""

    offsets: Column
    characters: Column


@dataclass(frozen=True)
class Lists:
    """Lists of any length."""

    offsets: Column
    content: Shape


@dataclass(frozen=True)
class Arrays:
    """Lists that all have the same length."""

    size: int
    content: Shape


@dataclass(frozen=True)
class Records:
    """Named members, or the members of a tuple."""

    names: tuple[str, ...]
    contents: tuple[Shape, ...]
    is_tuple: bool


Shape: TypeAlias = Numbers | Lengths | Text | Lists | Arrays | Records


@dataclass(frozen=True)
class _Place:
    """Where a field is: in the items of a collection or in entries, times the sizes of arrays around it."""

    around: Column | None = None
    factor: int = 1


class _NoShape(Exception):
    """The fast path does not know this kind of field."""


def columns_in(shape: Shape) -> Iterator[Column]:
    """The columns that a shape is read from."""
    match shape:
        case Numbers(column):
            yield column
        case Lengths(offsets):
            yield offsets
        case Text(offsets, characters):
            yield from (offsets, characters)
        case Lists(offsets, content):
            yield offsets
            yield from columns_in(content)
        case Arrays(_, content):
            yield from columns_in(content)
        case Records(_, contents):
            for content in contents:
                yield from columns_in(content)


def type_of(shape: Shape) -> types.Type:
    """The plan's type of one entry."""
    match shape:
        case Numbers(column):
            return types.Bool() if column.encoding.n_bits == 1 else types.Number(column.encoding.dtype.name)
        case Lengths(offsets):
            return types.Number(offsets.encoding.dtype.name)
        case Text():
            return types.String()
        case Lists(_, content):
            return types.List(type_of(content), None)
        case Arrays(size, content):
            return types.List(type_of(content), size)
        case Records(names, contents, is_tuple):
            members = zip(names, map(type_of, contents), strict=True)
            return types.Record(tuple(members), is_tuple)


class Shapes:
    """The shapes of the fields of one RNTuple."""

    def __init__(self, metadata: RNTupleMetadata) -> None:
        self._metadata = metadata
        self._fields = metadata.fields
        self._found: dict[int, Shape | None] = {}
        self._interned: dict[tuple[int, Column | None, int], Column] = {}

    def find(self, number: int) -> Shape | None:
        """The shape of a field, with the lists and arrays it is in; None if it is left to uproot."""
        if number not in self._found:
            try:
                self._found[number] = self._wrap(self._way_to(number), _Place())
            except _NoShape:
                self._found[number] = None
        return self._found[number]

    def _way_to(self, number: int) -> list[int]:
        """The fields around a field, the outermost first, and the field itself."""
        way = [number]
        while self._fields[number].parent != number:
            number = self._fields[number].parent
            way.append(number)
            if len(way) > _DEEPEST:
                raise _NoShape
        return way[::-1]

    def _wrap(self, way: list[int], place: _Place) -> Shape:
        """The shape of the last field of `way`, in the lists and arrays of those before."""
        number, *inner = way
        if not inner:
            return self._build(number, place, 0)
        record = self._fields[number]
        match record.role:
            case Role.RECORD if not record.repetition:
                return self._wrap(inner, place)
            case Role.COLLECTION:
                offsets = self._offsets(number, place)
                return Lists(offsets, self._wrap(inner, _Place(offsets)))
            case Role.LEAF if record.repetition:
                return Arrays(record.repetition, self._wrap(inner, self._repeated(place, record)))
        raise _NoShape

    def _build(self, number: int, place: _Place, depth: int) -> Shape:
        record = self._fields[number]
        if depth > _DEEPEST:
            raise _NoShape
        match record.role:
            case Role.LEAF if record.repetition:
                return self._array(number, place, depth)
            case Role.LEAF:
                return self._leaf(number, place)
            case Role.COLLECTION:
                offsets = self._offsets(number, place)
                return Lists(offsets, self._build(self._only_child(number), _Place(offsets), depth + 1))
            case Role.RECORD if not record.repetition:
                return self._record(number, place, depth)
        raise _NoShape

    def _leaf(self, number: int, place: _Place) -> Shape:
        is_cardinality = "RNTupleCardinality" in self._fields[number].type_name
        if not self._stored(number) and number in self._metadata.children:
            # An enumeration or an atomic number: its value is in a field inside.
            number = self._only_child(number)
        match self._columns(number, place):
            case [column] if not column.encoding.is_index:
                return Numbers(column)
            case [column] if is_cardinality:
                return Lengths(column)
            case [offsets, characters] if offsets.encoding.is_index:
                if self._metadata.columns[characters.number].encoding == CHARACTER:
                    inside = _Place(offsets)
                    return Text(offsets, self._column(characters.number, characters.encoding, inside))
        raise _NoShape

    def _array(self, number: int, place: _Place, depth: int) -> Shape:
        record = self._fields[number]
        place = self._repeated(place, record)
        if number in self._metadata.children:
            return Arrays(record.repetition, self._build(self._only_child(number), place, depth + 1))
        # A bitset has no field inside.
        match self._columns(number, place):
            case [column] if not column.encoding.is_index:
                return Arrays(record.repetition, Numbers(column))
        raise _NoShape

    def _record(self, number: int, place: _Place, depth: int) -> Shape:
        members = list(self._members(number))
        names = tuple(self._metadata.name_of(member) for member in members)
        # Where two fields have the same path, uproot invents names.
        if not members or self._metadata.paths is None:
            raise _NoShape
        is_tuple = all(_TUPLE_MEMBER.fullmatch(self._fields[member].name) for member in members)
        if is_tuple and names != tuple(map(str, range(len(names)))):
            raise _NoShape
        contents = tuple(self._build(member, place, depth + 1) for member in members)
        return Records(names, contents, is_tuple)

    def _members(self, number: int) -> Iterator[int]:
        """The members of a record, those of its base classes after its own."""
        ahead = [number]
        while ahead:
            for child in self._metadata.children.get(ahead.pop(), ()):
                if self._metadata.is_anonymous(child):
                    ahead.append(child)
                else:
                    yield child

    def _only_child(self, number: int) -> int:
        children = self._metadata.children.get(number, ())
        if len(children) != 1:
            raise _NoShape
        return children[0]

    def _offsets(self, number: int, place: _Place) -> Column:
        source = self._fields[number].source
        storing = self._fields[number if source is None else source]
        if self._fields[number].repetition or storing.type_name.startswith("std::optional"):
            raise _NoShape
        self._only_child(number)
        match self._columns(number, place):
            case [column] if column.encoding.is_index:
                return column
        raise _NoShape

    def _repeated(self, place: _Place, record: FieldRecord) -> _Place:
        factor = place.factor * record.repetition
        if factor > _LARGEST_ARRAY:
            raise _NoShape
        return _Place(place.around, factor)

    def _stored(self, number: int) -> Sequence[int]:
        """Numbers of the columns of a field, in all representations; of its source, if it is projected."""
        source = self._fields[number].source
        return self._metadata.columns_of.get(number if source is None else source, ())

    def _columns(self, number: int, place: _Place) -> list[Column]:
        """The columns of a field that is stored in one representation, from the first entry on."""
        found = []
        for column in self._stored(number):
            record = self._metadata.columns[column]
            encoding = ENCODINGS.get(record.encoding)
            if encoding is None or record.flags or record.representation or record.n_bits != encoding.n_bits:
                raise _NoShape
            found.append(self._column(column, encoding, place))
        return found

    def _column(self, number: int, encoding: Encoding, place: _Place) -> Column:
        depth = 0 if place.around is None else 1 + place.around.depth
        column = Column(number, encoding, place.around, place.factor, depth)
        return self._interned.setdefault((number, place.around, place.factor), column)
