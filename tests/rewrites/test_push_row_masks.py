"""Cuts move to the columns, and the rows stay the same."""

from __future__ import annotations

import json
from typing import Any

import awkward as ak
import numpy as np
import pytest

from servicex_server.plan import optimize
from servicex_server.plan.bind import bind
from servicex_server.plan.ir import canonical_text
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import evaluate, from_awkward

COLUMNS = {
    "met": ak.Array(np.array([1.0, 2.0, 3.0, 4.0], np.float32)),
    "n": ak.Array(np.array([2, 0, 1, 3], np.int32)),
    "pt": ak.Array([[10.0, 20.0], [], [30.0], [40.0, 50.0, 60.0]]),
    "eta": ak.Array([[-1.0, 2.0], [], [0.5], [1.0, -2.0, 3.0]]),
    "fixed": ak.Array(np.arange(8.0).reshape(4, 2)),
}
FILE = MemoryFile(
    (MemoryTree("t", {name: from_awkward(array.type.content) for name, array in COLUMNS.items()}),)
)

PAIRS = [
    (
        {"expressions": ["met * 2"], "cut": "n > 1"},
        """
        %0 = Column 'met'
        %1 = Column 'n'
        %2 = Literal 1
        %3 = Apply 'greater' (%1 %2)
        %4 = Mask %0 %3
        %5 = Literal 2
        %6 = Apply 'multiply' (%4 %5)
        %7 = Zip ('met * 2') (%6) 1
        return %7
        """,
    ),
    # known for all rows already, as the cut is made of it
    (
        {"expressions": ["met * 2"], "cut": "met * 2 > 1"},
        """
        %0 = Column 'met'
        %1 = Literal 2
        %2 = Apply 'multiply' (%0 %1)
        %3 = Literal 1
        %4 = Apply 'greater' (%2 %3)
        %5 = Mask %2 %4
        %6 = Zip ('met * 2') (%5) 1
        return %6
        """,
    ),
    # a value of all rows together must not see fewer
    (
        {"expressions": ["met - max(met)"], "cut": "n > 1", "use_standard_awkward_axis": True},
        """
        %0 = Column 'met'
        %1 = Column 'n'
        %2 = Literal 1
        %3 = Apply 'greater' (%1 %2)
        %4 = Mask %0 %3
        %5 = Call 'max' (%0) (('axis' None))
        %6 = Apply 'subtract' (%4 %5)
        %7 = Zip ('met - max(met)') (%6) 1
        return %7
        """,
    ),
]

SAME_ROWS: list[dict[str, Any]] = [
    {"expressions": ["pt", "pt * met", "pt[eta > 0]", "sum(pt)", "num(pt)"], "cut": "n > 1"},
    {"expressions": ["pt[:, :1]", "sort(eta)", "argmax(pt)", "where(pt > eta, pt, met)"], "cut": "met < 3"},
    {"expressions": ["combinations(pt, 2)", "cartesian([pt, eta])", "concatenate([pt, eta])"], "cut": "n"},
    {"expressions": ["fixed", "fixed * 2", "sum(fixed)", "mean(pt)"], "cut": "(n > 0) & (met > 1)"},
    {"expressions": ["firsts(pt)", "pad_none(pt, 2)", "is_none(firsts(pt))"], "cut": "n < 3"},
    {"expressions": ["flatten(pt, axis=None)[:4]", "met"], "cut": "n < 3", "use_standard_awkward_axis": True},
    {"expressions": ["met"], "cut": "met > 100"},
    # what has one row is repeated for all rows
    {"expressions": ["met - met[:1]", "where(n > 1, met, 0 * met[:1])"], "cut": "n > 1"},
    {"expressions": ["met - met[::-1]", "pt * met[1:2]"], "cut": "n < 3"},
]


def bound(entry: dict[str, Any]) -> BoundOutput:
    (output,) = bind(parse("uproot-raw", json.dumps([{"treename": "t", **entry}])), FILE).outputs
    return output


@pytest.mark.parametrize(("entry", "after"), PAIRS, ids=[str(entry) for entry, _ in PAIRS])
def test_becomes(entry: dict[str, Any], after: str) -> None:
    expected = "\n".join(line.strip() for line in after.strip().splitlines())
    assert canonical_text([bound(entry).expression]) == expected


@pytest.mark.parametrize("entry", [*SAME_ROWS, *(entry for entry, _ in PAIRS)], ids=str)
def test_gives_the_same_rows(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    rewritten = bound(entry)
    monkeypatch.setattr(optimize, "RULES", ())
    plain = bound(entry)
    results = [
        evaluate(output, {name: COLUMNS[name] for name in output.columns}) for output in (rewritten, plain)
    ]
    assert str(results[0].type) == str(results[1].type)
    assert ak.array_equal(*results)
    assert rewritten.schema == plain.schema
