"""TCut selections (generator `tcut`): a ROOT cut on the rows of one tree, and the columns to deliver.

The text is the cut alone, or a JSON object with the arguments of `tcut_to_qastle.translate`: `tree_name`,
`selected_columns` and `tcut_selection`. The plan is the one that the func_adl query has that this package
makes of them: `Where` with the cut, then `Select` of a dict of the columns.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from servicex_server.errors import QuerySyntaxError
from servicex_server.plan.ir import Broadcast, Expr, Graph, Literal, Mask, Origin, Table, Zip
from servicex_server.plan.parse.tcut_formula import Place, field_of, lower_cut
from servicex_server.plan.pattern import nearest
from servicex_server.plan.plan import ExpressionQuery

KEYS = ("tree_name", "selected_columns", "tcut_selection")
MAX_TEXT_BYTES = 1 << 20
MAX_COLUMNS = 3_000
_COLUMN = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)


def read_selection(text: str, tree_name: str | None) -> ExpressionQuery:
    """The selection as an expression over one tree.

    Args:
        text: a cut, or a JSON object of `KEYS`, each of which may be left out.
        tree_name: the tree if the text names none; with neither, the first of the file is read.

    Raises:
        QuerySyntaxError: the cut does not parse, or the object is not of this form.
        UnsupportedQuery: the cut uses what we do not execute.
    """
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        _fail(f"the query is longer than {MAX_TEXT_BYTES} bytes")
    if text.lstrip().startswith("{"):
        given = _load(text)
        cut, place = _text(given, "tcut_selection"), Place("of 'tcut_selection'")
        tree_name = _text(given, "tree_name") or tree_name
        columns = _columns(given)
    else:
        cut, place, columns = text, Place("of the query", is_query=True), ()
    graph = Graph()
    rows = _select(graph, cut, place)
    return ExpressionQuery(tree_name, _project(graph, rows, columns))


def _load(text: str) -> dict[str, object]:
    try:
        given = json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        message = (
            f"the query begins as JSON but is none: {error.msg} (at character {error.pos + 1} of the query)"
        )
        raise QuerySyntaxError(message, position=error.pos) from error
    except (RecursionError, ValueError) as error:
        message = f"the query begins as JSON but is none: {error}"
        raise QuerySyntaxError(message) from error
    # The text begins with a brace, so it cannot be anything else.
    assert isinstance(given, dict)  # noqa: S101
    for key in given:
        if key not in KEYS:
            near = nearest(key, KEYS)
            hint = f"; nearest: {near[0]}" if near else ""
            _fail(f"the key '{key:.100}' is not known{hint}; allowed are {', '.join(KEYS)}")
    return given


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        _fail(f"the key '{repeated:.100}' is given twice")
    return result


def _text(given: dict[str, object], key: str) -> str:
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        _fail(f"'{key}' must be a string")
    return value or ""


def _columns(given: dict[str, object]) -> tuple[str, ...]:
    """Names of the columns to deliver, each once; none of them stands for all."""
    value = given.get("selected_columns")
    match value:
        case None | "":
            return ()
        case str():
            names = [name.strip() for name in value.split(",")]
        case list() if all(isinstance(name, str) for name in value):
            names = [name.strip() for name in value]
        case _:
            _fail("'selected_columns' must be a string, names with commas between them, or a list of names")
    if len(names) > MAX_COLUMNS:
        _fail(f"'selected_columns' names more than {MAX_COLUMNS} columns")
    for name in names:
        if not _COLUMN.fullmatch(name):
            _fail(
                f"'selected_columns' takes names of columns, which {name!r:.100} is not; "
                "'uproot-raw' and 'uproot' compute columns"
            )
    return tuple(dict.fromkeys(names))


def _select(graph: Graph, cut: str, place: Place) -> Expr:
    """The rows of the tree that pass the cut."""
    table = graph.add(Table())
    if not cut.strip():
        return table
    condition = lower_cut(cut, graph, table, place)
    if isinstance(condition, Literal):
        condition = graph.add(Broadcast(condition, table, 1, origin=condition.origin))
    return graph.add(Mask(table, condition, origin=Origin(f"the cut '{cut.strip():.200}'")))


def _project(graph: Graph, rows: Expr, columns: tuple[str, ...]) -> Expr:
    if not columns:
        return rows
    values = tuple(field_of(graph, rows, name, Origin(f"'{name}'")) for name in columns)
    # A dict of one column becomes records inside its lists, as in func_adl.
    limit = None if len(values) == 1 else 1
    return graph.add(Zip(columns, values, limit, origin=Origin("'selected_columns'")))


def _fail(problem: str) -> NoReturn:
    raise QuerySyntaxError(problem)
