"""Random uproot-raw expressions and cuts on random tables: uproot's values and types, whole and in parts."""

from __future__ import annotations

import io
import itertools
import json
import warnings
from functools import cache
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import evaluate, from_awkward
from uproot_raw_oracle import language
from uproot_raw_queries import Table, random_table, sub_queries

SEEDS = (1, 2, 3)
SETTINGS = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@cache
def written(seed: int) -> tuple[Table, Any, dict[str, ak.Array]]:
    """A random table, as a tree that uproot reads and as arrays."""
    table, rows = random_table(seed)
    target = io.BytesIO()
    file = uproot.recreate(target)  # not closed: that would close the buffer, too
    tree = file.mktree("Events", {name: rows[name].type for name in rows.fields})
    tree.extend({name: rows[name] for name in rows.fields})
    opened = uproot.open(io.BytesIO(target.getvalue()))["Events"]
    arrays = opened.arrays(rows.fields)
    return table, opened, {name: arrays[name] for name in rows.fields}


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, dict[str, Any]]:
    seed = draw(st.sampled_from(SEEDS))
    return seed, draw(sub_queries(written(seed)[0]))


def check(seed: int, sub_query: dict[str, Any]) -> None:
    _, tree, columns = written(seed)
    is_standard = bool(sub_query.get("use_standard_awkward_axis"))
    arguments = {key: value for key, value in sub_query.items() if key != "use_standard_awkward_axis"}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            expected = tree.arrays(language=language(uses_event_axis=not is_standard), **arguments)
        except (IndexError, KeyError, ValueError):  # no kernel for sums of float16; options; rows dropped
            reject()
    types = {name: from_awkward(column.type.content) for name, column in columns.items()}
    query = parse("uproot-raw", json.dumps([{"treename": "Events", **sub_query}]))
    (output,) = bind(query, MemoryFile((MemoryTree("Events", types),))).outputs
    for edges in ((0, 30), (0, 7, 30)) if output.is_chunkable else ((0, 30),):
        parts = [
            evaluate(output, {name: columns[name][start:stop] for name in output.columns})
            for start, stop in itertools.pairwise(edges)
        ]
        result = parts[0] if len(parts) == 1 else ak.concatenate(parts)
        assert set(result.fields) == set(expected.fields)
        for name in result.fields:
            assert str(result[name].type) == str(expected[name].type)
            assert ak.array_equal(result[name], expected[name], equal_nan=True, check_parameters=False)
            assert output.schema[name] == from_awkward(result[name].type.content)


@settings(SETTINGS, max_examples=60)
@given(cases())
def test_random_queries_give_what_uproot_gives(case: tuple[int, dict[str, Any]]) -> None:
    check(*case)


@pytest.mark.long
@settings(SETTINGS, max_examples=4000, derandomize=False)
@given(cases())
def test_many_random_queries_give_what_uproot_gives(case: tuple[int, dict[str, Any]]) -> None:
    check(*case)
