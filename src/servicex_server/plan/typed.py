"""Makes bound nodes: each constructor takes values with their types, checks them and knows the result's type.

Fixed-size lists meet other lists, conditions and positions as lists of variable length: awkward would
otherwise line them up from the inside, as numpy does, or flatten them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from servicex_server.plan import infer, infer_vector
from servicex_server.plan.infer import Operand, Weak, fail
from servicex_server.plan.infer_call import type_of_call
from servicex_server.plan.infer_vector import is_vector
from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    Column,
    Expr,
    Field,
    Graph,
    Index,
    Literal,
    Mask,
    NewAxis,
    OptionValue,
    Origin,
    Rest,
    Span,
    Zip,
    replace_parts,
)
from servicex_server.plan.types import (
    Bool,
    List,
    Number,
    Option,
    Record,
    Type,
    depth_of,
    leaf_of,
    n_columns_of,
    strip_option,
    without_names,
)
from servicex_server.plan.vector import PROPERTIES, coordinates_for

FULL = Span()
MAX_COLUMNS = 20_000


@dataclass(frozen=True, slots=True)
class Typed:
    """A bound node and its type, rows included; constants are `Weak`."""

    expr: Expr
    operand: Operand

    @property
    def type(self) -> Type:
        """The type; a constant's own if it is one."""
        return infer.strong(self.operand)


Item = int | Span | Rest | NewAxis | Typed


