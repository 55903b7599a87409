"""Tallies: added up, and as documents that every database and every JSON reader takes."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.tally import (
    MAX_CHARACTERS,
    MAX_STEPS,
    NO_TALLY,
    CutStep,
    StageSeconds,
    Tally,
    WeightSum,
    add_up,
    from_document,
    to_document,
)

COUNTS = st.integers(0, 2**40)
SECONDS = st.floats(0, 1e6)
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)
TALLIES = st.builds(
    Tally,
    COUNTS,
    st.builds(StageSeconds, SECONDS, SECONDS, SECONDS, SECONDS, SECONDS),
    st.lists(st.builds(CutStep, NAMES, COUNTS, NAMES), max_size=5).map(tuple),
    st.lists(
        st.builds(WeightSum, NAMES, SECONDS, SECONDS, NAMES),
        max_size=3,
        unique_by=lambda entry: (entry.branch, entry.table),
    ).map(tuple),
)


@given(TALLIES)
def test_a_tally_survives_its_document(tally: Tally) -> None:
    text = json.dumps(to_document(tally), allow_nan=False)
    assert from_document(json.loads(text)) == tally


def test_documents_are_bounded_and_hold_nothing_odd() -> None:
    tally = Tally(
        bytes_decompressed=-5,
        seconds=StageSeconds(read=math.inf, filter=-1.0, write=math.nan),
        cut_flow=(CutStep("a\0b\udc00" + "x" * 1000, 2**70),) * (MAX_STEPS + 5),
        sums_of_weights=(WeightSum("w", math.nan, -math.inf),),
    )
    document = json.loads(json.dumps(to_document(tally), allow_nan=False))
    assert document["bytes_decompressed"] == 0
    assert set(document["seconds"].values()) == {0.0}
    assert len(document["cut_flow"]) == MAX_STEPS
    step = document["cut_flow"][0]
    assert len(step["cut"]) == MAX_CHARACTERS
    assert step["cut"].startswith("a�b?x")
    assert step["rows"] == 2**63 - 1
    assert document["sums_of_weights"] == [{"table": "", "branch": "w", "before": None, "after": None}]
    assert math.isnan(from_document(to_document(tally)).sums_of_weights[0].before)


@given(st.lists(TALLIES, max_size=4))
def test_adding_up_keeps_every_row(tallies: list[Tally]) -> None:
    total = add_up(tallies)
    assert total.bytes_decompressed == sum(tally.bytes_decompressed for tally in tallies)
    assert total.seconds.encode == pytest.approx(sum(tally.seconds.encode for tally in tallies))
    rows = sum(step.n_rows for tally in tallies for step in tally.cut_flow)
    assert sum(step.n_rows for step in total.cut_flow) == rows
    if len(tallies) == 1:
        assert total == tallies[0]


def test_cuts_of_the_same_text_stay_apart_and_in_order() -> None:
    one = Tally(cut_flow=(CutStep("all", 9), CutStep("x > 1", 5), CutStep("x > 1", 4)))
    other = Tally(cut_flow=(CutStep("all", 1), CutStep("y", 1)))
    assert add_up([one, other]).cut_flow == (
        CutStep("all", 10),
        CutStep("x > 1", 5),
        CutStep("x > 1", 4),
        CutStep("y", 1),
    )
    assert add_up([]) == NO_TALLY


def test_tables_are_told_apart() -> None:
    tally = Tally(
        cut_flow=(CutStep("x > 1", 5, "Events"), CutStep("x > 1", 4, "Runs")),
        sums_of_weights=(WeightSum("w", 2.0, 1.0, "Events"), WeightSum("w", 4.0, 3.0, "Runs")),
    )
    assert from_document(to_document(tally)) == tally
    total = add_up([tally, tally])
    assert [(step.table, step.n_rows) for step in total.cut_flow] == [("Events", 10), ("Runs", 8)]
    assert [(entry.table, entry.after) for entry in total.sums_of_weights] == [("Events", 2.0), ("Runs", 6.0)]
