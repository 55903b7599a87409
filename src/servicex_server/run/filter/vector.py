"""Records as vectors, what can be asked of those, and vectors as plain records again."""

from __future__ import annotations

from typing import Any, cast

import awkward as ak

from servicex_server.plan import vector_type
from servicex_server.plan.ir import Call
from servicex_server.plan.vector import METHODS


def with_name(node: Call, arguments: list[Any]) -> Any:
    """The records as the kind of vectors that the node names."""
    return vector_type.with_behavior(ak.with_name(arguments[0], cast(str, node.option("name"))))


def member(node: Call, arguments: list[Any]) -> Any:
    """A property of vectors, or the result of a method."""
    name = cast(str, node.option("member"))
    return vector_type.member(name, arguments, is_method=name in METHODS)


def without_names(node: Call, arguments: list[Any]) -> Any:
    """The same values, with vectors as plain records."""
    del node

    def plain(layout: Any, depth_context: Any = None, continuation: Any = None, **_: object) -> Any:
        del depth_context
        if not layout.is_record:
            return None
        record = continuation()
        return ak.contents.RecordArray(
            record.contents, None if record.is_tuple else record.fields, record.length, backend=record.backend
        )

    value = arguments[0]
    if isinstance(value, ak.Record):
        record = value.layout
        return ak.transform(plain, ak.Array(record.array[record.at : record.at + 1]))[0]
    return ak.transform(plain, ak.Array(value.layout)) if isinstance(value, ak.Array) else value
