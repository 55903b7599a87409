"""The type that each array function of `function.FUNCTIONS` gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from servicex_server.plan import infer
from servicex_server.plan.infer import Operand, Weak, at_axis, fail, map_leaf
from servicex_server.plan.infer_vector import is_vector, type_of_reducer
from servicex_server.plan.ir import OptionValue
from servicex_server.plan.types import Bool, List, Number, Option, Record, Type, depth_of, strip_option

INT = Number("int64")
MAX_COMBINED = 50
_STATISTICS = frozenset({"mean", "nanmean", "var", "nanvar", "std", "nanstd", "moment"})
_REDUCERS = _STATISTICS | {
    "sum", "prod", "any", "all", "count", "count_nonzero", "nansum", "nanprod", "min", "max",
    "nanmin", "nanmax", "argmin", "argmax", "nanargmin", "nanargmax",
}  # fmt: skip
_ELEMENTWISE = frozenset({"argsort", "sort", "softmax", "isclose", "almost_equal"})
_MASKED_BY_DEFAULT = frozenset(
    f"{nan}{name}" for nan in ("", "nan") for name in ("min", "max", "argmin", "argmax")
) | {"nanmean", "nanvar", "nanstd"}

Options = dict[str, OptionValue]


def type_of_call(function: str, operands: Sequence[Operand], options: Options) -> Type:
    """The type of the function's result. Replaces a negative axis in `options` by the positive one."""
    first = infer.strong(operands[0])
    axis = options.get("axis")
    if isinstance(axis, int):
        axis = options["axis"] = infer.positive_axis(_reference(first, operands, function), axis)
    axis = cast("int | None", axis)
    if function in _REDUCERS:
        return _type_of_reducer(function, operands, axis, options)
    if function in _ELEMENTWISE:
        return _type_of_elementwise(function, operands)
    match function:
        case "num":
            return INT if axis == 0 else at_axis(first, _required(axis) - 1, _count_below)
        case "flatten":
            return _type_of_flatten(first, axis)
        case "choose" | "combinations" | "argcombinations":
            return _type_of_combinations(function, first, _required(axis), options)
        case "cartesian" | "argcartesian":
            return _type_of_cartesian(function, operands, _required(axis), options)
        case "concatenate":
            return _type_of_concatenate(operands, _required(axis))
        case "broadcast_arrays" | "broadcast_fields":
            return _type_of_broadcast(function, operands, options)
        case _:
            return _type_of_option_function(function, operands, axis, options)


def _type_of_elementwise(function: str, operands: Sequence[Operand]) -> Type:
    first = infer.strong(operands[0])
    match function:
        case "argsort":
            return map_leaf(first, lambda leaf: _ordered(leaf, INT))
        case "sort":
            return map_leaf(first, lambda leaf: _ordered(leaf, leaf))
        case "softmax":
            return map_leaf(first, _float_leaf)
        case "isclose":
            return infer.broadcast(operands, _compared)
        case _:
            return Bool()


def _reference(first: Type, operands: Sequence[Operand], function: str) -> Type:
    """The array that the axis counts in: the deepest one where arrays are broadcast or joined."""
    if function in {"concatenate", "cartesian", "argcartesian"}:
        return max((infer.strong(operand) for operand in operands), key=depth_of)
    return first


def _required(axis: int | None) -> int:
    if axis is None:
        fail("the axis must be a whole number")
    return axis


def _count_below(lists: List) -> Type:
    match lists.content:
        case Option(content=List()):
            return List(Option(INT), lists.size)
        case List():
            return List(INT, lists.size)
        case _:
            return fail(infer.no_list(lists.content, 1))


def _type_of_reducer(function: str, operands: Sequence[Operand], axis: int | None, options: Options) -> Type:
    value = infer.strong(operands[0])
    if is_vector(value) and axis is not None:
        return type_of_reducer(function, value, axis)
    if len(operands) > 1:
        value = infer.elementwise("multiply", operands)
    is_masked = bool(options.get("mask_identity", function in _MASKED_BY_DEFAULT))
    return infer.reduce(
        function, value, axis, keepdims=bool(options.get("keepdims", False)), is_masked=is_masked
    )


def _type_of_flatten(value: Type, axis: int | None) -> Type:
    if axis is None:
        return List(_leaf(value))
    if axis == 0:
        outer = strip_option(value)
        return List(strip_option(outer.content)) if isinstance(outer, List) else outer

    def joined(lists: List) -> Type:
        inner = strip_option(lists.content)
        if not isinstance(inner, List):
            fail(infer.no_list(lists.content, axis))
        return List(inner.content)

    return at_axis(value, axis - 1, joined)


def _leaf(value: Type) -> Type:
    value = strip_option(value)
    while isinstance(value, List):
        value = strip_option(value.content)
    return value


def _ordered(leaf: Type, result: Type) -> Type:
    if infer.dtype_of(leaf) is None:
        fail(f"it does not apply to {infer.describe(leaf)}")
    return result


def _float_leaf(leaf: Type) -> Type:
    dtype = infer.dtype_of(leaf)
    if dtype is None or dtype.kind == "c":
        fail(f"it does not apply to {infer.describe(leaf)}")
    return leaf if dtype.kind == "f" else infer.elementwise("exp", [leaf])


def _compared(leaves: Sequence[Operand]) -> Type:
    for leaf in leaves:
        if infer.dtype_of(infer.strong(leaf)) is None:
            fail(f"it does not apply to {infer.describe(leaf)}")
    return Bool()