class Builder:
    """Makes the nodes of one bound expression."""

    def __init__(self) -> None:
        self._graph = Graph()
        self._types: dict[Expr, Operand] = {}
        self._projected: dict[tuple[Expr, str], Typed] = {}

    def _typed(self, node: Expr, operand: Operand) -> Typed:
        # Tuples of one value and itself double with each step; their types must not be walked through then.
        if not isinstance(operand, Weak) and n_columns_of(operand) > MAX_COLUMNS:
            fail(f"its records have more than {MAX_COLUMNS} columns")
        known = self._graph.add(node)
        self._types[known] = operand
        return Typed(known, operand)

    def of(self, expr: Expr) -> Typed:
        """A node made earlier, with its type."""
        return Typed(expr, self._types[expr])

    def renew(self, node: Expr, parts: Mapping[Expr, Expr]) -> Typed:
        """The same operation on other values of the same types."""
        return self._typed(replace_parts(node, parts), self._types[node])

    def row_condition(self, node: Expr) -> Expr | None:
        """The predicate by which the node, a mask, keeps or drops whole rows; None for any other node."""
        if isinstance(node, Mask) and self.of(node.predicate).type == List(Bool()):
            return node.predicate
        return None

    def column(self, name: str, rows: Type) -> Typed:
        """An input column whose rows have the type."""
        return self._typed(Column(name), List(rows))

    def literal(self, node: Literal) -> Typed:
        """A constant."""
        return self._typed(node, Weak(node.value))

    def apply(self, function: str, operands: Sequence[Typed], origin: Origin | None) -> Typed:
        """An elementwise function."""
        evened = self._even(operands)
        if any(is_vector(operand.operand) for operand in evened):
            result = infer_vector.type_of_apply(function, [operand.operand for operand in evened])
        else:
            result = infer.elementwise(function, [operand.operand for operand in evened])
        return self._typed(Apply(function, tuple(item.expr for item in evened), origin=origin), result)

    def choice(self, condition: Typed, then: Typed, otherwise: Typed, origin: Origin | None) -> Typed:
        """A conditional."""
        condition, then, otherwise = self._even((condition, then, otherwise))
        result = infer.choose(condition.type, then.operand, otherwise.operand)
        return self._typed(Choice(condition.expr, then.expr, otherwise.expr, origin=origin), result)

    def mask(self, source: Typed, predicate: Typed, origin: Origin | None) -> Typed:
        """The elements for which the predicate holds."""
        if isinstance(predicate.operand, Weak):
            fail("the condition is a constant")
        if depth_of(predicate.type) > 1:
            source, predicate = self.jagged(source), self.jagged(predicate)
        result = infer.mask(source.type, predicate.type)
        return self._typed(Mask(source.expr, predicate.expr, origin=origin), result)

    def index(self, source: Typed, items: Sequence[Item], origin: Origin | None) -> Typed:
        """`source[items]`."""
        items = _without_rest(items, depth_of(source.type))
        if items and isinstance(items[0], Typed):
            picked = self._pick(source, items[0], origin)
            return self.index(picked, (FULL, *items[1:]), origin) if len(items) > 1 else picked
        while items and items[-1] == FULL:
            items = items[:-1]
        if not items:
            return source
        plain = [item for item in items if not isinstance(item, Typed)]
        if len(plain) != len(items):
            fail("an array of positions or conditions must be the first subscript")
        result = _type_of_slices(source.type, plain)
        return self._typed(Index(source.expr, tuple(plain), origin=origin), result)

    def _pick(self, source: Typed, order: Typed, origin: Origin | None) -> Typed:
        leaf = leaf_of(order.type)
        if leaf == Bool():
            return self.mask(source, order, origin)
        if not isinstance(leaf, Number) or leaf.dtype[:3] not in {"int", "uin"}:
            fail(f"positions must be whole numbers, not {infer.describe(leaf)}")
        if depth_of(order.type) > 1:
            source, order = self.jagged(source), self.jagged(order)
        result = _type_of_picks(source.type, order.type)
        return self._typed(Index(source.expr, (order.expr,), origin=origin), result)

    def zip(
        self,
        names: tuple[str, ...] | None,
        values: Sequence[Typed],
        depth_limit: int | None,
        origin: Origin | None = None,
    ) -> Typed:
        """Records of the values."""
        if depth_limit != 1 and len(values) > 1:
            values = self._even(values)
        result = infer.zip_fields(names, [value.operand for value in values], depth_limit)
        node = Zip(names, tuple(value.expr for value in values), depth_limit, origin=origin)
        return self._typed(node, result)

    def rename(self, value: Typed, names: tuple[str, ...]) -> Typed:
        """The value's columns under these names."""
        record = leaf_of(value.type)
        if not isinstance(record, Record):
            if len(names) == 1:
                return self.zip(names, (value,), 1)
            fail(f"the result is one column, but {len(names)} names are given for it")
        if len(record.fields) != len(names):
            fail(f"the result has {len(record.fields)} columns, but {len(names)} names are given for them")
        fields = [self.project(value, field) for field in record.names]
        return self.zip(names, fields, depth_of(value.type))

    def align(self, source: Typed, like: Typed, axis: int, origin: Origin | None) -> Typed:
        """The lists of `source` at `axis`, once per element of `like` there; anything else unchanged."""
        if isinstance(source.operand, Weak) or not infer.has_axis(source.type, axis):
            return source
        if axis == 0:
            fail("the rows of the tree cannot be looped over inside a loop over themselves")
        source, like = self.jagged(source), self.jagged(like)
        result = infer.align(source.type, like.type, axis)
        return self._typed(Align(source.expr, like.expr, axis, origin=origin), result)

    def broadcast(self, source: Typed, like: Typed, axes: int | None, origin: Origin | None) -> Typed:
        """A value for each element of the first `axes` axes of `like`."""
        n_axes = depth_of(like.type) if axes is None else axes
        if not isinstance(source.operand, Weak) and depth_of(source.type) >= n_axes:
            return source
        if depth_of(like.type) < n_axes:
            fail(infer.no_list(leaf_of(like.type), n_axes))
        like = self.jagged(like)
        result = infer.truncate(like.type, n_axes, leaf_of(source.type))
        return self._typed(Broadcast(source.expr, like.expr, n_axes, origin=origin), result)

    def call(
        self,
        function: str,
        arguments: Sequence[Typed],
        options: Sequence[tuple[str, OptionValue]],
        origin: Origin | None,
    ) -> Typed:
        """An array function; axes become counted from the outside."""
        if function in _JAGGED_FUNCTIONS:
            arguments = tuple(map(self.jagged, arguments))
        if function == "contains":
            return self._contains(arguments[0], arguments[1], cast(int, dict(options)["axis"]), origin)
        checked = dict(options)
        match function:
            case "with_name":
                return self.vectors(arguments[0], cast(str, checked["name"]), origin)
            case "fields":
                return self._several(arguments[0], cast("tuple[str, ...]", checked["names"]), origin)
            case "vector":
                return self.member(cast(str, checked["member"]), arguments, origin)
            case _:
                result = type_of_call(function, [argument.operand for argument in arguments], checked)
        node = Call(
            function, tuple(item.expr for item in arguments), tuple(sorted(checked.items())), origin=origin
        )
        return self._typed(node, result)

    def _contains(self, source: Typed, value: Typed, axis: int, origin: Origin | None) -> Typed:
        if not isinstance(value.operand, Weak) and infer.has_axis(value.type, axis):
            source, axis = self.align(source, value, axis, origin), axis + 1
        return self.call("any", [self.apply("equal", [source, value], origin)], [("axis", axis)], origin)

    # -- vectors -----------------------------------------------------------------------------------------

    def vectors(self, records: Typed, kind: str, origin: Origin | None) -> Typed:
        """The records as vectors."""
        result = infer_vector.type_of_vectors(records.type, kind)
        return self._typed(Call("with_name", (records.expr,), (("name", kind),), origin=origin), result)

    def member(self, name: str, arguments: Sequence[Typed], origin: Origin | None) -> Typed:
        """A property of vectors, or their method called with the other arguments."""
        source = self._coordinates(arguments[0], name)
        arguments = tuple(map(self.jagged, (source, *arguments[1:])))
        result = infer_vector.type_of_member(name, [argument.operand for argument in arguments])
        node = Call("vector", tuple(item.expr for item in arguments), (("member", name),), origin=origin)
        return self._typed(node, result)

    def _coordinates(self, vectors: Typed, member: str) -> Typed:
        """The vectors with no more fields than the property needs, so that the others need not be read."""
        record = leaf_of(vectors.type)
        if not isinstance(record, Record) or record.name is None:
            return vectors
        needed = coordinates_for(member, record.name)
        names = tuple(name for name in record.names if needed is not None and name in needed[1])
        if needed is None or not names or (len(names) == len(record.names) and needed[0] == record.name):
            return vectors
        fields = [self.project(vectors, name) for name in names]
        return self.vectors(self.zip(names, fields, depth_of(vectors.type)), needed[0], None)

    def plain(self, value: Typed) -> Typed:
        """The value with vectors as plain records, as results are written."""
        if isinstance(value.operand, Weak) or without_names(value.operand) == value.operand:
            return value
        return self._typed(Call("without_names", (value.expr,)), without_names(value.operand))

    def jagged(self, value: Typed) -> Typed:
        """The value with lists of variable length instead of fixed ones."""
        if isinstance(value.operand, Weak) or infer.jagged(value.operand) == value.operand:
            return value
        return self._typed(Call("from_regular", (value.expr,)), infer.jagged(value.operand))

    def _even(self, values: Sequence[Typed]) -> tuple[Typed, ...]:
        shapes = {_shape(value.operand) for value in values if not isinstance(value.operand, Weak)}
        return tuple(values) if len(shapes) < 2 else tuple(map(self.jagged, values))

    def _several(self, records: Typed, names: Sequence[str], origin: Origin | None) -> Typed:
        fields = [self.project(records, name) for name in names]
        record = leaf_of(records.type)
        is_tuple = isinstance(record, Record) and record.is_tuple
        return self.zip(None if is_tuple else tuple(names), fields, max(depth_of(records.type), 1), origin)

    # -- fields ------------------------------------------------------------------------------------------

    def project(self, value: Typed, name: str) -> Typed:
        """The field of records, taken as early as possible: a selection of records becomes one of the field.

        The records' other fields need then not even be read.
        """
        key = (value.expr, name)
        if key not in self._projected:
            self._projected[key] = self._project(value, name)
        return self._projected[key]

    def _project(self, value: Typed, name: str) -> Typed:
        record = leaf_of(value.type)
        field = record.find_field(name) if isinstance(record, Record) else None
        if field is None and is_vector(value.operand) and name in PROPERTIES:
            return self.member(name, (value,), Origin(f"'{name}'"))
        if field is None:
            known = (
                f"the fields are {', '.join(record.names)}"
                if isinstance(record, Record)
                else "it has no fields"
            )
            fail(f"there is no field '{name}'; {known}")
        depth = depth_of(value.type)
        match value.expr:
            case Zip(values=values):
                taken = self.of(values[cast(Record, record).names.index(name)])
                if not isinstance(taken.operand, Weak) and depth_of(taken.type) >= depth:
                    return taken
            case Mask(source=source, predicate=predicate):
                if depth_of(self.of(predicate).type) <= depth:
                    return self.mask(
                        self.project(self.of(source), name), self.of(predicate), value.expr.origin
                    )
            case Index(source=source, items=items):
                bound = [self.of(item) if isinstance(item, Expr) else item for item in items]
                if len(items) <= depth_of(self.of(source).type):
                    return self.index(self.project(self.of(source), name), bound, value.expr.origin)
            case Call(function="with_name", arguments=(source,)):
                return self.project(self.of(source), name)
            case Call(function="flatten", arguments=(source,), options=options):
                if dict(options)["axis"] is not None:
                    return self.call(
                        "flatten", [self.project(self.of(source), name)], options, value.expr.origin
                    )
            case _:
                pass
        return self._typed(Field(value.expr, name), infer.map_leaf(value.type, lambda _: field))


