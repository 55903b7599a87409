"""What each node of a bound expression means, in awkward's terms."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, cast

import awkward as ak
import numpy as np

from servicex_server.errors import QueryTypeError, ResourceExhausted, ServicexError
from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    Expr,
    Field,
    Index,
    Literal,
    Mask,
    NewAxis,
    Span,
    Zip,
)
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.types import Bool, Number, Type, strip_option
from servicex_server.run.filter import vector
from servicex_server.run.filter.bound import check_before, check_bytes
from servicex_server.run.filter.flat import FlatKernels
from servicex_server.run.filter.special import SPECIAL_FUNCTIONS

Value = Any
"""An awkward array, a numpy or Python scalar, a record: awkward has no types that mypy could check."""


def compute(node: Expr, values: Mapping[Expr, Value], kernels: FlatKernels, max_bytes: int) -> Value:
    """The node's value from those of its parts, by a flat kernel if there is one for their shapes.

    Raises:
        QueryTypeError: the operation failed on these values.
        ResourceExhausted: the value would exceed `max_bytes`.
    """
    try:
        check_before(node, values, max_bytes)
        value = kernels.compute(node, values)
        if value is None:
            value = _value_of(node, values)
        check_bytes(node, value, max_bytes)
    except ServicexError:
        raise
    except MemoryError as error:
        message = f"{node.origin or type(node).__name__}: not enough memory"
        raise ResourceExhausted(message) from error
    except (ArithmeticError, IndexError, KeyError, TypeError, ValueError, NotImplementedError) as error:
        raise QueryTypeError(_explain(node, error)) from error
    return value


def _explain(node: Expr, error: Exception) -> str:
    text = " ".join(str(error.args[0] if error.args else error).split())
    text = text.partition("(in compiled code")[0].partition("This error occurred while")[0].strip()
    place = str(node.origin) if node.origin is not None else type(node).__name__.lower()
    if isinstance(error, IndexError):
        return (
            f"{place}: there is no such element in some of the collections; select those that have it first"
        )
    return f"{place}: {text:.300}"


def _value_of(node: Expr, values: Mapping[Expr, Value]) -> Value:
    match node:
        case Literal(value=value):
            return value
        case Field(source=source, name=name):
            return values[source][name]
        case Apply(function=function, operands=operands):
            return _apply(function, [values[operand] for operand in operands])
        case Choice(condition=condition, then=then, otherwise=otherwise):
            return ak.where(values[condition], values[then], values[otherwise])
        case Mask(source=source, predicate=predicate):
            return values[source][values[predicate]]
        case Index(source=source, items=items):
            picks = tuple(_index_item(item, values) for item in items)
            return values[source][picks if len(picks) > 1 else picks[0]]
        case Zip(names=names, values=items, depth_limit=limit):
            return _zip(names, [values[item] for item in items], limit)
        case Align(source=source, like=like, axis=axis):
            return _align(values[source], values[like], axis)
        case Broadcast(source=source, like=like, axes=int(axes)):
            return _broadcast(values[source], values[like], axes)
        case Call(function=function, arguments=arguments):
            return _CALLS[function](node, [values[argument] for argument in arguments])
        case _:
            message = f"a {type(node).__name__} cannot be computed"
            raise TypeError(message)


def _apply(function: str, operands: list[Value]) -> Value:
    if not any(isinstance(operand, np.ma.MaskedArray) for operand in operands):
        return _elementwise(function)(*operands)
    # The extreme of no values at all: fine beside arrays without values, or for another single value.
    if any(len(operand) for operand in operands if isinstance(operand, ak.Array)):
        message = "the minimum or maximum of no values has no value"
        raise ValueError(message)
    plain = [operand.data[()] if isinstance(operand, np.ma.MaskedArray) else operand for operand in operands]
    result = _elementwise(function)(*plain)
    return result if isinstance(result, ak.Array) else np.ma.masked_array(np.asarray(result), mask=True)


def _elementwise(function: str) -> Callable[..., Value]:
    match function:
        case "equal":
            return operator.eq  # awkward compares texts with the operator only
        case "not_equal":
            return operator.ne
        case _ if function in SPECIAL_FUNCTIONS:
            return SPECIAL_FUNCTIONS[function]
        case _:
            ufunc: Callable[..., Value] = getattr(np, function)
            return ufunc


def _index_item(item: object, values: Mapping[Expr, Value]) -> Value:
    match item:
        case Span(start=start, stop=stop, step=step):
            return slice(start, stop, step)
        case NewAxis():
            return np.newaxis
        case Expr():
            return values[item]
        case _:
            return item


def _zip(names: tuple[str, ...] | None, values: list[Value], depth_limit: int | None) -> Value:
    if not values:
        return ak.Array([])
    fields = tuple(values) if names is None else dict(zip(names, values, strict=True))
    return ak.zip(fields, depth_limit=depth_limit)


def _align(source: Value, like: Value, axis: int) -> Value:
    places = ak.local_index(like, axis=axis)
    spread = source[(*(slice(None) for _ in range(axis)), np.newaxis)]
    return ak.from_regular(ak.broadcast_arrays(spread, places, depth_limit=axis + 1)[0], axis=None)


def _broadcast(source: Value, like: Value, axes: int) -> Value:
    places = ak.local_index(like, axis=axes - 1)
    if isinstance(source, str):
        return ak.Array([source])[ak.zeros_like(places)] if axes == 1 else _broadcast_text(source, places)
    if isinstance(source, bool | int | float):
        return ak.full_like(places, source, dtype=type(source))
    return ak.broadcast_arrays(source, places, depth_limit=axes)[0]


def _broadcast_text(source: str, places: ak.Array) -> ak.Array:
    flat = ak.Array([source])[np.zeros(len(ak.flatten(places, axis=None)), dtype=np.int64)]
    counts = [ak.flatten(ak.num(places, axis=axis), axis=None) for axis in range(1, places.ndim)]
    for count in reversed(counts):
        flat = ak.unflatten(flat, count)
    return flat


def _plain(function: str) -> Callable[[Call, list[Value]], Value]:
    target = getattr(ak, function)

    def compute(node: Call, arguments: list[Value]) -> Value:
        value = target(*arguments, **{name: _option(value) for name, value in node.options})
        return _missing(function, arguments[0]) if value is None else value

    return compute


def _missing(function: str, source: ak.Array) -> Value:
    """The missing result of a reduction over no values, with the dtype that it would have had."""
    numbers = ak.to_numpy(ak.flatten(ak.drop_none(source), axis=None))
    dtype = np.dtype(np.int64) if "arg" in function else numbers.dtype
    return np.ma.masked_array(np.zeros((), dtype), mask=True)


def _option(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _of_collection(function: str) -> Callable[[Call, list[Value]], Value]:
    target = getattr(ak, function)

    def compute(node: Call, arguments: list[Value]) -> Value:
        options = dict(node.options)
        names = cast("tuple[str, ...] | None", options.pop("names", None))
        arrays = arguments if names is None else dict(zip(names, arguments, strict=True))
        return target(arrays, **options)

    return compute


def _one_of(function: str) -> Callable[[Call, list[Value]], Value]:
    target = getattr(ak, function)

    def compute(node: Call, arguments: list[Value]) -> Value:
        options = dict(node.options)
        return target(*arguments, **{key: options[key] for key in options if key != "index"})[
            options["index"]
        ]

    return compute


def _choose(node: Call, arguments: list[Value]) -> Value:
    axis = cast(int, node.option("axis"))
    combined = ak.combinations(arguments[0], node.option("n"), axis=axis)
    inner = (*(slice(None) for _ in range(axis + 1)), np.newaxis)
    parts = [ak.from_regular(part[inner], axis=None) for part in ak.unzip(combined)]
    return ak.concatenate(parts, axis=axis + 1)


def _pad_none(node: Call, arguments: list[Value]) -> Value:
    # Packed, because awkward gives no options for lists that a mask has picked and that are all long enough:
    # then the type of the result would depend on the data.
    (source,) = arguments
    return ak.pad_none(ak.to_packed(source), **dict(node.options))


def _from_regular(node: Call, arguments: list[Value]) -> Value:
    del node
    return ak.from_regular(arguments[0], axis=None)


def _weighted(function: str) -> Callable[[Call, list[Value]], Value]:
    target = getattr(ak, function)

    def compute(node: Call, arguments: list[Value]) -> Value:
        options = dict(node.options)
        if len(arguments) > 1:
            options["weight"] = arguments[1]
        return target(arguments[0], **options)

    return compute


_CALLS: Mapping[str, Callable[[Call, list[Value]], Value]] = {
    **{
        name: _plain(name)
        for name in (
            "sum", "prod", "any", "all", "count", "count_nonzero", "nansum", "nanprod", "min", "max",
            "nanmin", "nanmax", "argmin", "argmax", "nanargmin", "nanargmax", "softmax", "flatten", "num",
            "sort", "argsort", "mask", "is_none", "drop_none", "fill_none", "firsts",
            "singletons", "combinations", "argcombinations", "isclose", "almost_equal",
        )
    },
    **{name: _weighted(name) for name in ("mean", "nanmean", "var", "nanvar", "std", "nanstd", "moment")},
    **{name: _of_collection(name) for name in ("concatenate", "cartesian", "argcartesian")},
    **{name: _one_of(name) for name in ("broadcast_arrays", "broadcast_fields")},
    "choose": _choose,
    "pad_none": _pad_none,
    "from_regular": _from_regular,
    "with_name": vector.with_name,
    "without_names": vector.without_names,
    "vector": vector.member,
}  # fmt: skip


def as_rows(value: Value, output: BoundOutput) -> ak.Array:
    """An array of rows: a single value for the whole file is one row, the extreme of no rows is none."""
    if isinstance(value, ak.Array):
        return value
    if isinstance(value, ak.Record):
        return (
            ak.Array([value])
            if value.layout.at is None
            else ak.Array(value.layout.array)[value.layout.at :][:1]
        )
    (column,) = output.schema.values()
    dtype = _dtype_of(column)
    if isinstance(value, np.ma.MaskedArray):
        return ak.Array(np.empty(0, dtype))
    return ak.Array([value]) if dtype is None else ak.Array(np.array([value], dtype))


def _dtype_of(column: Type) -> str | None:
    match strip_option(column):
        case Number(dtype=name):
            return name
        case Bool():
            return "bool"
        case _:
            return None
