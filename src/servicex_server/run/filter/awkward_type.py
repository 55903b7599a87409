"""awkward's types to ours, and back."""

from __future__ import annotations

import awkward as ak

from servicex_server.errors import QueryTypeError
from servicex_server.plan.plan import BoundOutput
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


def empty_rows(output: BoundOutput) -> ak.Array:
    """No rows, of exactly the type that evaluating the output gives; needs no columns.

    Raises:
        QueryTypeError: a column's type is not known.
    """
    if output.is_unnamed:
        (column,) = output.schema.values()
    else:
        is_tuple = list(output.schema) == [str(number) for number in range(len(output.schema))]
        column = Record(tuple(output.schema.items()), is_tuple=is_tuple)
    return ak.Array(_form_of(column).length_zero_array(highlevel=False))


def _form_of(value: Type) -> ak.forms.Form:
    match value:
        case Bool():
            return ak.forms.NumpyForm("bool")
        case Number(dtype=dtype):
            return ak.forms.NumpyForm(dtype)
        case String():
            characters = ak.forms.NumpyForm("uint8", parameters={"__array__": "char"})
            return ak.forms.ListOffsetForm("i64", characters, parameters={"__array__": "string"})
        case List(content=content, size=None):
            return ak.forms.ListOffsetForm("i64", _form_of(content))
        case List(content=content, size=size):
            return ak.forms.RegularForm(_form_of(content), size)
        case Option(content=content):
            return ak.forms.IndexedOptionForm("i64", _form_of(content))
        case Record(fields=fields, is_tuple=is_tuple):
            names = None if is_tuple else [name for name, _ in fields]
            return ak.forms.RecordForm([_form_of(content) for _, content in fields], names)
        case Unknown(typename=name):
            message = f"a column of type {name} cannot be passed on"
            raise QueryTypeError(message)