_JAGGED_FUNCTIONS = frozenset(
    {
        "argcartesian", "argcombinations", "argsort", "broadcast_arrays", "cartesian", "choose",
        "combinations", "concatenate", "drop_none", "firsts", "is_none", "isclose", "mask",
        "mean", "moment", "nanmean", "nanstd", "nanvar", "pad_none", "singletons", "softmax", "sort",
        "std", "var",
    }
)  # fmt: skip


def _shape(value: Operand) -> tuple[int | None, ...]:
    sizes = []
    inner = strip_option(value) if not isinstance(value, Weak) else None
    while isinstance(inner, List):
        sizes.append(inner.size)
        inner = strip_option(inner.content)
    # Lists of variable length all look alike: only fixed lengths need a common footing.
    return tuple(sizes) if any(size is not None for size in sizes) else ()


def _without_rest(items: Sequence[Item], depth: int) -> tuple[Item, ...]:
    if not any(isinstance(item, Rest) for item in items):
        return tuple(items)
    if sum(isinstance(item, Rest) for item in items) > 1:
        fail("'...' may stand only once in a subscript")
    n_used = sum(isinstance(item, int | Span | Typed) for item in items)
    filling = (FULL,) * max(depth - n_used, 0)
    result: list[Item] = []
    for item in items:
        result.extend(filling) if isinstance(item, Rest) else result.append(item)
    return tuple(result)


def _type_of_slices(value: Type, items: Sequence[int | Span | Rest | NewAxis]) -> Type:
    if not items:
        return value
    match value, items[0]:
        case _, NewAxis():
            return List(_type_of_slices(value, items[1:]), 1)
        case Option(content=content), _:
            inner = _type_of_slices(content, items)
            return inner if isinstance(inner, Option) else Option(inner)
        case List(content=content), int():
            return _type_of_slices(content, items[1:])
        case List(content=content, size=size), Span() as span:
            return List(_type_of_slices(content, items[1:]), _size_of_span(size, span))
        case _:
            return fail(f"it needs a collection, but each element is one of {infer.describe(value)}")


def _size_of_span(size: int | None, span: Span) -> int | None:
    if size is None:
        return None
    return len(range(*slice(span.start, span.stop, span.step).indices(size)))


def _type_of_picks(source: Type, order: Type) -> Type:
    match source, order:
        case Option(content=content), _:
            return Option(_type_of_picks(content, order))
        case List(content=content), List(content=below):
            if isinstance(strip_option(below), List):
                return List(_type_of_picks(content, strip_option(below)))
            return List(Option(strip_option(content)) if isinstance(below, Option) else content)
        case _:
            return fail("the positions have more axes than what they are taken from")
