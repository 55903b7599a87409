"""Random tables, and random func_adl queries that fit their types (hypothesis strategies)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from hypothesis import strategies as st

FLOATS = ("float32", "float64")
INTS = ("int32", "int64", "uint8", "int16")
MAX_DEPTH = 3


@dataclass(frozen=True)
class Schema:
    """Columns by name.

    Attributes:
        flat: dtype of each column of numbers.
        collections: for each collection its columns and their dtypes; all have lists of equal lengths.
    """

    flat: dict[str, str]
    collections: dict[str, dict[str, str]]


@dataclass(frozen=True)
class Text:
    """Python text of an expression: `kind` is "int", "float" or "bool"."""

    text: str
    kind: str


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """One to four flat columns and one to three collections."""
    kinds = st.sampled_from((*FLOATS, *INTS, "bool"))
    flat = {"f0": draw(st.sampled_from(FLOATS)), "i0": draw(st.sampled_from(INTS[:2])), "b0": "bool"}
    flat |= {f"x{i}": draw(kinds) for i in range(draw(st.integers(0, 2)))}
    collections = {}
    for name in "ABC"[: draw(st.integers(1, 3))]:
        columns = {f"{name}_f": draw(st.sampled_from(FLOATS)), f"{name}_i": draw(st.sampled_from(INTS[:2]))}
        columns |= {f"{name}_{i}": draw(kinds) for i in range(draw(st.integers(0, 2)))}
        collections[name] = columns
    return Schema(flat, collections)


@st.composite
def tables(draw: st.DrawFn, schema: Schema) -> ak.Array:
    """Rows of the schema: few, with empty lists among them."""
    n_rows = draw(st.integers(1, 6))
    columns: dict[str, Any] = {name: draw(numbers(dtype, n_rows)) for name, dtype in schema.flat.items()}
    for members in schema.collections.values():
        counts = draw(st.lists(st.integers(0, 3), min_size=n_rows, max_size=n_rows))
        for name, dtype in members.items():
            columns[name] = ak.unflatten(draw(numbers(dtype, sum(counts))), counts)
    return ak.zip(columns, depth_limit=1)


def numbers(dtype: str, size: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Values that collide often, and whose sums and products are exact."""
    match np.dtype(dtype).kind:
        case "b":
            values: st.SearchStrategy[Any] = st.booleans()
        case "u":
            values = st.integers(0, 4)
        case "i":
            values = st.integers(-3, 4)
        case _:
            values = st.integers(-8, 16).map(lambda n: n / 4)
    return st.lists(values, min_size=size, max_size=size).map(lambda items: np.array(items, dtype))


