"""uproot-raw queries: JSON sub-queries with the arguments of uproot's `arrays()`.

Sub-queries that name the same output tree are written to it one after the other. Where `expressions` is
given, the filters have no effect, as in uproot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.parse.expression import read_formula, read_formulas
from servicex_server.plan.pattern import any_of
from servicex_server.plan.plan import ArraysQuery, CopyQuery, Query
from servicex_server.plan.regex import Budget

MAX_TEXT_BYTES = 1 << 20
MAX_SUBQUERIES = 200
MAX_ITEMS = 3_000
TREE_KEYS = (
    "treename",
    "expressions",
    "cut",
    "filter_name",
    "filter_typename",
    "aliases",
    "fail_on_missing_trees",
    "use_standard_awkward_axis",
)
COPY_KEYS = ("copy_histograms",)

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


def read_queries(text: str, tree_name: str | None) -> tuple[Query, ...]:
    """The sub-queries in the text's order.

    Args:
        text: a JSON list of objects, or one object.
        tree_name: the tree for sub-queries that name none.

    Raises:
        QuerySyntaxError: the text is not JSON of this form.
        UnsupportedQuery: an expression uses what we do not execute.
    """
    loaded = _load(text)
    entries = loaded if isinstance(loaded, list) else [loaded]
    if not entries:
        _fail("the query is an empty list; it needs at least one sub-query")
    if len(entries) > MAX_SUBQUERIES:
        _fail(f"the query has more than {MAX_SUBQUERIES} sub-queries")
    budget = Budget()
    return tuple(
        _read_query(entry, number, tree_name, budget) for number, entry in enumerate(entries, start=1)
    )


def _load(text: str) -> Json:
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        _fail(f"the query is longer than {MAX_TEXT_BYTES} bytes")
    try:
        return cast(Json, json.loads(text, object_pairs_hook=_unique_keys))
    except json.JSONDecodeError as error:
        message = f"an uproot-raw query must be JSON: {error.msg} (at character {error.pos + 1} of the query)"
        raise QuerySyntaxError(message, position=error.pos) from error
    except (RecursionError, ValueError) as error:
        message = f"an uproot-raw query must be JSON: {error}"
        raise QuerySyntaxError(message) from error


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        message = f"the key '{repeated:.100}' is given twice"
        raise QuerySyntaxError(message)
    return result


def _fail(problem: str) -> NoReturn:
    raise QuerySyntaxError(problem)


class _Entry:
    """One sub-query's JSON object, read key by key."""

    def __init__(self, entry: Mapping[str, Json], number: int) -> None:
        self._entry = entry
        self._number = number

    def fail(self, problem: str) -> NoReturn:
        _fail(f"sub-query {self._number}: {problem}")

    def get(self, key: str) -> Json:
        return self._entry.get(key)

    def text(self, key: str) -> str | None:
        value = self._entry.get(key)
        if value is not None and not isinstance(value, str):
            self.fail(f"'{key}' must be a string")
        return value or None

    def flag(self, key: str) -> bool:
        value = self._entry.get(key)
        if value is not None and not isinstance(value, bool):
            self.fail(f"'{key}' must be true or false")
        return bool(value)

    def texts(self, key: str) -> tuple[str, ...] | None:
        """One string or a list of them; None where nothing is given."""
        value = self._entry.get(key)
        if value is None:
            return None
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fail(f"'{key}' must be a string or a list of strings")
        if len(value) > MAX_ITEMS:
            self.fail(f"'{key}' has more than {MAX_ITEMS} entries")
        return tuple(cast("list[str]", value))

    def mapping(self, key: str) -> Mapping[str, str]:
        value = self._entry.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            self.fail(f"'{key}' must be an object with strings as values")
        if len(value) > MAX_ITEMS:
            self.fail(f"'{key}' has more than {MAX_ITEMS} entries")
        return cast("Mapping[str, str]", value)


def _read_query(entry: Json, number: int, tree_name: str | None, budget: Budget) -> Query:
    if not isinstance(entry, dict):
        _fail(f"sub-query {number} must be a JSON object")
    reader = _Entry(entry, number)
    allowed = (*TREE_KEYS, *COPY_KEYS)
    unknown = [key for key in entry if key not in allowed]
    if unknown:
        reader.fail(f"the key '{unknown[0]:.100}' is not known; allowed are {', '.join(allowed)}")
    patterns = reader.texts("copy_histograms")
    if patterns:
        used = [key for key in TREE_KEYS if entry.get(key) is not None]
        if used:
            reader.fail(f"'copy_histograms' stands alone, not with '{used[0]}'")
        any_of(patterns, budget)
        return CopyQuery(patterns)
    return _read_arrays(reader, tree_name, budget)


def _read_arrays(reader: _Entry, tree_name: str | None, budget: Budget) -> ArraysQuery:
    uses_event_axis = not reader.flag("use_standard_awkward_axis")
    expressions = reader.texts("expressions")
    cut = reader.text("cut")
    filters = {key: reader.texts(key) for key in ("filter_name", "filter_typename")}
    for patterns in filters.values():
        any_of(patterns, budget)
    return ArraysQuery(
        trees=_read_trees(reader, tree_name),
        formulas=None if expressions is None else read_formulas(expressions, uses_event_axis=uses_event_axis),
        cut=None if cut is None else read_formula(cut, uses_event_axis=uses_event_axis),
        filter_name=filters["filter_name"],
        filter_typename=filters["filter_typename"],
        aliases=tuple(
            (name, read_formula(text, uses_event_axis=uses_event_axis))
            for name, text in reader.mapping("aliases").items()
        ),
        fail_on_missing_trees=reader.flag("fail_on_missing_trees"),
    )


def _read_trees(reader: _Entry, tree_name: str | None) -> tuple[tuple[str, str], ...]:
    value = reader.get("treename")
    if isinstance(value, dict):
        trees = tuple(reader.mapping("treename").items())
    else:
        trees = tuple((name, name.partition(";")[0]) for name in reader.texts("treename") or ())
    if not trees and tree_name:
        trees = ((tree_name, tree_name.partition(";")[0]),)
    if not trees or not all(source and output for source, output in trees):
        reader.fail("it needs 'treename' (what to read) or 'copy_histograms' (what to copy)")
    return trees
