"""Which rows of which columns a bound expression needs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import qastle

from servicex_server.plan.bind import bind
from servicex_server.plan.ir import Apply, Column, Literal, Mask
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.selection import find_uses, follow_each_other
from servicex_server.plan.types import Bool, List, Number

F4, I4 = Number("float32"), Number("int32")
FILE = MemoryFile(
    (MemoryTree("t", {"met": F4, "n": I4, "good": Bool(), "pt": List(F4), "eta": List(F4), "q": List(I4)}),)
)


def func_adl(query: str) -> BoundOutput:
    text = qastle.python_source_to_text_ast(f"EventDataset('f.root', 't'){query}")
    (output,) = bind(parse("uproot", text), FILE).outputs
    return output


def raw(**entry: Any) -> BoundOutput:
    (output,) = bind(parse("uproot-raw", json.dumps([{"treename": "t", **entry}])), FILE).outputs
    return output


def n_conditions(output: BoundOutput) -> dict[str, int]:
    """How many conditions each column waits for."""
    uses = find_uses(output.expression, frozenset(output.row_conditions))
    return {use.column: len(use.conditions) for use in uses}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (".Select(lambda e: e.met)", {"met": 0}),
        (".Where(lambda e: e.met > 1).Select(lambda e: e.pt)", {"met": 0, "pt": 1}),
        # needed whole for the selection, and cut in memory
        (".Where(lambda e: e.met > 1).Select(lambda e: e.met)", {"met": 0}),
        (".Where(lambda e: e.good).Select(lambda e: e.good)", {"good": 0}),
        (".Where(lambda e: e.met > 1).Where(lambda e: e.n > 1).Select(lambda e: e.pt)",
         {"met": 0, "n": 1, "pt": 2}),
        (".Where(lambda e: e.met > 1 and e.n > 1).Select(lambda e: e.pt)", {"met": 0, "n": 0, "pt": 1}),
        (".Where(lambda e: e.met > 1).Select(lambda e: {'a': e.pt, 'b': e.eta * e.n})",
         {"met": 0, "pt": 1, "eta": 1, "n": 1}),
        # a cut on elements keeps all rows
        (".Select(lambda e: e.pt.Where(lambda p: p > 1))", {"pt": 0}),
        (".SelectMany(lambda e: e.pt).Where(lambda p: p > 1)", {"pt": 0}),
        (".Where(lambda e: e.met > 1).SelectMany(lambda e: e.pt).Where(lambda p: p > 1)",
         {"met": 0, "pt": 1}),
    ],
)  # fmt: skip
def test_func_adl_columns_wait_for_their_conditions(query: str, expected: dict[str, int]) -> None:
    assert n_conditions(func_adl(query)) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"expressions": ["met", "pt"], "cut": "met > 1"}, {"met": 0, "pt": 1}),
        ({"expressions": ["pt * met", "eta"], "cut": "n > 1"}, {"n": 0, "pt": 1, "met": 1, "eta": 1}),
        ({"expressions": ["sum(pt)", "pt[eta > 0]"], "cut": "n > 1"}, {"n": 0, "pt": 1, "eta": 1}),
        ({"expressions": ["pt"], "cut": "any(pt > 1)"}, {"pt": 0}),
        ({"expressions": ["pt", "eta"], "cut": "pt > 1"}, {"pt": 0, "eta": 0}),
        ({"expressions": ["where(good, pt, eta)"], "cut": "n"}, {"n": 0, "good": 1, "pt": 1, "eta": 1}),
        ({"expressions": ["m"], "aliases": {"m": "met * 2"}, "cut": "m > 1"}, {"met": 0}),
        # a value over the whole file needs all rows
        (
            {"expressions": ["met - max(met)"], "cut": "n > 1", "use_standard_awkward_axis": True},
            {"n": 0, "met": 0},
        ),
    ],
)
def test_cuts_on_computed_values_reach_the_columns(entry: dict[str, Any], expected: dict[str, int]) -> None:
    assert n_conditions(raw(**entry)) == expected


def test_conditions_are_told_in_order() -> None:
    output = func_adl(".Where(lambda e: e.good).Where(lambda e: e.n > 1).Select(lambda e: e.pt)")
    first, second = output.row_conditions
    assert isinstance(first, Column)
    assert first.name == "good"
    (use,) = (
        use for use in find_uses(output.expression, frozenset(output.row_conditions)) if use.column == "pt"
    )
    assert use.conditions == (first, second)


def test_conditions_on_what_became_rows_later_are_none_of_the_trees() -> None:
    output = func_adl(".SelectMany(lambda e: e.pt).Where(lambda p: p > 1)")
    assert output.row_conditions == ()


def test_conditions_that_follow_each_other_tell_the_selection() -> None:
    output = func_adl(".Where(lambda e: e.met > 1).Where(lambda e: e.n > 2).Where(lambda e: e.good)")
    assert len(output.row_conditions) == 3
    assert follow_each_other(output.row_conditions)
    assert output.is_selection_known
    assert follow_each_other(())


def test_conditions_that_only_stand_side_by_side_do_not() -> None:
    # As many rows may pass the one as the other speaks of, in some chunk.
    one = Apply("greater", (Column("met"), Literal(1)))
    other = Apply("greater", (Column("n"), Literal(2)))
    assert not follow_each_other((one, other))
    after_one = Apply("greater", (Mask(Column("n"), one), Literal(2)))
    assert follow_each_other((one, after_one))
    assert not follow_each_other((after_one, one))
