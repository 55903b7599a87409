"""Conditions as their users know them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import qastle

from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.show import MAX_CHARACTERS, show
from servicex_server.plan.types import Bool, List, Number

F4, I4 = Number("float32"), Number("int32")
FILE = MemoryFile((MemoryTree("t", {"met": F4, "n": I4, "good": Bool(), "pt": List(F4), "eta": List(F4)}),))


def func_adl(query: str) -> BoundOutput:
    text = qastle.python_source_to_text_ast(f"EventDataset('f.root', 't'){query}")
    return bind(parse("uproot", text), FILE).outputs[0]


def raw(**entry: Any) -> BoundOutput:
    return bind(parse("uproot-raw", json.dumps([{"treename": "t", **entry}])), FILE).outputs[0]


def conditions(output: BoundOutput) -> list[str]:
    return [show(condition, output.row_conditions) for condition in output.row_conditions]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (".Where(lambda e: e.met > 20)", ["met > 20"]),
        (".Where(lambda e: e.good)", ["good"]),
        (".Where(lambda e: not e.good and (e.met > 1) or e.n == 2)",
         ["(not good and (met > 1)) or (n == 2)"]),
        (".Where(lambda e: e.pt.Where(lambda p: p > 10).Count() >= 2)", ["num(pt[pt > 10]) >= 2"]),
        (".Where(lambda e: e.pt.Count() > 0).Where(lambda e: e.pt.First() > 5)",
         ["num(pt) > 0", "pt[:, 0] > 5"]),
        (".Where(lambda e: (e.met if e.good else -1) > 0)", ["(met if good else -1) > 0"]),
    ],
)  # fmt: skip
def test_func_adl_conditions(query: str, expected: list[str]) -> None:
    assert conditions(func_adl(f"{query}.Select(lambda e: e.n)")) == expected


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ("met > 20", "met > 20"),
        ("(met > 20) & any(abs(pt) > 5)", "(met > 20) & any(absolute(pt) > 5)"),
        ("sum(pt[:, :2]) > 5", "sum(pt[:, :2]) > 5"),
        ("n", "n != 0"),
    ],
)
def test_cuts(cut: str, expected: str) -> None:
    assert conditions(raw(expressions=["met"], cut=cut)) == [expected]


def test_long_conditions_are_shortened() -> None:
    (text,) = conditions(raw(expressions=["n"], cut=" & ".join(f"(met > {number})" for number in range(99))))
    assert len(text) <= MAX_CHARACTERS
    assert text.endswith("…")
