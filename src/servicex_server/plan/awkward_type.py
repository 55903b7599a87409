"""awkward's types to ours, and ours to awkward's forms.

Nothing in `plan` imports this but `vector_type`, and that only when a query has vectors.
"""

from __future__ import annotations

import awkward as ak

from servicex_server.errors import QueryTypeError
from servicex_server.plan.types import Bool, List, Number, Option, Record, String, Type, Unknown
from servicex_server.plan.vector import KINDS


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
            kind = content.parameters.get("__record__")
            return Record(fields, is_tuple=content.is_tuple, name=kind if kind in KINDS else None)
        case _:
            return Unknown(str(content))


def to_form(value: Type) -> ak.forms.Form:
    """The layout that values of the type have.

    Raises:
        QueryTypeError: the type is not known.
    """
    match value:
        case Bool():
            return ak.forms.NumpyForm("bool")
        case Number(dtype=dtype):
            return ak.forms.NumpyForm(dtype)
        case String():
            characters = ak.forms.NumpyForm("uint8", parameters={"__array__": "char"})
            return ak.forms.ListOffsetForm("i64", characters, parameters={"__array__": "string"})
        case List(content=content, size=None):
            return ak.forms.ListOffsetForm("i64", to_form(content))
        case List(content=content, size=size):
            return ak.forms.RegularForm(to_form(content), size)
        case Option(content=content):
            return ak.forms.IndexedOptionForm("i64", to_form(content))
        case Record(fields=fields, is_tuple=is_tuple, name=kind):
            names = None if is_tuple else [name for name, _ in fields]
            parameters = None if kind is None else {"__record__": kind}
            contents = [to_form(content) for _, content in fields]
            return ak.forms.RecordForm(contents, names, parameters=parameters)
        case Unknown(typename=name):
            message = f"a column of type {name} cannot be passed on"
            raise QueryTypeError(message)
