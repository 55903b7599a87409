"""Random func_adl queries on random tables: func_adl_uproot's values and types, whole and in parts."""

from __future__ import annotations

import awkward as ak
import pytest
from hypothesis import HealthCheck, given, settings

from func_adl_oracle import assert_same, assert_schema_fits, ours, theirs, to_text
from func_adl_queries import cases

SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


def check(case: tuple[ak.Array, str]) -> None:
    rows, query = case
    text = to_text(query)
    expected = theirs(text, rows)
    for n_chunks in (1, 3):
        result, output = ours(text, rows, n_chunks=n_chunks)
        assert_same(result, expected)
    assert_schema_fits(output, result)


@settings(SETTINGS, max_examples=60)
@given(cases())
def test_random_queries_give_what_func_adl_uproot_gives(case: tuple[ak.Array, str]) -> None:
    check(case)


@pytest.mark.long
@settings(SETTINGS, max_examples=4000, derandomize=False)
@given(cases())
def test_many_random_queries_give_what_func_adl_uproot_gives(case: tuple[ak.Array, str]) -> None:
    check(case)
