"""TCut selections: the values and types that tcut_to_qastle's text gives, here and in func_adl_uproot."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servicex_server.errors import QueryTypeError, UnknownName
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import evaluate, from_awkward

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import func_adl_uproot
    import tcut_to_qastle

N_ROWS = 40


def _make_columns() -> dict[str, ak.Array]:
    random = np.random.default_rng(7)
    counts = random.integers(0, 4, N_ROWS)
    return {
        "a": ak.Array(random.normal(0, 2, N_ROWS).astype(np.float32)),
        "b": ak.Array(random.normal(0, 2, N_ROWS)),
        "n": ak.Array(random.integers(0, 5, N_ROWS).astype(np.int32)),
        "small": ak.Array(random.integers(0, 5, N_ROWS).astype(np.int8)),
        "flag": ak.Array(random.integers(0, 2, N_ROWS).astype(bool)),
        "pt": ak.unflatten(random.exponential(20, counts.sum()).astype(np.float32), counts),
        "eta": ak.unflatten(random.normal(0, 2, counts.sum()).astype(np.float32), counts),
    }


COLUMNS = _make_columns()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tcut") / "events.root"
    with uproot.recreate(path) as target:
        tree = target.mktree("Events", {name: column.type for name, column in COLUMNS.items()})
        tree.extend(COLUMNS)
    return path


def run(codegen: str, text: str) -> ak.Array:
    """The query's result by our own engine."""
    types = {name: from_awkward(column.type.content) for name, column in COLUMNS.items()}
    (output,) = bind(parse(codegen, text), MemoryFile((MemoryTree("Events", types),))).outputs
    return evaluate(output, {name: COLUMNS[name] for name in output.columns})


def run_tcut(cut: str, columns: str = "n,pt") -> ak.Array:
    given_text = {"tree_name": "Events", "selected_columns": columns, "tcut_selection": cut}
    return run("tcut", json.dumps(given_text))


