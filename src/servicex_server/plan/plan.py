"""What a query asks for, before and after it has met a file.

A `Plan` is text that parsed: it knows operations, not yet columns. A `BoundPlan` has been resolved
against the schema of one file: every name exists, every type is known, and so are the columns to read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.ir import Column, Expr, canonical_text
from servicex_server.plan.types import Type

DEFAULT_OUTPUT_TREE = "servicex"
UNNAMED_COLUMN = ""
TREENAME_COLUMN = "treename"


@dataclass(frozen=True, slots=True)
class Formula:
    """One expression of an uproot-raw query.

    Attributes:
        text: as the user wrote it; a column of exactly this name comes before any other meaning.
        expression: the parsed text; None if it is not an expression (then it can only be a name).
        problem: why it did not parse.
    """

    text: str
    expression: Expr | None
    problem: QuerySyntaxError | None = None


@dataclass(frozen=True, slots=True)
class ExpressionQuery:
    """A func_adl query: one expression over the rows of one tree.

    Attributes:
        tree: name of the input tree; None takes the file's first.
    """

    tree: str | None
    expression: Expr

    def canonical(self) -> str:
        return f"expression tree={self.tree!r}\n{canonical_text((self.expression,))}"


@dataclass(frozen=True, slots=True)
class ArraysQuery:
    """A sub-query of uproot-raw: columns and expressions of each of several trees.

    Attributes:
        trees: pairs of input tree and output tree.
        formulas: what to compute; None takes all columns that pass the filters.
        cut: rows (or, where jagged, elements) to keep.
        filter_name, filter_typename: patterns, any of which must match; None lets everything pass.
        aliases: names that formulas, the cut and other aliases may use; columns come first.
    """

    trees: tuple[tuple[str, str], ...]
    formulas: tuple[Formula, ...] | None = None
    cut: Formula | None = None
    filter_name: tuple[str, ...] | None = None
    filter_typename: tuple[str, ...] | None = None
    aliases: tuple[tuple[str, Formula], ...] = ()
    fail_on_missing_trees: bool = False

    def canonical(self) -> str:
        parts = {
            "trees": self.trees,
            "formulas": None if self.formulas is None else [_formula_text(item) for item in self.formulas],
            "cut": None if self.cut is None else _formula_text(self.cut),
            "filter_name": self.filter_name,
            "filter_typename": self.filter_typename,
            "aliases": sorted((name, _formula_text(formula)) for name, formula in self.aliases),
            "fail_on_missing_trees": self.fail_on_missing_trees,
        }
        return "arrays " + json.dumps(parts, sort_keys=True)


@dataclass(frozen=True, slots=True)
class CopyQuery:
    """A sub-query of uproot-raw: objects to copy as they are, by patterns on their keys."""

    patterns: tuple[str, ...]

    def canonical(self) -> str:
        return "copy " + json.dumps(self.patterns)


@dataclass(frozen=True, slots=True)
class ScriptQuery:
    """A python query: source code that defines `run_query(file_path)`. Stands alone, and is never bound."""

    source: str

    def canonical(self) -> str:
        return "script " + json.dumps(self.source)


Query = ExpressionQuery | ArraysQuery | CopyQuery | ScriptQuery


@dataclass(frozen=True, slots=True)
class Plan:
    """A parsed query text."""

    codegen: str
    queries: tuple[Query, ...]

    @property
    def script(self) -> ScriptQuery | None:
        """The user's own code, if that is what the plan is."""
        return next((query for query in self.queries if isinstance(query, ScriptQuery)), None)

    def canonical(self) -> str:
        """The same text for the same question, in every process; whitespace and places do not count."""
        return "\n".join([f"plan 1 {self.codegen}", *(query.canonical() for query in self.queries)])


@dataclass(frozen=True, slots=True)
class BoundOutput:
    """One table to produce from one tree.

    Attributes:
        tree: name of the input tree.
        output_tree: name of the tree in ROOT output. Outputs of the same name are written one after the
            other into one tree and must have equal schemas.
        columns: input columns to read.
        row_conditions: predicates that keep or drop whole rows, in the order in which they are met.
        expression: what to compute; holds no `Table` and no unresolved names.
        schema: name and type of each output column; a result without field names is one column named "".
        is_chunkable: whether parts of the tree may be evaluated one by one and their results concatenated.
        treename_column: name of an additional column holding `output_tree`, in outputs that keep all
            trees in one table (Parquet); None for no such column.
        is_selection_known: whether each row condition speaks of the rows that passed the one before, so
            that they tell together which rows of the tree pass.
    """

    tree: str
    output_tree: str
    columns: tuple[str, ...]
    row_conditions: tuple[Expr, ...]
    expression: Expr
    schema: Mapping[str, Type]
    is_chunkable: bool = True
    treename_column: str | None = None
    is_selection_known: bool = True

    @property
    def is_unnamed(self) -> bool:
        """Whether the result is a bare array, without field names."""
        return len(self.schema) == 1 and UNNAMED_COLUMN in self.schema


@dataclass(frozen=True, slots=True)
class BoundPlan:
    """A plan resolved against the schema of one file.

    Attributes:
        copied_objects: keys of objects to copy unchanged.
        missing_trees: trees that the query names and the file lacks, where the query tolerates that.
    """

    outputs: tuple[BoundOutput, ...]
    copied_objects: tuple[str, ...] = ()
    missing_trees: tuple[str, ...] = ()


def columns_in(nodes: Iterable[Expr]) -> tuple[str, ...]:
    """Names of the columns among the nodes."""
    return tuple(node.name for node in nodes if isinstance(node, Column))


def _formula_text(formula: Formula) -> list[str]:
    parsed = "" if formula.expression is None else canonical_text((formula.expression,))
    return [formula.text, parsed]
