"""uproot-raw texts to plans: keys, expressions, and what is refused in which words."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.errors import QueryError, QuerySyntaxError, QueryTypeError, UnsupportedQuery
from servicex_server.plan.parse import parse
from servicex_server.plan.parse.uproot_raw import COPY_KEYS, TREE_KEYS
from servicex_server.plan.plan import ArraysQuery, CopyQuery, Plan


def plan_of(*entries: dict[str, Any], tree_name: str | None = None) -> Plan:
    return parse("uproot-raw", json.dumps(list(entries)), tree_name=tree_name)


def arrays_of(**entry: Any) -> ArraysQuery:
    (query,) = plan_of({"treename": "Events", **entry}).queries
    assert isinstance(query, ArraysQuery)
    return query


@pytest.mark.parametrize(
    ("treename", "trees"),
    [
        ("Events", (("Events", "Events"),)),
        (["a", "b"], (("a", "a"), ("b", "b"))),
        ({"a": "x", "b": "y"}, (("a", "x"), ("b", "y"))),
        ("Events;1", (("Events;1", "Events"),)),
    ],
)
def test_trees_are_named_alone_in_a_list_or_renamed(treename: object, trees: object) -> None:
    assert arrays_of(treename=treename).trees == trees


def test_one_object_stands_for_a_list_of_one() -> None:
    entry = {"treename": "Events", "expressions": ["x"]}
    assert parse("uproot-raw", json.dumps(entry)).canonical() == plan_of(entry).canonical()


def test_the_official_clients_nulls_mean_nothing() -> None:
    nulls = dict.fromkeys(TREE_KEYS)
    assert plan_of({**nulls, "treename": "Events"}).canonical() == plan_of({"treename": "Events"}).canonical()


def test_a_tree_name_from_outside_is_the_default() -> None:
    (query,) = plan_of({"expressions": "x"}, tree_name="Events").queries
    assert isinstance(query, ArraysQuery)
    assert query.trees == (("Events", "Events"),)


def test_objects_to_copy() -> None:
    assert plan_of({"copy_histograms": "h*"}, {"copy_histograms": ["a", "/b/"]}).queries == (
        CopyQuery(("h*",)),
        CopyQuery(("a", "/b/")),
    )


def test_an_unknown_key_is_answered_with_all_known_ones() -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        plan_of({"treename": "Events", "expression": "x"})
    assert "sub-query 1: the key 'expression' is not known" in caught.value.message
    assert all(key in caught.value.message for key in (*TREE_KEYS, *COPY_KEYS))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("nonsense", "must be JSON"),
        ("[]", "empty list"),
        ("[1]", "must be a JSON object"),
        ("[{}]", "needs 'treename'"),
        ('[{"treename": ""}]', "needs 'treename'"),
        ('[{"treename": "a", "treename": "b"}]', "given twice"),
        ('[{"treename": "a", "expressions": 1}]', "'expressions' must be a string or a list"),
        ('[{"treename": "a", "cut": []}]', "'cut' must be a string"),
        ('[{"treename": "a", "aliases": ["x"]}]', "'aliases' must be an object"),
        ('[{"treename": "a", "fail_on_missing_trees": "yes"}]', "must be true or false"),
        ('[{"treename": "a", "copy_histograms": "h"}]', "stands alone"),
        ('[{"treename": "a", "filter_name": "/(/"}]', "regular expression"),
        ("[" * 100_000, "must be JSON"),
        ('"' + "a" * (1 << 20) + '"', "longer than"),
    ],
    ids=lambda text: text[:40],
)
def test_malformed_queries_are_explained(text: str, problem: str) -> None:
    with pytest.raises(QuerySyntaxError) as caught:
        parse("uproot-raw", text)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("a and b", "write & or |"),
        ("not a", "write ~"),
        ("1 < a < 2", "chained comparison"),
        ("a if b else c", "write where"),
        ("a in b", "comparison 'In'"),
        ("a @ b", "operator MatMult"),
        ("(lambda: 1)()", "call of anything but a function's name"),
        ("lambda: 1", "a lambda"),
        ("[x for x in a]", "comprehension"),
        ("f'{a}'", "f-string"),
        ("(a := 1)", "':='"),
        ("{'a': 1}", "a dict"),
        ("{1, 2}", "a Set"),
        ("[a, b]", "a list of arrays"),
        ("eval('1')", "no function 'eval'"),
        ("__import__('os')", "no function '__import__'"),
        ("a.__class__.__bases__()", "call of anything but a function's name"),
        ("get.__globals__('x')", "call of anything but a function's name"),
        ("sqtr(a)", "nearest: sqrt"),
        ("1j * a", "constant of type complex"),
        ("b'x'", "constant of type bytes"),
        ("a[x:]", "anything but a constant"),
        ("a[1.5:]", "bounds that are not whole numbers"),
        ("sum(a, axis=b)", "anything but a constant"),
    ],
)
def test_unsupported_constructs_are_named_with_their_place(expression: str, problem: str) -> None:
    with pytest.raises(UnsupportedQuery) as caught:
        arrays_of(expressions=expression)
    assert problem in caught.value.message
    assert "at character" in caught.value.message


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("sqrt(a, b)", "'sqrt' takes 1 arguments"),
        ("sum()", "sum needs 'array'"),
        ("sum(a, 1, True)", "at most 2 arguments"),
        ("sum(a, axis=1, axes=2)", "no option 'axes'; it has array, axis"),
        ("sum(a, array=b)", "gets 'array' twice"),
        ("concatenate(a)", "takes a list of arrays"),
        ("broadcast_arrays(a, b)", "followed by the number"),
        ("broadcast_arrays(a, b)[2]", "followed by the number"),
        ("get(a)", "get(…) takes the name"),
        ("sum(*a)", "not supported"),
    ],
)
def test_wrong_calls_are_explained(expression: str, problem: str) -> None:
    with pytest.raises(QueryError) as caught:
        arrays_of(expressions=expression)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    "expression",
    ["sum(a, axis='x')", "sum(a, keepdims=1)", "combinations(a, 'x')", "combinations(a, 2, fields=[1])"],
)
def test_options_have_types(expression: str) -> None:
    with pytest.raises(QueryTypeError, match="must be"):
        arrays_of(expressions=expression)


@pytest.mark.parametrize(
    "text", ["1st", "Electrons#0", "a b", "x +", "jets[", "", "a\\b", "(" * 500, "-" * 500 + "a"]
)
def test_what_is_no_expression_may_still_be_a_name(text: str) -> None:
    (formula,) = arrays_of(expressions=[text]).formulas or ()
    assert formula.expression is None
    assert formula.problem is not None


def test_long_chains_are_accepted() -> None:
    arrays_of(expressions=["x"], cut=" | ".join(f"HLT_{i}" for i in range(600)))


@pytest.mark.parametrize(
    "text",
    ["(" * 5_000 + "a" + ")" * 5_000, "a." * 20_000 + "b", "a[" * 3_000 + "0" + "]" * 3_000,
     "+" * 60_000 + "a", "a+(" * 90 + "a" + ")" * 90, "9" * 10_000, "sum(" * 90 + "a" + ")" * 90,
     "a" + "[0]" * 5_000,
     "a == " * 5_000 + "a", "x" * 70_000, "~" * 90 + "a", "2**" * 5_000 + "2"],
    ids=lambda text: f"{text[:6]}x{len(text)}",
)  # fmt: skip
def test_hostile_expressions_are_never_fatal(text: str) -> None:
    with contextlib.suppress(QueryError):
        arrays_of(expressions=[text])


@given(st.text(alphabet="ab01 .,()[]{}:+-*/<>=&|~'\"\\#@!\n", max_size=40))
@pytest.mark.filterwarnings("ignore")
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(QueryError):
        arrays_of(expressions=[text])


def test_the_order_of_aliases_does_not_matter() -> None:
    one = plan_of({"treename": "T", "aliases": {"a": "x", "b": "y"}})
    two = plan_of({"treename": "T", "aliases": {"b": "y", "a": "x"}})
    assert one.canonical() == two.canonical()


def test_axis_defaults_belong_to_the_plan() -> None:
    event_wise = plan_of({"treename": "T", "expressions": "sum(x)"})
    standard = plan_of({"treename": "T", "expressions": "sum(x)", "use_standard_awkward_axis": True})
    explicit = plan_of({"treename": "T", "expressions": "sum(x)", "use_standard_awkward_axis": False})
    assert event_wise.canonical() != standard.canonical()
    assert event_wise.canonical() == explicit.canonical()
