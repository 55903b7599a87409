"""func_adl texts to plans: what is accepted, what is refused and in which words."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
import qastle

from servicex_server.errors import (
    QueryError,
    QuerySyntaxError,
    QueryTypeError,
    UnknownCodegen,
    UnknownName,
    UnsupportedQuery,
)
from servicex_server.plan.parse import CODEGENS, parse
from servicex_server.plan.plan import ExpressionQuery


def text_of(python: str) -> str:
    text: str = qastle.python_source_to_text_ast(python)
    return text


def query_of(text: str, tree_name: str | None = None) -> ExpressionQuery:
    (query,) = parse("uproot", text, tree_name=tree_name).queries
    assert isinstance(query, ExpressionQuery)
    return query


def test_offers_the_two_generators_of_the_official_client() -> None:
    assert set(CODEGENS) == {"uproot", "uproot-raw", "tcut", "python"}


@pytest.mark.parametrize("codegen", ["atlasr21", "atlasr22", "atlasr25", "atlasxaod", "cms", "topcp"])
def test_other_generators_are_answered_with_what_they_need(codegen: str) -> None:
    with pytest.raises(UnknownCodegen, match=r"needs.*Available: uproot, uproot-raw"):
        parse(codegen, "anything")


def test_unknown_generators_are_named() -> None:
    with pytest.raises(UnknownCodegen, match=r"no code generator 'nope'.*uproot-raw"):
        parse("nope", "anything")


@pytest.mark.parametrize(
    ("text", "argument", "tree"),
    [
        ("(call EventDataset)", None, None),
        ("(call EventDataset)", "T", "T"),
        ("(call EventDataset 'f.root')", "T", "T"),
        ("(call EventDataset 'f.root' 'Events')", None, "Events"),
        ("(call EventDataset 'f.root' 'Events')", "T", "Events"),
        ("(call EventDataset (list 'f.root' 'g.root') None)", "T", "T"),
    ],
)
def test_tree_name_of_the_query_comes_before_that_of_the_request(
    text: str, argument: str | None, tree: str | None
) -> None:
    assert query_of(text, argument).tree == tree


@pytest.mark.parametrize(
    "text",
    [
        "(call Select (call EventDataset) (lambda (list e) (attr e 'x')))",
        "(call (attr (call EventDataset) 'Select') (lambda (list e) (attr e 'x')))",
        "(Select   (call EventDataset)\n(lambda (list row) (subscript row 'x')))",
        "(call MetaData (Select (call EventDataset) (lambda (list e) (attr e 'x'))) (dict (list) (list)))",
        "(call ResultParquet (call Select (call EventDataset) (lambda (list e) (attr e 'x'))) (list) 'f')",
    ],
)
def test_spellings_of_one_question_give_one_plan(text: str) -> None:
    reference = "(Select (call EventDataset) (lambda (list e) (attr e 'x')))"
    assert parse("uproot", text).canonical() == parse("uproot", reference).canonical()


@pytest.mark.parametrize(
    ("left", "right"),
    [("1", "1.0"), ("1", "True"), ("0.0", "-0.0"), ("(attr e 'x')", "(attr e 'y')"), ("'x'", '"y"')],
)
def test_different_questions_give_different_plans(left: str, right: str) -> None:
    plans = {
        parse("uproot", f"(Select (call EventDataset) (lambda (list e) {body}))").canonical()
        for body in (left, right)
    }
    assert len(plans) == 2


def test_canonical_text_is_the_same_in_another_process() -> None:
    text = text_of(
        "EventDataset('f', 'T').Where(lambda e: e.a > 1).Select(lambda e: {'a': e.a, 'b': e.b + e.a})"
    )
    script = (
        f"from servicex_server.plan.parse import parse; print(parse('uproot', {text!r}).canonical(), end='')"
    )
    other = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert other.stdout == parse("uproot", text).canonical()


def test_canonical_text_of_repeated_doubling_stays_small() -> None:
    body = "(call EventDataset)"
    for _ in range(60):
        body = f"(Select {body} (lambda (list x) (+ x x)))"
    assert len(query_of(body).canonical()) < 10_000


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("(call (attr (attr e 'x') 'ToFourMomentas'))", "nearest: ToFourMomenta"),
        ("(call (attr (attr e 'x') 'compute'))", "method 'compute' is not supported, because"),
        ("(call (attr (attr e 'x') 'mass'))", "because it is a property: write .mass"),
        ("(call (attr (attr e 'x') 'transform2D') (dict (list 'xx') (list 1)))", "keys xx, xy, yx, yy"),
        ("(call (attr 1 'ToFourMomenta'))", "makes vectors of a dict or of records"),
        ("(call (attr np 'float32') (attr e 'x'))", "np.float32 of an array"),
        ("(call max (attr e 'x') 1)", "Min() and Max() reduce collections"),
        ("(call sum (attr e 'x'))", "added by Sum()"),
        ("(call len (attr e 'x'))", "counted by Count()"),
        ("(call tuple (attr e 'x'))", "copies lists only"),
        ("(call dict (list (list 1 2)))", "pairs of a string and a value"),
        ("(subscript e (list 'x' 'x'))", "different names"),
        ("(call Select (attr e 'x') 'lambda y: y is None')", "'is' in a lambda is not supported"),
        ("(call Select (attr e 'x') 'lambda y: [z for z in y]')", "the syntax ListComp"),
        ("(call Select (attr e 'x') 'lambda y: f(y, k=1)')", "an argument given by name"),
        ("(call Select (attr e 'x') 'lambda y, *z: y')", "the syntax Lambda"),
        ("(call (attr e '__class__'))", "method '__class__'"),
        ("(call eval 'x')", "function 'eval'"),
        ("(call __import__ 'os')", "function '__import__'"),
        ("(call Aggregate (attr e 'x') 0 (lambda (list a b) (+ a b)))", "'Aggregate' is not supported"),
        ("(call Selekt (attr e 'x') (lambda (list a) a))", "did you mean Select"),
        ("(call (attr np 'load') 'x')", "np.load"),
        ("(call (attr np 'sqtr') (attr e 'x'))", "nearest: sqrt"),
        ("(call (attr (attr np 'random') 'rand') 1)", "method 'rand'"),
        ("(lambda (list x) x)", "functions are no values"),
        ("(Where (attr e 'x') 'lambda y: y')", "must be a lambda"),
        ("(call Zip (attr e 'x'))", "Zip needs a dict"),
        ("(call ElementAt (attr e 'x') (attr e 'y'))", "whole number"),
        ("(call Choose (attr e 'x') 0)", "at least 1"),
        ("(dict (list) (list))", "empty dict"),
        ("(dict (list 1) (list 2))", "keys of a dict must be different strings"),
        ("(call EventDataset 'f' 'other')", "two different trees"),
        ("np", "'np' is not a value"),
    ],
)
def test_unsupported_constructs_are_named_with_their_place(body: str, problem: str) -> None:
    with pytest.raises(UnsupportedQuery) as caught:
        parse("uproot", f"(Select (call EventDataset 'f' 'T') (lambda (list e) {body}))")
    assert problem in caught.value.message
    assert "at character" in caught.value.message


def test_names_that_no_lambda_defines() -> None:
    with pytest.raises(UnknownName, match="no lambda defines 'evt'; nearest: event") as caught:
        parse("uproot", "(Select (call EventDataset) (lambda (list event) (attr evt 'x')))")
    assert caught.value.nearest == ("event",)


@pytest.mark.parametrize(
    "body",
    ["(attr e)", "(attr e 1)", "(if 1 2)", "(subscript e)", "(+ 1 2 3)", "(not 1 2)", "(call)", "(dict 1 2)",
     "(dict (list 'a') (list))", "(call Count)", "(call Select e)", "(call Where e (lambda (list a b) a))",
     "(call Select e (lambda x x))", "(call Select e (lambda (list 1) x))", "(call abs 1 2)",
     "(call (lambda (list x) x))"],
)  # fmt: skip
def test_malformed_constructs_are_syntax_errors(body: str) -> None:
    with pytest.raises(QuerySyntaxError, match="at character"):
        parse("uproot", f"(Select (call EventDataset) (lambda (list e) {body}))")


@pytest.mark.parametrize(
    "text", ["EventDataset('f', 't').Select(lambda e: e.x)", "events.Select(lambda e: e.x)", "lambda e: e"]
)
def test_python_is_told_from_the_text_that_clients_make_of_it(text: str) -> None:
    with pytest.raises(QuerySyntaxError, match=r"at character .*; a func_adl query is sent as qastle text"):
        parse("uproot", text)


@pytest.mark.parametrize("text", ["1", "'x'", "(list 1 2)", "(+ 1 2)", "(dict (list 'a') (list 1))"])
def test_a_query_must_read_something(text: str) -> None:
    with pytest.raises(UnsupportedQuery, match="EventDataset"):
        parse("uproot", text)


@pytest.mark.parametrize(
    "body",
    ["(** 9 (** 9 9))", "(<< 1 100000)", "(** 10 30)", "(/ 1 0)", "(- 'a')", "99999999999999999999999"],
)
def test_arithmetic_of_constants_is_bounded(body: str) -> None:
    with pytest.raises(QueryTypeError):
        parse("uproot", f"(Select (call EventDataset) (lambda (list e) {body}))")


def test_constants_stay_constants() -> None:
    folded = "(Select (call EventDataset) (lambda (list e) (* (attr e 'x') 7.0)))"
    written = "(Select (call EventDataset) (lambda (list e) (* (attr e 'x') (+ (* 2 3.0) (if True 1 2)))))"
    assert parse("uproot", written).canonical() == parse("uproot", folded).canonical()


@pytest.mark.parametrize("operator", ["or", "and", "+"])
@pytest.mark.parametrize("is_left", [True, False])
def test_long_chains_are_accepted(operator: str, is_left: bool) -> None:
    body = "(attr e 'x0')"
    for i in range(1, 350):
        other = f"(attr e 'x{i}')"
        body = f"({operator} {body} {other})" if is_left else f"({operator} {other} {body})"
    parse("uproot", f"(Select (call EventDataset) (lambda (list e) {body}))")


@pytest.mark.parametrize(
    "wrap", ["(not {})", "(Select {} (lambda (list x) x))", "(list {})", "(Sum {})", "(- 1 (abs {}))"]
)
def test_deep_nesting_is_accepted_or_refused_but_never_fatal(wrap: str) -> None:
    body = "(call EventDataset)"
    for _ in range(399):
        body = wrap.format(body)
    with contextlib.suppress(QueryError):
        parse("uproot", body)


def test_a_query_that_grows_without_bound_is_refused() -> None:
    body = "(call EventDataset)"
    for i in range(300):
        added = " ".join(f"(+ x {i}.{j})" for j in range(40))
        body = f"(Select {body} (lambda (list x) (list {added})))"
    with pytest.raises(QueryError, match=r"too large|nested too deeply|nested more|more than"):
        parse("uproot", body)