def run_oracle(query: str, path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return func_adl_uproot.generate_function(query)(str(path), "Events")


def assert_same(result: ak.Array, expected: ak.Array) -> None:
    assert str(result.type) == str(expected.type)
    assert ak.array_equal(result, expected, equal_nan=True, dtype_exact=True, check_parameters=False)


CUTS = [
    "",
    "a > 1",
    "flag",
    "!flag",
    "flag && n",
    "!(a > 0) && n",
    "a > 0 || n > 3 || flag",
    "sqrt(n) > 1.5",
    "sqrt(small) > 1",
    "abs(a) < 1 && n != 2",
    "(a > 0 ? n : small) > 2",
    "n % 2 == 1",
    "n / 2 > 0.9",
    "-1 < a < 1",
    "a * b + n > 1e0",
    "not flag",
]


@pytest.mark.parametrize(
    ("cut", "columns"), [*((cut, "n,pt") for cut in CUTS), ("flag", "n"), ("flag", "pt")]
)
def test_gives_what_func_adl_uproot_gives_for_the_oracles_text(cut: str, columns: str, file: Path) -> None:
    expected = run_oracle(tcut_to_qastle.translate("Events", columns, cut), file)
    assert_same(run_tcut(cut, columns), expected)


def _cuts() -> st.SearchStrategy[str]:
    """Cuts that tcut_to_qastle translates as it means to."""
    numbers = st.sampled_from(["1", "2", "0.5", "3"])
    columns = st.sampled_from(["a", "b", "n", "small"])
    sums = st.builds(
        "{} {} {}".format, columns, st.sampled_from(["+", "-", "*"]), st.one_of(columns, numbers)
    )
    values = st.one_of(columns, st.builds("({})".format, sums), st.builds("abs({})".format, columns))
    comparisons = st.builds(
        "{} {} {}".format, values, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers
    )
    conditions = st.one_of(comparisons, st.just("flag"), st.just("n"))
    return st.recursive(
        conditions,
        lambda inner: st.builds("{} {} {}".format, inner, st.sampled_from(["&&", "||"]), conditions),
        max_leaves=5,
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_cuts())
def test_gives_what_our_func_adl_gives_for_the_oracles_text(cut: str) -> None:
    expected = run("uproot", tcut_to_qastle.translate("Events", "n,pt", cut))
    assert_same(run_tcut(cut), expected)


def rows_where(condition: ak.Array) -> ak.Array:
    return COLUMNS["n"][condition]


@pytest.mark.parametrize(
    ("cut", "condition"),
    [
        ("Sum$(pt) > 30", ak.sum(COLUMNS["pt"], axis=1) > 30),
        ("Sum$(pt > 10 && abs(eta) < 2) >= 2", None),
        ("Length$(pt) == 2", ak.num(COLUMNS["pt"]) == 2),
        ("Max$(pt) > 20", ak.fill_none(ak.max(COLUMNS["pt"], axis=1), 0) > 20),
        # ROOT takes 0 for the extreme of nothing.
        ("Min$(eta) == 0", ak.num(COLUMNS["pt"]) == 0),
        # A row without the element does not pass, whatever else the cut says.
        ("pt[1] > 0 || flag", ak.num(COLUMNS["pt"]) > 1),
        ("!(pt[0] > 1e9)", ak.num(COLUMNS["pt"]) > 0),
        ("Alt$(pt[1], -1) < 0", ak.num(COLUMNS["pt"]) < 2),
        ("(Length$(pt) > 0 ? Max$(pt) : a) > 1e9", ak.num(COLUMNS["pt"]) < 0),
        ("TMath::Abs(a) > TMath::Pi()", abs(COLUMNS["a"]) > np.pi),
        ("a^2 > 4 && pow(a, 2) > 4", COLUMNS["a"] ** 2 > 4),
        ("min(n, small) > 1", np.minimum(COLUMNS["n"], COLUMNS["small"]) > 1),
        ("n & 1", COLUMNS["n"] % 2 == 1),
        ("n - 2", COLUMNS["n"] != 2),
        ("(a > 0 || !flag) && (n)", ((COLUMNS["a"] > 0) | ~COLUMNS["flag"]) & (COLUMNS["n"] > 0)),
        ("flag ? a > 0 : n > 1", ak.where(COLUMNS["flag"], COLUMNS["a"] > 0, COLUMNS["n"] > 1)),
        ("1", COLUMNS["n"] >= 0),
        ("2 < 1", COLUMNS["n"] < 0),
        ("0x2 == n", COLUMNS["n"] == 2),
    ],
)
def test_takes_what_root_takes_beyond_the_oracle(cut: str, condition: ak.Array | None) -> None:
    if condition is None:
        good = (COLUMNS["pt"] > 10) & (abs(COLUMNS["eta"]) < 2)
        condition = ak.sum(good, axis=1) >= 2
    result = run_tcut(cut, "n")["n"]
    assert result.to_list() == rows_where(condition).to_list()


def test_a_choice_is_not_spoilt_by_the_value_that_is_not_chosen() -> None:
    # The oracle multiplies by 0 and adds, which makes a NaN of an infinity.
    assert len(run_tcut("(a > -1e9 ? 1 : 1 / (n - n)) == 1", "n")) == N_ROWS


def test_a_cut_on_elements_keeps_rows_and_drops_elements() -> None:
    result = run_tcut("pt > 10", "pt,eta")
    kept = COLUMNS["pt"] > 10
    assert result["pt"].to_list() == COLUMNS["pt"][kept].to_list()
    assert result["eta"].to_list() == COLUMNS["eta"][kept].to_list()


@pytest.mark.parametrize(
    ("cut", "columns", "kind", "problem"),
    [
        ("pt > 10", "n", QueryTypeError, "the cut 'pt > 10': the condition has lists where there are none"),
        ("Sum$(a) > 1", "n", QueryTypeError, "'Sum$': it needs a collection"),
        ("a[0] > 1", "n", QueryTypeError, "'a': it needs a collection"),
        ("fla > 1", "n", UnknownName, "no branch 'fla' in tree 'Events'; nearest: flag"),
        ("a > 1", "etta", UnknownName, "no branch 'etta' in tree 'Events'; nearest: eta"),
    ],
)
def test_tells_what_does_not_fit_the_file(
    cut: str, columns: str, kind: type[Exception], problem: str
) -> None:
    with pytest.raises(kind) as raised:
        run_tcut(cut, columns)
    assert problem in str(raised.value)