class Queries:
    """Draws the parts of one query over a schema; `e` is the row."""

    def __init__(self, draw: st.DrawFn, schema: Schema) -> None:
        self._draw = draw
        self._schema = schema
        self._n_names = 0

    def query(self) -> str:
        """A whole query."""
        steps = ""
        if self._draw(st.booleans()):
            steps += f".Where(lambda e: {self.condition()})"
        match self._pick("columns", "columns", "list", "one", "many", "count", "vectors"):
            case "columns":
                n_columns = self._draw(st.integers(2, 4))
                columns = ", ".join(f"'c{i}': {self._column()}" for i in range(n_columns))
                return f"{steps}.Select(lambda e: {{{columns}}})"
            case "list":
                return f"{steps}.Select(lambda e: ({self._column()}, {self._column()}))"
            case "one":
                return f"{steps}.Select(lambda e: {self._column()})"
            case "many":
                return f"{steps}.SelectMany(lambda e: {self.elements()})"
            case "vectors":
                return f"{steps}.Select(lambda e: {self.vectors()})"
            case _:
                return f"{steps}.Count()"

    def _pick(self, *choices: str) -> str:
        return self._draw(st.sampled_from(choices))

    def _fresh(self) -> str:
        self._n_names += 1
        return f"v{self._n_names}"

    def _column(self) -> str:
        kind = self._pick("number", "number", "condition", "elements", "records")
        match kind:
            case "number":
                return self.number().text
            case "condition":
                return self.condition()
            case "elements":
                return self.elements()
            case _:
                return self.records()

    # -- one value per row -------------------------------------------------------------------------------

    def number(self, depth: int = 0) -> Text:
        """A number of the row."""
        kinds = ("flat", "flat", "reduced")
        deeper = ("sum", "sum", "function", "choice") if depth < MAX_DEPTH else ()
        match self._pick(*kinds, *deeper):
            case "flat":
                return self._flat()
            case "reduced":
                return self._reduced()
            case "sum":
                return self._arithmetic(self.number(depth + 1), lambda: self.number(depth + 1))
            case "function":
                return self._function(self.number(depth + 1))
            case _:
                one, two = self.number(depth + 1), self.number(depth + 1)
                return Text(f"({one.text} if {self.condition(depth + 1)} else {two.text})", _wider(one, two))

    def _flat(self) -> Text:
        name = self._draw(st.sampled_from([n for n, dtype in self._schema.flat.items() if dtype != "bool"]))
        return Text(f"e.{name}", _kind(self._schema.flat[name]))

    def _reduced(self) -> Text:
        collection = self._pick(*self._schema.collections)
        source = self._draw(st.booleans())
        text = self.elements(collection) if source else f"e.{collection}_f"
        match self._pick("Count", "Sum", "Max", "Min"):
            case "Count":
                return Text(f"{text}.Count()", "int")
            case name:
                return Text(f"{text}.{name}()", "float")

    def _arithmetic(self, left: Text, right: Callable[[], Text]) -> Text:
        other = right() if self._draw(st.booleans()) else self._constant()
        operator = self._pick("+", "-", "*", "/")
        is_swapped = self._draw(st.booleans())
        one, two = (other, left) if is_swapped else (left, other)
        kind = "float" if operator == "/" else _wider(one, two)
        return Text(f"({one.text} {operator} {two.text})", kind)

    def _constant(self) -> Text:
        if self._draw(st.booleans()):
            return Text(repr(self._draw(st.integers(0, 5))), "int")
        return Text(repr(self._draw(st.integers(-4, 8)) / 4), "float")

    def _function(self, operand: Text) -> Text:
        match self._pick("abs", "np.sqrt", "np.floor", "np.isfinite", "-", "np.maximum"):
            case "-":
                return Text(f"(-{operand.text})", operand.kind)
            case "np.maximum":
                return Text(f"np.maximum({operand.text}, {self._constant().text})", "float")
            case "np.isfinite":
                return Text(f"(np.isfinite({operand.text}) * 2)", "int")
            case name:
                return Text(f"{name}({operand.text})", operand.kind if name == "abs" else "float")

    def condition(self, depth: int = 0) -> str:
        """True or false for the row."""
        deeper = ("and", "not") if depth < MAX_DEPTH else ()
        match self._pick("flag", "compared", "compared", "any", "contains", *deeper):
            case "flag":
                return "e.b0"
            case "compared":
                return self._comparison(self.number(depth + 1), lambda: self.number(depth + 1))
            case "any":
                collection = self._pick(*self._schema.collections)
                name, operator = self._fresh(), self._pick("Any", "All")
                body = self._comparison(Text(name, "float"), self._flat)
                return f"e.{collection}_f.{operator}(lambda {name}: {body})"
            case "contains":
                if self._draw(st.booleans()):
                    return f"Contains([0, 1, {self._constant().text}], e.i0)"
                return (
                    f"e.{self._pick(*self._schema.collections)}_i.Contains({self._draw(st.integers(-3, 3))})"
                )
            case "not":
                return f"(not {self.condition(depth + 1)})"
            case _:
                operator = self._pick("and", "or", "&", "|")
                return f"({self.condition(depth + 1)} {operator} {self.condition(depth + 1)})"

    def _comparison(self, left: Text, right: Callable[[], Text]) -> str:
        other = right() if self._draw(st.booleans()) else self._constant()
        return f"({left.text} {self._pick('<', '<=', '>', '>=', '==', '!=')} {other.text})"

    # -- several values per row --------------------------------------------------------------------------

    def elements(self, collection: str | None = None) -> str:
        """A list of numbers per row, of one collection or of two."""
        collection = collection or self._pick(*self._schema.collections)
        columns = [name for name, dtype in self._schema.collections[collection].items() if dtype != "bool"]
        source = f"e.{self._draw(st.sampled_from(columns))}"
        for _ in range(self._draw(st.integers(0, 2))):
            source = self._changed(source)
        if self._draw(st.integers(0, 9)) == 0:
            source = f"{source}.Concat(e.{self._pick(*self._schema.collections)}_f)"
        return source

    def _changed(self, source: str) -> str:
        name = self._fresh()
        match self._pick("where", "select", "order", "scale"):
            case "where":
                return f"{source}.Where(lambda {name}: {self._comparison(Text(name, 'float'), self._flat)})"
            case "select":
                body = self._arithmetic(Text(name, "float"), self._flat)
                return f"{source}.Select(lambda {name}: {body.text})"
            case "order":
                return f"{source}.{self._pick('OrderBy', 'OrderByDescending')}(lambda {name}: {name})"
            case _:
                return self._arithmetic(Text(source, "float"), self._flat).text

    def records(self) -> str:
        """A list of records per row, or of numbers made from them."""
        collection = self._pick(*self._schema.collections)
        columns = self._schema.collections[collection]
        fields = ", ".join(f"'{name[2:]}': e.{name}" for name in columns)
        source = f"Zip({{{fields}}})"
        name = self._fresh()
        if self._draw(st.booleans()):
            body = self._comparison(Text(f"{name}.f", "float"), lambda: Text(f"{name}.i", "int"))
            source = f"{source}.Where(lambda {name}: {body})"
        match self._pick("as they are", "one field", "new records", "order", "pairs", "loops"):
            case "one field":
                return f"{source}.Select(lambda {name}: {name}.i)"
            case "new records":
                value = self._arithmetic(Text(f"{name}.f", "float"), lambda: Text(f"{name}.i", "int")).text
                return f"{source}.Select(lambda {name}: {{'a': {value}, 'b': {name}.i}})"
            case "order":
                return f"{source}.OrderBy(lambda {name}: {name}['f'])"
            case "pairs":
                return f"{source}.Choose({self._draw(st.integers(1, 3))})"
            case "loops":
                other = self._pick(*self._schema.collections)
                two = self._fresh()
                inner = self._arithmetic(Text(name, "float"), lambda: Text(two, "float")).text
                loop = f"e.{other}_f.Select(lambda {two}: {inner} + {two})"
                return f"e.{collection}_f.Select(lambda {name}: {loop})"
            case _:
                return source

    def vectors(self) -> str:
        """Something asked of four-momenta."""
        collection = self._pick(*self._schema.collections)
        column = f"e.{collection}_f"
        source = (
            f"Zip({{'pt': abs({column}) + 1, 'eta': {column}, 'phi': {column} / 4, 'mass': {column} * 0 + 1, "
            f"'i': e.{collection}_i}}).ToFourMomenta()"
        )
        name = self._fresh()
        member = self._pick("px", "energy", "mass", "deltaR", "rapidity", "i")
        one = f"{name}.deltaR({name})" if member == "deltaR" else f"{name}.{member}"
        match self._pick("select", "where", "sum", "pairs"):
            case "select":
                return f"{source}.Select(lambda {name}: {one})"
            case "where":
                return f"{source}.Where(lambda {name}: {one} > 1).Select(lambda {name}: {name}.p)"
            case "sum":
                return f"{source}.Sum().{self._pick('pt', 'E', 'phi')}"
            case _:
                return f"{source}.Choose(2).Select(lambda {name}: ({name}.First() + {name}.Last()).mass)"


def _kind(dtype: str) -> str:
    return "float" if dtype in FLOATS else "int"


def _wider(one: Text, two: Text) -> str:
    return "float" if "float" in (one.kind, two.kind) else "int"


@st.composite
def cases(draw: st.DrawFn) -> tuple[ak.Array, str]:
    """A table, and a query that fits it."""
    schema = draw(schemas())
    return draw(tables(schema)), Queries(draw, schema).query()
