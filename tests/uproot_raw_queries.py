"""Random uproot-raw sub-queries that fit the columns of a table (hypothesis strategies)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from hypothesis import strategies as st

MAX_DEPTH = 3
_PLAIN = ("sum", "prod", "min", "max", "mean", "var", "std", "argmin", "argmax")
REDUCERS = (*_PLAIN, *(f"nan{name}" for name in _PLAIN), "any", "all", "count", "count_nonzero")
UFUNCS = ("abs", "sqrt", "exp", "floor", "ceil", "cos", "isnan", "signbit", "rint", "neg")


@dataclass(frozen=True)
class Table:
    """Names of the columns of numbers, and for each collection those of its lists of numbers."""

    flat: tuple[str, ...]
    collections: Mapping[str, tuple[str, ...]]


def random_table(seed: int) -> tuple[Table, ak.Array]:
    """A table of thirty rows with columns of various dtypes."""
    random = np.random.default_rng(seed)
    n_rows = 30
    dtypes = random.permutation(["float32", "float64", "int32", "int64", "uint32", "int16"])
    columns: dict[str, Any] = {}
    for i, dtype in enumerate(dtypes[:3]):
        columns[f"f{i}"] = random.integers(0, 9, n_rows).astype(dtype)
    columns["b0"] = random.integers(0, 2, n_rows).astype(bool)
    collections = {}
    for name in "AB":
        counts = random.integers(0, 4, n_rows)
        members = {
            f"{name}_{i}": (random.integers(0, 20, counts.sum()) / 4).astype(dtype)
            for i, dtype in enumerate(random.permutation(dtypes)[:3])
        }
        collections[name] = tuple(members)
        columns |= {member: ak.unflatten(values, counts) for member, values in members.items()}
    return Table(("f0", "f1", "f2"), collections), ak.zip(columns, depth_limit=1)


class Expressions:
    """Draws expressions over a table: one value per row, or a list of them along a collection."""

    def __init__(self, draw: st.DrawFn, table: Table, *, uses_event_axis: bool) -> None:
        self._draw = draw
        self._table = table
        self._axis = () if uses_event_axis else ("axis=1",)

    def pick(self, choices: Sequence[str]) -> str:
        """One of the choices."""
        return self._draw(st.sampled_from(tuple(choices)))

    def number(self, depth: int = 0) -> str:
        """A number per row."""
        deeper = ("operator", "ufunc", "where") if depth < MAX_DEPTH else ()
        match self.pick(("column", "reduced", "num", "first", *deeper)):
            case "column":
                return self.pick(self._table.flat)
            case "reduced":
                return self._reduced(depth)
            case "num":
                return f"num({self.pick(self._members())})"
            case "first":
                return f"fill_none(firsts({self.list_of(self._collection(), depth + 1)}), {self._constant()})"
            case "operator":
                return f"({self.number(depth + 1)} {self.pick('+-*/')} {self._number_or_constant(depth)})"
            case "ufunc":
                return f"{self.pick(UFUNCS)}({self.number(depth + 1)} * 1)"
            case _:
                one, two = self.number(depth + 1), self.number(depth + 1)
                return f"where({self.condition(depth + 1)}, {one}, {two})"

    def condition(self, depth: int = 0) -> str:
        """True or false per row."""
        deeper = ("both", "not") if depth < MAX_DEPTH else ()
        match self.pick(("flag", "compared", "any", *deeper)):
            case "flag":
                return "b0"
            case "compared":
                operator = self.pick(("<", "<=", ">", ">=", "==", "!="))
                return f"({self.number(depth + 1)} {operator} {self._number_or_constant(depth)})"
            case "any":
                inner = self.conditions(self._collection(), depth + 1)
                return f"{self.pick(('any', 'all'))}({', '.join((inner, *self._axis))})"
            case "both":
                return f"({self.condition(depth + 1)} {self.pick('&|^')} {self.condition(depth + 1)})"
            case _:
                return f"~{self.condition(depth + 1)}"

    def list_of(self, collection: str, depth: int = 0) -> str:
        """A number for each element of a collection."""
        members = self._table.collections[collection]
        deeper = ("operator", "ufunc", "where", "sort", "share") if depth < MAX_DEPTH else ()
        match self.pick(("column", *deeper)):
            case "column":
                return self.pick(members)
            case "operator":
                other = self.pick((self.pick(members), self.pick(self._table.flat), self._constant()))
                return f"({self.list_of(collection, depth + 1)} {self.pick('+-*/')} {other})"
            case "ufunc":
                return f"{self.pick(UFUNCS)}({self.list_of(collection, depth + 1)} * 1)"
            case "sort":
                function, ascending = self.pick(("sort", "argsort")), self.pick(("True", "False"))
                return f"{function}({self.list_of(collection, depth + 1)}, ascending={ascending})"
            case "share":
                axis = ", axis=1" if self._axis else ""
                return f"softmax({self.list_of(collection, depth + 1)}{axis})"
            case _:
                one, two = self.list_of(collection, depth + 1), self.pick(members)
                return f"where({self.conditions(collection, depth + 1)}, {one}, {two})"

    def conditions(self, collection: str, depth: int = 0) -> str:
        """True or false for each element of a collection."""
        operator = self.pick(("<", "<=", ">", "!="))
        return f"({self.list_of(collection, depth + 1)} {operator} {self._number_or_constant(depth)})"

    def changed(self, collection: str) -> str:
        """Something with lists of other lengths, missing values or records."""
        source = self.list_of(collection, 2)
        match self.pick(("mask", "slice", "pad", "drop", "join", "pairs", "product", "singles", "none")):
            case "mask":
                return f"{source}[{self.conditions(collection, 2)}]"
            case "slice":
                return f"{source}[:, {self.pick((':2', '::-1', '1:', '-1:'))}]"
            case "pad":
                clip = self.pick(("True", "False"))
                filled = f"pad_none({source}, {self._draw(st.integers(0, 4))}, clip={clip})"
                return filled if self._draw(st.booleans()) else f"fill_none({filled}, {self._constant()})"
            case "drop":
                return f"drop_none(mask({source}, {self.conditions(collection, 2)}))"
            case "join":
                arrays = f"[{source}, {self.pick(self._members())}]"
                return f"concatenate({', '.join((arrays, *self._axis))})"
            case "pairs":
                pairs = f"combinations({source}, 2)"
                return pairs if self._draw(st.booleans()) else f"{pairs}['0'] + {pairs}['1']"
            case "product":
                return f"cartesian({{'x': {source}, 'y': {self.pick(self._members())}}})"
            case "singles":
                return f"singletons(firsts({source}))"
            case _:
                return f"is_none(firsts({source}))"

    def _reduced(self, depth: int) -> str:
        source = self.list_of(self._collection(), depth + 1)
        axis = self.pick(("", "axis=1", "axis=-1")) if not self._axis else self.pick(("axis=1", "axis=-1"))
        arguments = ", ".join(part for part in (source, axis) if part)
        return f"{self.pick(REDUCERS)}({arguments})"

    def _collection(self) -> str:
        return self.pick(tuple(self._table.collections))

    def _members(self) -> tuple[str, ...]:
        return tuple(name for names in self._table.collections.values() for name in names)

    def _constant(self) -> str:
        return repr(self._draw(st.sampled_from((0, 1, 2, 3, 0.5, 1.25))))

    def _number_or_constant(self, depth: int) -> str:
        return self.number(depth + 1) if self._draw(st.booleans()) else self._constant()


@st.composite
def sub_queries(draw: st.DrawFn, table: Table) -> dict[str, Any]:
    """Expressions with or without a cut, under one of the two axis rules."""
    is_standard = draw(st.booleans())
    expressions = Expressions(draw, table, uses_event_axis=not is_standard)
    query: dict[str, Any] = {"use_standard_awkward_axis": True} if is_standard else {}
    if draw(st.integers(0, 3)) == 0:
        collection = draw(st.sampled_from(sorted(table.collections)))
        query["expressions"] = [expressions.list_of(collection) for _ in range(draw(st.integers(1, 2)))]
        query["cut"] = expressions.conditions(collection)
        return query
    parts = [
        expressions.number,
        expressions.condition,
        lambda: expressions.changed(draw(st.sampled_from(sorted(table.collections)))),
    ]
    query["expressions"] = [draw(st.sampled_from(parts))() for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        query["cut"] = expressions.condition()
    return query
