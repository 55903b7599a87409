"""From awkward's forms to the plan's types."""

from __future__ import annotations

from typing import Any

import awkward as ak

from servicex_server.plan import types


def to_type(form: Any) -> types.Type:
    """The plan's type of an array of this form; Unknown for what a plan cannot work with."""
    match form:
        case ak.forms.NumpyForm():
            return _to_numbers(form)
        case ak.forms.RegularForm():
            if form.parameter("__array__") in ("string", "bytestring"):
                return _to_text(form)
            return types.List(to_type(form.content), form.size)
        case ak.forms.ListOffsetForm() | ak.forms.ListForm():
            if form.parameter("__array__") in ("string", "bytestring"):
                return _to_text(form)
            return types.List(to_type(form.content), None)
        case ak.forms.RecordForm():
            if not form.fields:
                return types.Unknown(str(form.type))
            return types.Record(
                tuple(
                    (name, to_type(content)) for name, content in zip(form.fields, form.contents, strict=True)
                ),
                form.is_tuple,
            )
        case ak.forms.IndexedForm():
            return to_type(form.content)
    if form.is_option:
        return types.Option(to_type(form.content))
    return types.Unknown(str(form.type))


def _to_text(form: Any) -> types.Type:
    return types.String() if form.parameter("__array__") == "string" else types.Unknown(str(form.type))


def _to_numbers(form: Any) -> types.Type:
    inner: types.Type
    if form.primitive == "bool":
        inner = types.Bool()
    elif form.primitive.startswith(("int", "uint", "float")):
        inner = types.Number(form.primitive)
    else:
        inner = types.Unknown(form.primitive)
    for size in reversed(form.inner_shape):
        inner = types.List(inner, size)
    return inner


def without_hidden(form: Any) -> Any:
    """The form without the members that uproot reads but leaves out of arrays: their names begin with `@`."""
    match form:
        case ak.forms.RecordForm(is_tuple=False):
            kept = [(name, form.content(name)) for name in form.fields if not name.startswith("@")]
            return form.copy(
                contents=[without_hidden(content) for _, content in kept], fields=[name for name, _ in kept]
            )
        case ak.forms.ListOffsetForm() | ak.forms.ListForm() | ak.forms.RegularForm():
            return form.copy(content=without_hidden(form.content))
    return form
