"""Resolves a plan against the schema of one file: names, types, and exactly which columns are needed.

Only columns that the plan mentions are looked at. The rows of the tree exist here as a `View`: the
selections made so far, which are applied to each column when it is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from servicex_server.errors import QueryError, QueryTypeError, UnknownName, UnsupportedQuery
from servicex_server.plan import pattern
from servicex_server.plan.filtered import filtered_columns, matching_objects, own_name, paths_of
from servicex_server.plan.ir import (
    Align,
    Apply,
    Broadcast,
    Call,
    Choice,
    Expr,
    Field,
    FieldAt,
    Index,
    Literal,
    Mask,
    Origin,
    Rename,
    Table,
    Zip,
    in_order,
)
from servicex_server.plan.optimize import optimize
from servicex_server.plan.plan import (
    DEFAULT_OUTPUT_TREE,
    TREENAME_COLUMN,
    UNNAMED_COLUMN,
    ArraysQuery,
    BoundOutput,
    BoundPlan,
    CopyQuery,
    ExpressionQuery,
    Formula,
    Plan,
    ScriptQuery,
    columns_in,
)
from servicex_server.plan.schema import FileSchema, TreeSchema
from servicex_server.plan.selection import follow_each_other
from servicex_server.plan.tree import find_tree, unknown_tree
from servicex_server.plan.typed import FULL, Builder, Item, Typed
from servicex_server.plan.types import (
    Bool,
    List,
    Number,
    Record,
    Type,
    Unknown,
    depth_of,
    leaf_of,
    strip_option,
    without_names,
)

MAX_ALIAS_CHAIN = 50

Step = Callable[[Typed], Typed]


@dataclass(frozen=True, slots=True)
class View:
    """The rows of the tree, or (with a path) something below them whose name is not complete yet.

    Attributes:
        steps: what to do with a column of the tree to make it one of these rows.
        path: names taken so far; "" for the rows themselves.
        origin: where the query takes the last of these names.
    """

    steps: tuple[Step, ...] = ()
    path: str = ""
    origin: Origin | None = None


Value = Typed | View
V = TypeVar("V", bound=Value)


def bind(plan: Plan, schema: FileSchema) -> BoundPlan:
    """The plan for files of this schema.

    Raises:
        UnknownName: a tree or column does not exist; carries the nearest that do.
        QueryTypeError: an operation does not fit the types of the columns.
        UnsupportedQuery: the query uses columns that cannot be read, or grows too large.
    """
    outputs: list[BoundOutput] = []
    copied: dict[str, None] = {}
    missing: dict[str, None] = {}
    try:
        for query in plan.queries:
            match query:
                case ExpressionQuery():
                    outputs.append(_bind_expression(query, schema))
                case ArraysQuery():
                    outputs.extend(_bind_arrays(query, schema, missing))
                case CopyQuery(patterns=patterns):
                    copied.update(dict.fromkeys(matching_objects(patterns, schema)))
                case ScriptQuery():
                    message = "a python query reads whole files; it has no columns to bind"
                    raise UnsupportedQuery(message)
    except RecursionError as error:
        message = "the query is nested too deeply"
        raise UnsupportedQuery(message) from error
    return BoundPlan(tuple(outputs), tuple(copied), tuple(missing))


def _bind_expression(query: ExpressionQuery, schema: FileSchema) -> BoundOutput:
    names = schema.tree_names()
    if query.tree is not None:
        tree = find_tree(query.tree, schema)
        if tree is None:
            raise unknown_tree((query.tree,), schema)
    elif names:
        tree = names[0]
    else:
        message = "the file holds no tree"
        raise UnknownName(message)
    binder = _TreeBinder(schema.tree(tree))
    return binder.output(binder.bind(query.expression), DEFAULT_OUTPUT_TREE)


def _bind_arrays(query: ArraysQuery, schema: FileSchema, missing: dict[str, None]) -> Iterable[BoundOutput]:
    for wanted, output_tree in query.trees:
        tree = find_tree(wanted, schema)
        if tree is not None:
            output = _TreeBinder(schema.tree(tree)).arrays(query, output_tree)
            yield replace(output, treename_column=TREENAME_COLUMN)
        elif query.fail_on_missing_trees:
            raise unknown_tree((wanted,), schema)
        else:
            missing[wanted] = None


class _TreeBinder:
    """Binds expressions over one tree."""

    def __init__(self, tree: TreeSchema) -> None:
        self._tree = tree
        self._names = tree.names()
        self._by_path = {path: name for name in reversed(self._names) for path in paths_of(name)}
        self._build = Builder()
        self._columns: dict[str, Typed] = {}
        self._aliases: Mapping[str, Formula] = {}
        self._alias_values: dict[str, Value] = {}
        self._open_aliases: list[str] = []

    # -- the two kinds of queries ------------------------------------------------------------------------

    def arrays(self, query: ArraysQuery, output_tree: str) -> BoundOutput:
        """Columns or formulas of the tree, cut."""
        self._aliases = dict(query.aliases)
        if query.formulas is None:
            fields = {
                own_name(name): self._column(name)
                for name in filtered_columns(query.filter_name, query.filter_typename, self._tree)
            }
        else:
            fields = {formula.text: self._formula(formula) for formula in query.formulas}
        if query.cut is not None:
            fields = self._cut(fields, self._formula(query.cut), query.cut.text)
        for name, value in fields.items():
            if not isinstance(value.operand, List):
                message = f"'{name}' is one value for the whole file, not one for each row"
                raise QueryTypeError(message)
        rows = self._build.zip(tuple(fields), tuple(fields.values()), 1) if fields else None
        if rows is None:
            return BoundOutput(self._tree.name, output_tree, (), (), Zip((), (), 1), {})
        return self.output(rows, output_tree)

    def _cut(self, fields: dict[str, Typed], cut: Typed, text: str) -> dict[str, Typed]:
        origin = Origin(f"the cut '{text:.200}'")
        condition = cut
        if isinstance(cut.operand, List) and leaf_of(cut.operand) != Bool():
            zero = self._build.literal(Literal(0))
            condition = self._guarded(origin, lambda: self._build.apply("not_equal", (cut, zero), origin))
        return {
            name: self._guarded(
                Origin(f"the cut '{text:.200}' on '{name:.100}'"),
                lambda value=value: self._build.mask(value, condition, origin),  # type: ignore[misc]
            )
            for name, value in fields.items()
        }

    def _formula(self, formula: Formula) -> Typed:
        if formula.text in self._by_path:
            return self._column(self._by_path[formula.text])
        if formula.text in self._aliases:
            return self._settle(self._alias(formula.text))
        if formula.expression is None:
            raise formula.problem or UnsupportedQuery(formula.text)
        try:
            return self.bind(formula.expression)
        except QueryError as error:
            if isinstance(error, UnknownName):
                raise
            message = f"in '{formula.text:.200}': {error.message}"
            raise type(error)(message) from error

    # -- nodes -------------------------------------------------------------------------------------------

    def bind(self, root: Expr) -> Typed:
        """The bound expression."""
        return self._settle(self._bind_value(root))

    def _bind_value(self, root: Expr) -> Value:
        values: dict[Expr, Value] = {}
        for node in in_order(root):
            values[node] = self._guarded(node.origin, lambda node=node: self._node(node, values))  # type: ignore[misc]
        return values[root]

    def _guarded(self, origin: Origin | None, make: Callable[[], V]) -> V:
        try:
            return make()
        except QueryTypeError as error:
            if origin is None or error.__cause__ is not None:
                raise
            message = f"{origin}: {error.message}"
            raise QueryTypeError(message) from error

    def _node(self, node: Expr, values: Mapping[Expr, Value]) -> Value:
        match node:
            case Table():
                return View()
            case Literal():
                return self._build.literal(node)
            case Field(source=source, name=name):
                return self._field(values[source], name, node.origin)
            case FieldAt(source=source, index=index):
                return self._field_at(values[source], index)
            case Mask(source=source, predicate=predicate):
                return self._mask(values[source], self._settle(values[predicate]), node.origin)
            case Index(source=source, items=items):
                bound = [self._settle(values[item]) if isinstance(item, Expr) else item for item in items]
                return self._index(values[source], bound, node.origin)
            case Rename(source=source, names=names):
                return self._build.rename(self._settle(values[source]), names)
            case _:
                return self._operation(node, values)

    def _operation(self, node: Expr, values: Mapping[Expr, Value]) -> Typed:
        build = self._build
        match node:
            case Apply(function=function, operands=operands):
                return build.apply(function, [self._settle(values[item]) for item in operands], node.origin)
            case Choice(condition=condition, then=then, otherwise=otherwise):
                parts = [self._settle(values[item]) for item in (condition, then, otherwise)]
                return build.choice(parts[0], parts[1], parts[2], node.origin)
            case Zip(names=names, values=items, depth_limit=limit):
                return build.zip(names, [self._settle(values[item]) for item in items], limit, node.origin)
            case Align(source=source, like=like, axis=axis):
                return build.align(
                    self._settle(values[source]), self._template(values[like]), axis, node.origin
                )
            case Broadcast(source=source, like=like, axes=axes):
                return build.broadcast(
                    self._settle(values[source]), self._template(values[like]), axes, node.origin
                )
            case Call(function="num", arguments=(source,), options=options) if dict(options)["axis"] == 0:
                return build.call("num", [self._template(values[source])], options, node.origin)
            case Call(function=function, arguments=arguments, options=options):
                return build.call(
                    function, [self._settle(values[item]) for item in arguments], options, node.origin
                )
            case _:
                message = f"a {type(node).__name__} cannot be bound"
                raise UnsupportedQuery(message)

    def _mask(self, source: Value, predicate: Typed, origin: Origin | None) -> Value:
        if isinstance(source, View) and not source.path:
            return self._later(source, origin, lambda rows: self._build.mask(rows, predicate, origin))
        return self._build.mask(self._settle(source), predicate, origin)

    def _index(self, source: Value, items: list[Item], origin: Origin | None) -> Value:
        if isinstance(source, View) and not source.path:
            return self._later(source, origin, lambda rows: self._build.index(rows, items, origin))
        return self._build.index(self._settle(source), items, origin)

    def _later(self, rows: View, origin: Origin | None, step: Step) -> View:
        """The rows with a step more, whose problems name their own place."""
        return replace(rows, steps=(*rows.steps, lambda column: self._guarded(origin, lambda: step(column))))

    # -- names -------------------------------------------------------------------------------------------

    def _field(self, source: Value, name: str, origin: Origin | None) -> Value:
        if isinstance(source, Typed):
            return self._build.project(source, name)
        if not source.path:
            return View(source.steps, name, origin)
        dotted = f"{source.path}.{name}"
        if dotted not in self._by_path and dotted not in self._aliases and self._is_known(source.path):
            return self._build.project(self._settle(source), name)
        return View(source.steps, dotted, origin)

    def _is_known(self, path: str) -> bool:
        return path in self._by_path or path in self._aliases

    def _field_at(self, source: Value, index: int) -> Value:
        if isinstance(source, View) and not source.path:
            readable = [name for name in self._names if not isinstance(self._tree.type_of(name), Unknown)]
            if not -len(readable) <= index < len(readable):
                message = f"there is no column {index}: the tree has {len(readable)}"
                raise QueryTypeError(message)
            return View(source.steps, readable[index])
        value = self._settle(source)
        record = leaf_of(value.type)
        if not isinstance(record, Record):
            message = (
                "a number picks a field of records; elements are picked by First(), Last() or ElementAt()"
            )
            raise QueryTypeError(message)
        if not -len(record.fields) <= index < len(record.fields):
            message = f"there is no field {index}: the fields are {', '.join(record.names)}"
            raise QueryTypeError(message)
        return self._build.project(value, record.names[index])

    def _settle(self, value: Value) -> Typed:
        """A value with its type: a complete name is looked up, whole rows become records of all columns."""
        if isinstance(value, Typed):
            return value
        if value.path:
            return self._stepped(value, self._named(value.path, value.origin))
        readable = [name for name in self._names if not isinstance(self._tree.type_of(name), Unknown)]
        if not readable:
            raise self._no_columns()
        rows = self._build.zip(tuple(readable), [self._column(name) for name in readable], 1)
        return self._stepped(value, rows)

    def _stepped(self, view: View, column: Typed) -> Typed:
        for step in view.steps:
            column = step(column)
        return column

    def _named(self, path: str, origin: Origin | None) -> Typed:
        name = self._by_path.get(path)
        if name is not None:
            return self._column(name)
        if path in self._aliases:
            return self._settle(self._alias(path))
        known = (*self._by_path, *self._aliases)
        near = pattern.nearest(path, known) or pattern.nearest(path, known, cutoff=pattern.FARTHER)
        hint = f"; nearest: {', '.join(near)}" if near else f"; none of its {len(known):,} is like it"
        position = None if origin is None else origin.position
        place = "" if position is None else f" (at character {position + 1} of the query)"
        message = f"no branch '{path}' in tree '{self._tree.name}'{hint}{place}"
        raise UnknownName(message, name=path, nearest=near)

    def _alias(self, name: str) -> Value:
        if name in self._open_aliases:
            circle = " -> ".join([*self._open_aliases[self._open_aliases.index(name) :], name])
            message = f"the aliases define each other in a circle: {circle}"
            raise UnsupportedQuery(message)
        if len(self._open_aliases) >= MAX_ALIAS_CHAIN:
            message = f"aliases refer to each other through more than {MAX_ALIAS_CHAIN} steps"
            raise UnsupportedQuery(message)
        if name not in self._alias_values:
            self._open_aliases.append(name)
            formula = self._aliases[name]
            self._alias_values[name] = self._formula(formula)
            self._open_aliases.pop()
        return self._alias_values[name]

    def _column(self, name: str) -> Typed:
        if name not in self._columns:
            self._columns[name] = self._build.column(name, self._tree.type_of(name))
        return self._columns[name]

    def _template(self, value: Value) -> Typed:
        """An array with the structure of the value; for whole rows any one flat column."""
        if isinstance(value, Typed) or value.path:
            return self._settle(value)
        return self._stepped(value, self._carrier())

    def _carrier(self) -> Typed:
        for name in (*self._columns, *self._names):
            if isinstance(self._tree.type_of(name), Number | Bool):
                return self._column(name)
        for name in self._names:
            if not isinstance(self._tree.type_of(name), Unknown):
                return self._column(name)
        raise self._no_columns()

    def _no_columns(self) -> UnknownName:
        message = f"the tree '{self._tree.name}' has no column that can be read"
        return UnknownName(message, name=self._tree.name)

    # -- outputs -----------------------------------------------------------------------------------------

    def output(self, value: Typed, output_tree: str) -> BoundOutput:
        """The expression as the output that it gives, one expression per named column."""
        rows = value.type
        # The extreme of a whole file is one row that is there, or no row where the file has none.
        record = rows.content if isinstance(rows, List) else strip_option(rows)
        if isinstance(record, Record):
            if isinstance(rows, List):
                fields = [self._build.project(value, name) for name in record.names]
                value = self._build.zip(None if record.is_tuple else record.names, fields, 1)
            schema: dict[str, Type] = dict(record.fields)
        else:
            schema = {UNNAMED_COLUMN: record}
        value = self._build.plain(value)
        schema = {name: without_names(column) for name, column in schema.items()}
        value = optimize(value, self._build)
        nodes = in_order(value.expr)
        row_conditions = self._row_conditions(nodes)
        return BoundOutput(
            tree=self._tree.name,
            output_tree=output_tree,
            columns=columns_in(nodes),
            row_conditions=row_conditions,
            is_selection_known=follow_each_other(row_conditions),
            expression=value.expr,
            schema=schema,
            is_chunkable=isinstance(rows, List) and all(map(self._is_rowwise, nodes)),
        )

    def _row_conditions(self, nodes: Iterable[Expr]) -> tuple[Expr, ...]:
        """Conditions on the rows of the tree, not on what became rows later: the elements of lists, say."""
        found = dict.fromkeys(filter(None, map(self._build.row_condition, nodes)))
        return tuple(node for node in found if not any(map(_makes_rows, in_order(node))))

    def _is_rowwise(self, node: Expr) -> bool:
        """Whether the node's value for some rows depends on these rows alone."""
        match node:
            case Index(items=(Expr() as order,)):
                return depth_of(self._build.of(order).type) > 1
            case Index(items=(first, *_)):
                return first == FULL
            case Call(function="almost_equal"):
                return False
            case Call(function=name, options=options):
                axis = dict(options).get("axis", 1)
                return axis not in {0, None} or name in _ROWWISE_ON_ROWS
            case _:
                return True


_ROWWISE_ON_ROWS = frozenset({"is_none", "singletons", "fill_none", "drop_none", "flatten"})


def _makes_rows(node: Expr) -> bool:
    """Whether the node's rows are others than those of its parts, and not because of a condition."""
    match node:
        case Call(function=("flatten" | "drop_none"), options=options):
            return dict(options).get("axis", 1) in {0, 1, None}
        case Index(items=(first, *_)):
            return first != FULL
        case _:
            return False