def _type_of_combinations(function: str, value: Type, axis: int, options: Options) -> Type:
    n = cast(int, options["n"])
    if not 1 <= n <= MAX_COMBINED:
        fail(f"it combines 1 to {MAX_COMBINED} elements, not {n}")

    def combined(lists: List) -> Type:
        element = INT if function == "argcombinations" else lists.content
        if function == "choose":
            return List(List(element))
        names = cast("tuple[str, ...] | None", options.get("fields"))
        fields = names if names is not None else tuple(map(str, range(n)))
        return List(Record(tuple((name, element) for name in fields), is_tuple=names is None))

    return at_axis(value, axis, combined)


def _type_of_cartesian(function: str, operands: Sequence[Operand], axis: int, options: Options) -> Type:
    elements = [_element_at(infer.strong(operand), axis) for operand in operands]
    names = cast("tuple[str, ...] | None", options.get("names"))
    fields = names if names is not None else tuple(map(str, range(len(elements))))
    contents = [INT if function == "argcartesian" else element for element in elements]
    record: Type = Record(tuple(zip(fields, contents, strict=True)), is_tuple=names is None)
    for _ in range(len(elements) - 1 if options.get("nested") else 0):
        record = List(record)
    outside = max((infer.strong(operand) for operand in operands), key=depth_of)
    return at_axis(outside, axis, lambda _: List(record))


def _element_at(value: Type, axis: int) -> Type:
    inner = strip_option(value)
    for _ in range(axis):
        if not isinstance(inner, List):
            fail(infer.no_list(inner, axis))
        inner = strip_option(inner.content)
    if not isinstance(inner, List):
        fail(infer.no_list(inner, axis))
    return inner.content


def _type_of_concatenate(operands: Sequence[Operand], axis: int) -> Type:
    result = infer.strong(operands[0])
    for operand in operands[1:]:
        other = infer.strong(operand)
        if depth_of(other) <= axis or depth_of(result) <= axis:
            fail(f"all arrays must have lists at axis {axis}")
        result = infer.merge(infer.jagged(result), infer.jagged(other))
    if axis == 0:
        return infer.jagged(result)
    # A missing list counts as an empty one where lists are joined.
    return infer.at_axis(
        infer.jagged(result), axis - 1, lambda lists: List(strip_option(lists.content), lists.size)
    )


def _type_of_broadcast(function: str, operands: Sequence[Operand], options: Options) -> Type:
    index = cast(int, options["index"])
    if not 0 <= index < len(operands):
        fail(f"there is no item {index}: {function} gives {len(operands)} arrays")
    if function == "broadcast_fields":
        records = [infer.strong(operand) for operand in operands]
        leaves = [_leaf(record) for record in records]
        names = {leaf.names if isinstance(leaf, Record) else () for leaf in leaves}
        if len(names) != 1:
            fail("the records must have the same fields")
        # Tuples come back as records with the fields "0", "1", …
        return map_leaf(
            records[index], lambda leaf: Record(leaf.fields) if isinstance(leaf, Record) else leaf
        )
    limit = cast("int | None", options.get("depth_limit"))
    zipped = infer.zip_fields(None, operands, limit)
    return map_leaf(zipped, lambda leaf: cast(Record, leaf).fields[index][1])


def _type_of_option_function(
    function: str, operands: Sequence[Operand], axis: int | None, options: Options
) -> Type:
    value = infer.strong(operands[0])
    match function:
        case "from_regular":
            return infer.jagged(value)
        case "firsts":
            return _type_of_firsts(value, _required(axis))
        case "singletons":
            return at_axis(value, _required(axis), lambda lists: List(List(strip_option(lists.content))))
        case "is_none":
            return infer.truncate(value, _required(axis) + 1, Bool())
        case "drop_none":
            return _without_options(value, axis)
        case "pad_none":
            size = cast(int, options["target"]) if options.get("clip") else None
            return at_axis(
                value,
                _required(axis),
                lambda lists: List(Option(strip_option(lists.content)), size if axis else None),
            )
        case "fill_none":
            return _type_of_filled(value, Weak(cast("bool | int | float | str", options["value"])), axis)
        case "mask":
            return _type_of_masked(value, infer.strong(operands[1]))
        case _:
            return fail("the function is not supported")


def _type_of_firsts(value: Type, axis: int) -> Type:
    def first(lists: List) -> Type:
        return Option(strip_option(lists.content))

    return at_axis(value, axis, first)


def _without_options(value: Type, axis: int | None) -> Type:
    match value:
        case List(content=content, size=size):
            is_here = axis is None or axis == 0
            kept = strip_option(content) if is_here else content
            below = axis if axis is None else axis - 1
            return List(
                _without_options(kept, below) if below is None or below >= 0 else kept,
                None if is_here else size,
            )
        case Option(content=content):
            return Option(_without_options(content, axis))
        case _:
            return value


def _type_of_filled(value: Type, filling: Weak, axis: int | None) -> Type:
    def fill(inner: Type, level: int) -> Type:
        match inner:
            case List(content=content, size=size):
                is_here = axis is None or axis == level
                content = fill(content, level + 1)
                if is_here and isinstance(content, Option):
                    content = infer.merge(content.content, filling)
                return List(content, size)
            case Option(content=content):
                return Option(fill(content, level))
            case _:
                return inner

    return fill(value, 0)


def _type_of_masked(value: Type, condition: Type) -> Type:
    match value, condition:
        case List(content=content, size=size), List(content=below):
            return List(_type_of_masked(content, below), size)
        case _, Option(content=below):
            return Option(strip_option(_type_of_masked(value, below)))
        case _, Bool() | Number():
            return Option(strip_option(value))
        case Option(content=content), _:
            return Option(_type_of_masked(content, condition))
        case _:
            return fail("the condition does not have the structure of the values")
