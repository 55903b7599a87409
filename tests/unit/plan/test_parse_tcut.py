"""TCut selections: how the text carries tree, columns and cut, and what a cut may say."""

from __future__ import annotations

import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.errors import QueryError, QuerySyntaxError, UnsupportedQuery
from servicex_server.plan.parse import parse
from servicex_server.plan.parse.tcut import MAX_TEXT_BYTES
from servicex_server.plan.parse.tcut_formula import MAX_NESTING, MAX_TEXT
from servicex_server.plan.plan import ExpressionQuery

with warnings.catch_warnings():
    # Invalid escapes in its source.
    warnings.simplefilter("ignore")
    import tcut_to_qastle


def in_json(cut: str, columns: object = "a,n", tree: str = "Events") -> str:
    return json.dumps({"tree_name": tree, "selected_columns": columns, "tcut_selection": cut})


def plan_of(text: str, tree_name: str | None = None) -> str:
    return parse("tcut", text, tree_name=tree_name).canonical().partition("\n")[2]


def plan_of_oracle(cut: str, columns: str = "a,n") -> str:
    text = tcut_to_qastle.translate("Events", columns, cut)
    return parse("uproot", text).canonical().partition("\n")[2]


@pytest.mark.parametrize(
    "cut",
    [
        "a > 1",
        "n",
        "!n",
        "not n",
        "n && flag",
        "!(a>1) && n",
        "a > 1 && n > 0 && flag",
        "a>1||n>0||flag",
        "!flag || a > 1",
        "sqrt(a) > 1",
        "abs(n)>0",
        "n % 2 == 1",
        "(n&1) == 1",
        "n**2>4",
        "-n>0",
        "1<a<3.5",
        "n/2>.5 && a != 1e3",
        "(a-1)*(n+2)>0 && !(flag && a>2)",
        "a + n * 2 - 1 >= 4 || (a <= 2 && n == 1)",
        "Muon.pt > 5",
        "",
    ],
)
def test_makes_the_plan_of_what_tcut_to_qastle_makes(cut: str) -> None:
    assert plan_of(in_json(cut)) == plan_of_oracle(cut)


@pytest.mark.parametrize("columns", ["", "a", "a, n", "Muon.pt,a"])
def test_selects_the_columns_as_tcut_to_qastle_does(columns: str) -> None:
    assert plan_of(in_json("a > 1", columns)) == plan_of_oracle("a > 1", columns)


def test_takes_columns_as_a_list_and_each_once() -> None:
    assert plan_of(in_json("n", ["a", "n ", "a"])) == plan_of(in_json("n", "a,n"))
    assert plan_of(in_json("n", None)) == plan_of(in_json("n", ""))


def test_takes_a_bare_cut_for_all_columns_of_the_tree_that_the_request_names() -> None:
    assert plan_of("a > 1", "Events") == plan_of(in_json("a > 1", ""))
    (query,) = parse("tcut", "a > 1").queries
    assert isinstance(query, ExpressionQuery)
    assert query.tree is None


def test_prefers_the_tree_that_the_text_names() -> None:
    (query,) = parse("tcut", in_json("a > 1", tree="Events"), tree_name="Other").queries
    assert isinstance(query, ExpressionQuery)
    assert query.tree == "Events"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"treename": "Events"}', "'treename' is not known; nearest: tree_name; allowed are tree_name, sel"),
        ('{"tree_name": 3}', "'tree_name' must be a string"),
        ('{"tree_name": "a", "tree_name": "b"}', "'tree_name' is given twice"),
        ('{"selected_columns": [1]}', "'selected_columns' must be a string"),
        ('{"selected_columns": {"a": "b"}}', "'selected_columns' must be a string"),
        ('{"selected_columns": "a*2"}', "takes names of columns, which 'a*2' is not"),
        ('{"selected_columns": "a,,n"}', "takes names of columns, which '' is not"),
        ('{"tcut_selection": "a > "}', "not the end of the cut (at character 5 of 'tcut_selection')"),
        ('{"tcut_selection"', "begins as JSON but is none: Expecting ':' delimiter"),
        ("{" * 100_000, "begins as JSON but is none"),
        ('{"a":' * 100_000, "begins as JSON but is none"),
        ("a" * (MAX_TEXT_BYTES + 1), "longer than 1048576 bytes"),
        ('{"selected_columns": "' + "a," * 4000 + 'a"}', "names more than 3000 columns"),
    ],
)
def test_refuses_a_text_of_another_form(text: str, problem: str) -> None:
    with pytest.raises(QuerySyntaxError) as raised:
        parse("tcut", text)
    assert problem in raised.value.message


