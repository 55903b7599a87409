"""awkward's types to ours."""

from __future__ import annotations

import awkward as ak

from servicex_server.plan.types import Bool, List, Number, Option, Record, String, Type, Unknown


def from_awkward(content: ak.types.Type) -> Type:
    """The type of one element, from what `array.type.content` says of it."""
    if content.parameters.get("__array__") == "string":
        return String()
    match content:
        case ak.types.NumpyType(primitive="bool"):
            return Bool()
        case ak.types.NumpyType(primitive=primitive) if "[" not in primitive:
            return Number(primitive)
        case ak.types.ListType(content=inner):
            return List(from_awkward(inner))
        case ak.types.RegularType(content=inner, size=size):
            return List(from_awkward(inner), size)
        case ak.types.OptionType(content=inner):
            return Option(from_awkward(inner))
        case ak.types.RecordType(contents=contents):
            names = [str(number) for number in range(len(contents))] if content.is_tuple else content.fields
            fields = tuple((name, from_awkward(inner)) for name, inner in zip(names, contents, strict=True))
            return Record(fields, is_tuple=content.is_tuple)
        case _:
            return Unknown(str(content))