@pytest.mark.parametrize(
    ("cut", "position", "problem"),
    [
        ("a >", 3, "a number, a column, a function or '(' is needed, not the end of the cut"),
        ("(a > 1", 6, "')' is missing for the '(' at character 1; there is the end of the cut"),
        ("a > 1)", 5, "')' does not continue the cut"),
        ("a b", 2, "'b' does not continue the cut"),
        ("a > 1 and n", 6, "'and' does not continue the cut; write '&&'"),
        ("a = 1", 2, "'=' is no operator of a cut; write '=='"),
        ("a == 'x'", 5, "text cannot be compared in a cut"),
        ("a ; b", 2, "';' cannot stand in a cut"),
        ("@a.size() > 1", 0, "Length$(array)"),
        ("1.5.2 > a", 0, "'1.5.2' is neither a number nor a name"),
        ("a & 4 == 4", 2, "'&' beside '==' can be read in two ways"),
        ("a > 1 | n > 1", 6, "'|' beside '>' can be read in two ways"),
        ("a > 1 == n", 6, "'==' beside '>' needs parentheses"),
        ("a == n == 1", 7, "'==' beside '==' needs parentheses"),
        ("(a > 1 ? n", 10, "':' is missing after the value that '?' chooses"),
        ("sqrt(a, n)", 0, "'sqrt' takes 1 arguments, not 2"),
        ("TMath::Pi", 0, "there is no function or variable 'TMath::Pi'"),
        ("foo(a)", 0, "there is no function 'foo'; nearest: floor"),
        ("jets.size() > 1", 0, "write Length$(jets)"),
        ("Sum(a) > 1", 0, "nearest: Sum$"),
        ("Entry$ > 1", 0, "there is no function or variable 'Entry$'"),
        ("a[n] > 1", 2, "takes one whole number from 0 to 1000"),
        ("a[0][1] > 1", 4, "'[' does not continue the cut"),
        ("a[1001] > 1", 2, "'[1001]' is beyond 1000"),
        ("Sum$(a[0]) > 1", 0, "not of single elements or constants"),
        ("Alt$(a[0], n) > 1", 0, "the second argument of 'Alt$' must be a number"),
        ("__import__('os')", 11, "text cannot be compared"),
    ],
)
def test_tells_what_is_wrong_and_where(cut: str, position: int, problem: str) -> None:
    with pytest.raises((QuerySyntaxError, UnsupportedQuery)) as raised:
        parse("tcut", cut)
    assert problem in raised.value.message
    assert f"(at character {position + 1} of the query)" in raised.value.message
    if isinstance(raised.value, QuerySyntaxError):
        assert raised.value.position == position


@pytest.mark.parametrize(
    "cut",
    [
        "(" * 5000 + "a",
        "!" * 5000 + "a",
        "-" * 5000 + "a",
        "a**" * 5000 + "a",
        "a?" * 5000 + "a",
        "abs(" * 5000 + "a",
        "not " * 5000 + "a",
    ],
)
def test_bounds_the_nesting(cut: str) -> None:
    with pytest.raises(QuerySyntaxError, match=f"nested more than {MAX_NESTING} deep"):
        parse("tcut", cut)


@pytest.mark.parametrize(
    "cut",
    [
        "a" + " " * MAX_TEXT,
        " && ".join(f"c{i} > {i}" for i in range(5000)),
        "+".join(f"c{i}" for i in range(5000)),
        "9" * 60_000,
        "0x" + "f" * 60_000,
        "2**62**3",
        "10**10**10",
        "1<<1000000",
        "1/0 > a",
    ],
)
def test_bounds_size_and_numbers(cut: str) -> None:
    with pytest.raises(QueryError):
        parse("tcut", cut)


def test_takes_long_chains() -> None:
    cut = " || ".join(f"c{i} > {i}" for i in range(300))
    assert plan_of(cut).count("logical_or") == 299


@given(st.text(alphabet="ab01.()[]!&|<>=?:+-*/%^,$ e", max_size=40))
def test_any_text_parses_or_tells_why_not(text: str) -> None:
    try:
        plan = parse("tcut", text)
    except QueryError as error:
        assert error.message  # noqa: PT017
    else:
        assert plan.canonical().startswith("plan 1 tcut")
