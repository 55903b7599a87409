"""Plans meet schemas: names, types, the columns that are needed, and did-you-mean."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import qastle

from servicex_server.errors import QueryError, QuerySyntaxError, QueryTypeError, UnknownName, UnsupportedQuery
from servicex_server.plan.bind import bind
from servicex_server.plan.ir import in_order
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput, BoundPlan, columns_in
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.plan.types import Bool, List, Number, Option, Record, String, Type, Unknown

F4, I4, I8, F8 = Number("float32"), Number("int32"), Number("int64"), Number("float64")
COLUMNS: dict[str, Type] = {
    "odd": Unknown("TRef"),
    "MET_pt": F4,
    "nMuon": I4,
    "trigger": Bool(),
    "Muon_pt": List(F4),
    "Muon_charge": List(I4),
    "Electron_pt": List(F4),
    "matrix": List(F4, 3),
    "label": String(),
    "trk.pt": List(F4),
    "jets": Record((("pt", F4),)),
    "Aux./Aux.energy": List(F4),
}
EVENTS = MemoryTree("Events", COLUMNS, 10, {"Muon_pt": "float[]", "MET_pt": "float"})
FILE = MemoryFile(
    (EVENTS, MemoryTree("Runs", {"run": I4})), {"h_pt;1": "TH1D", "h_pt;2": "TH1D", "d/h_eta;1": "TH1F"}
)


def bind_func_adl(query: str, file: MemoryFile = FILE) -> BoundOutput:
    text = qastle.python_source_to_text_ast(f"EventDataset('f.root', 'Events'){query}")
    (output,) = bind(parse("uproot", text), file).outputs
    return output


def bind_raw(*entries: dict[str, Any]) -> BoundPlan:
    return bind(parse("uproot-raw", json.dumps([{"treename": "Events", **entry} for entry in entries])), FILE)


def raw(**entry: Any) -> BoundOutput:
    (output,) = bind_raw(entry).outputs
    return output


@pytest.mark.parametrize(
    ("query", "schema"),
    [
        (".Select(lambda e: e.MET_pt)", {"": F4}),
        (".Select(lambda e: {'a': e.MET_pt, 'b': e.Muon_pt})", {"a": F4, "b": List(F4)}),
        (".Select(lambda e: {'b': e.Muon_pt})", {"": List(Record((("b", F4),)))}),
        (".Select(lambda e: (e.MET_pt, e.Muon_pt))", {"0": F4, "1": List(F4)}),
        (".Select(lambda e: e.Muon_pt.Count())", {"": I8}),
        (".Select(lambda e: e.Muon_charge.Sum())", {"": I8}),
        (".Select(lambda e: e.Muon_pt.Max())", {"": Option(F4)}),
        (".Select(lambda e: e.nMuon / 2)", {"": F8}),
        (".Select(lambda e: e.MET_pt * 2.5)", {"": F4}),
        (".Select(lambda e: e.Muon_pt.Where(lambda pt: pt > 10))", {"": List(F4)}),
        (".Select(lambda e: e.matrix)", {"": List(F4, 3)}),
        (".Select(lambda e: e.matrix.Where(lambda x: x > 0))", {"": List(F4)}),
        (".Select(lambda e: e.trk.pt)", {"": List(F4)}),
        (".Select(lambda e: e.jets.pt)", {"": F4}),
        (".Select(lambda e: e['Aux.energy'])", {"": List(F4)}),
        (".Select(lambda e: e['Aux./Aux.energy'])", {"": List(F4)}),
        (".Select(lambda e: e.label == 'x')", {"": Bool()}),
        (".Select(lambda e: e[0])", {"": F4}),
        (".Count()", {"": I8}),
        (".Select(lambda e: e.odd)", {"": Unknown("TRef")}),
    ],
)
def test_knows_the_columns_of_the_result(query: str, schema: dict[str, Type]) -> None:
    assert bind_func_adl(query).schema == schema


@pytest.mark.parametrize(
    ("query", "columns", "selecting", "is_chunkable"),
    [
        (".Select(lambda e: e.MET_pt)", {"MET_pt"}, set(), True),
        (".Where(lambda e: e.nMuon > 1).Select(lambda e: e.MET_pt)", {"MET_pt", "nMuon"}, {"nMuon"}, True),
        (".Where(lambda e: e.Muon_pt.Count() > 1).Select(lambda e: e.Muon_pt)",
         {"Muon_pt"}, {"Muon_pt"}, True),
        (".Select(lambda e: e.Muon_pt.Where(lambda m: m > e.MET_pt))", {"Muon_pt", "MET_pt"}, set(), True),
        (".Select(lambda e: {'a': e.MET_pt, 'b': e.Muon_pt}).Select(lambda r: r.a)", {"MET_pt"}, set(), True),
        (".Select(lambda e: {'a': e.MET_pt, 'b': e.Muon_pt}).Where(lambda r: r.a > 1).Select(lambda r: r.b)",
         {"MET_pt", "Muon_pt"}, {"MET_pt"}, True),
        ((".Select(lambda e: Zip({'p': e.Muon_pt, 'q': e.Muon_charge}).Where(lambda m: m.p > 1)"
         ".Select(lambda m: m.p))"), {"Muon_pt"}, set(), True),
        (".SelectMany(lambda e: e.Muon_pt)", {"Muon_pt"}, set(), True),
        (".Select(lambda e: 1)", {"MET_pt"}, set(), True),
        (".Select(lambda e: e.MET_pt).Sum()", {"MET_pt"}, set(), False),
        (".OrderBy(lambda e: e.MET_pt).Select(lambda e: e.nMuon)", {"MET_pt", "nMuon"}, set(), False),
        (".Select(lambda e: e.nMuon).First()", {"nMuon"}, set(), False),
    ],
)  # fmt: skip
def test_knows_what_to_read(query: str, columns: set[str], selecting: set[str], is_chunkable: bool) -> None:
    output = bind_func_adl(query)
    assert set(output.columns) == columns
    assert set(columns_in(in_order(*output.row_conditions))) == selecting
    assert output.is_chunkable == is_chunkable


def test_whole_rows_are_all_columns_that_can_be_read() -> None:
    assert set(bind_func_adl(".Where(lambda e: e.MET_pt > 1)").schema) == set(COLUMNS) - {"odd"}


def test_only_needed_columns_are_inspected() -> None:
    looked_at: list[str] = []

    class Watched(MemoryTree):
        def type_of(self, name: str) -> Type:
            looked_at.append(name)
            return MemoryTree.type_of(self, name)

    file = MemoryFile((Watched("Events", COLUMNS),))
    bind_func_adl(".Where(lambda e: e.nMuon > 1).Select(lambda e: e.MET_pt)", file)
    assert set(looked_at) == {"nMuon", "MET_pt"}


@pytest.mark.parametrize(
    ("query", "name", "nearest"),
    [
        (".Select(lambda e: e.Muon_ptt)", "Muon_ptt", "Muon_pt"),
        (".Select(lambda e: e.muon_PT)", "muon_PT", "Muon_pt"),
        (".Select(lambda e: e.trk.ptt)", "trk.ptt", "trk.pt"),
        (".Where(lambda e: e.triger).Select(lambda e: e.MET_pt)", "triger", "trigger"),
        (".Select(lambda e: e.__class__)", "__class__", None),
    ],
)
def test_unknown_branches_are_answered_with_near_ones(query: str, name: str, nearest: str | None) -> None:
    with pytest.raises(UnknownName) as caught:
        bind_func_adl(query)
    assert f"no branch '{name}' in tree 'Events'" in caught.value.message
    assert caught.value.name == name
    assert caught.value.nearest[:1] == (() if nearest is None else (nearest,))


def test_a_short_name_has_near_ones_too() -> None:
    file = MemoryFile((MemoryTree("Events", {"run": I4, "LHE_HT": F4}),))
    with pytest.raises(UnknownName, match=r"no branch 'HTT' in tree 'Events'; nearest: LHE_HT"):
        bind_func_adl(".Select(lambda e: e.HTT)", file)
    with pytest.raises(UnknownName, match=r"no branch 'zzz' in tree 'Events'; none of its 2 is like it"):
        bind_func_adl(".Select(lambda e: e.zzz)", file)


def test_unknown_trees_are_answered_with_those_that_exist() -> None:
    with pytest.raises(UnknownName, match="no tree 'Event' in the file; its trees: Events"):
        bind(parse("uproot", "(call EventDataset 'f' 'Event')"), FILE)


def test_without_a_name_the_first_tree_is_read() -> None:
    (output,) = bind(
        parse("uproot", "(Select (call EventDataset) (lambda (list e) (attr e 'MET_pt')))"), FILE
    ).outputs
    assert (output.tree, output.output_tree, output.treename_column) == ("Events", "servicex", None)


def test_a_file_without_trees() -> None:
    with pytest.raises(UnknownName, match="no tree"):
        bind(parse("uproot", "(call EventDataset)"), MemoryFile())


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (".Where(lambda e: e.label > 1)", "text cannot be combined with the constant 1"),
        (".Select(lambda e: e.label + 'x')", "text can only be compared"),
        (".Select(lambda e: e.MET_pt.Sum())", "Sum (at character"),
        (".Select(lambda e: e.MET_pt.Count())", "needs a collection"),
        (".Select(lambda e: e.MET_pt.First())", "First (at character"),
        (".Where(lambda e: e.MET_pt)", "not true or false"),
        (".Where(lambda e: e.Muon_pt > 1).Select(lambda e: e.MET_pt)", "reduced to one answer"),
        (".Select(lambda e: e.odd + 1)", "TRef, which cannot be computed with"),
        (".Select(lambda e: ~e.MET_pt)", "'~' (at character"),
        (".Select(lambda e: e.Muon_pt[0])", "ElementAt()"),
        (".Select(lambda e: {'a': e.MET_pt}).Select(lambda r: r.b)", "no field 'b'; the fields are a"),
        (".Select(lambda e: e.MET_pt if e.label else 1)", "'if'"),
        (".Select(lambda e: (e.MET_pt, 1)).Select(lambda t: t[2])", "there is no field 2"),
        (".Select(lambda e: e.Muon_pt.Concat(e.label))", "Concat"),
        (".Select(lambda e: EventDataset('f.root', 'Events').Where(lambda f: f.MET_pt > e.MET_pt))", "loop"),
    ],
)
def test_operations_that_do_not_fit_name_the_construct(query: str, problem: str) -> None:
    with pytest.raises(QueryTypeError) as caught:
        bind_func_adl(query)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


def test_column_names_of_old_wrappers_are_kept() -> None:
    body = "(Select (call EventDataset) (lambda (list e) (list (attr e 'MET_pt') (attr e 'Muon_pt'))))"
    (output,) = bind(
        parse("uproot", f"(call ResultTTree {body} (list 'met' 'pt') 'tree' 'file.root')"), FILE
    ).outputs
    assert output.schema == {"met": F4, "pt": List(F4)}
    (output,) = bind(
        parse("uproot", f"(call ResultParquet {body.replace('(list (attr', '(+ (attr')} 'x' 'f')"), FILE
    ).outputs
    assert output.schema == {"x": List(F4)}
    with pytest.raises(QueryTypeError, match="2 columns, but 1 names"):
        bind(parse("uproot", f"(call ResultTTree {body} 'met' 'tree' 'file.root')"), FILE)


# -- uproot-raw ----------------------------------------------------------------------------------------------


def test_output_trees_and_the_column_that_names_them() -> None:
    plan = bind_raw(
        {"expressions": "MET_pt", "treename": {"Events": "out"}}, {"expressions": "run", "treename": "Runs"}
    )
    assert [(output.tree, output.output_tree) for output in plan.outputs] == [
        ("Events", "out"),
        ("Runs", "Runs"),
    ]
    assert {output.treename_column for output in plan.outputs} == {"treename"}


def test_missing_trees_are_skipped_unless_they_must_exist() -> None:
    plan = bind_raw({"treename": ["Gone", "Runs"]})
    assert [output.tree for output in plan.outputs] == ["Runs"]
    assert plan.missing_trees == ("Gone",)
    assert bind_raw({"treename": "Gone"}).outputs == ()
    with pytest.raises(UnknownName, match=r"no tree 'Run'.*Runs"):
        bind_raw({"treename": "Run", "fail_on_missing_trees": True})


def test_sub_queries_of_one_output_tree_all_stay() -> None:
    plan = bind_raw(
        {"treename": {"Events": "o"}, "expressions": "MET_pt"},
        {"treename": {"Events": "o"}, "expressions": "nMuon"},
    )
    assert [output.output_tree for output in plan.outputs] == ["o", "o"]


def test_copied_objects_are_the_latest_cycles_that_match() -> None:
    def copied(*patterns: str) -> Sequence[str]:
        return bind(
            parse("uproot-raw", json.dumps([{"copy_histograms": list(patterns)}])), FILE
        ).copied_objects

    assert copied("h_*") == ("h_pt;2",)
    assert set(copied("*h_*")) == {"h_pt;2", "d/h_eta;1"}
    assert copied("/d.*eta/") == ("d/h_eta;1",)
    assert copied("none") == ()


@pytest.mark.parametrize(
    ("entry", "schema"),
    [
        ({"expressions": ["MET_pt", "Muon_pt"]}, {"MET_pt": F4, "Muon_pt": List(F4)}),
        ({"expressions": "trk.pt"}, {"trk.pt": List(F4)}),
        ({"expressions": ["jets.pt", "get('trk.pt')*2"]}, {"jets.pt": F4, "get('trk.pt')*2": List(F4)}),
        (
            {"expressions": ["Aux.energy", "Aux./Aux.energy"]},
            {"Aux.energy": List(F4), "Aux./Aux.energy": List(F4)},
        ),
        ({"filter_name": "Muon_*"}, {"Muon_pt": List(F4), "Muon_charge": List(I4)}),
        ({"filter_name": "Aux*"}, {"Aux.energy": List(F4)}),
        ({"filter_typename": ["float", "/float\\[\\]/"]}, {"MET_pt": F4, "Muon_pt": List(F4)}),
        ({"filter_name": "none"}, {}),
        (
            {"expressions": ["sum(Muon_pt)", "any(Muon_pt > 5)"]},
            {"sum(Muon_pt)": F4, "any(Muon_pt > 5)": Bool()},
        ),
        ({"expressions": "a", "aliases": {"a": "b*2", "b": "MET_pt"}}, {"a": F4}),
        ({"expressions": "MET_pt", "aliases": {"MET_pt": "Muon_pt"}}, {"MET_pt": F4}),
    ],
)
def test_knows_the_columns_of_a_sub_query(entry: dict[str, Any], schema: dict[str, Type]) -> None:
    assert raw(**entry).schema == schema


def test_the_cut_decides_the_selection() -> None:
    output = raw(expressions="MET_pt", cut="(nMuon > 1) & any(Muon_pt > 5)")
    assert set(columns_in(in_order(*output.row_conditions))) == {"nMuon", "Muon_pt"}
    assert set(output.columns) == {"nMuon", "Muon_pt", "MET_pt"}


@pytest.mark.parametrize(
    ("entry", "kind", "problem"),
    [
        ({"expressions": "Muon_ptt"}, UnknownName, "nearest: Muon_pt"),
        ({"expressions": "Muon_ptt + 1"}, UnknownName, "nearest: Muon_pt"),
        ({"expressions": "MET_pt", "cut": "Muon_ptt > 1"}, UnknownName, "nearest: Muon_pt"),
        ({"expressions": "twicee", "aliases": {"twice": "MET_pt*2"}}, UnknownName, "nearest: twice"),
        ({"expressions": "Muon_pt#1"}, QuerySyntaxError, "not a branch"),
        (
            {"expressions": "a", "aliases": {"a": "b", "b": "c+1", "c": "a"}},
            UnsupportedQuery,
            "a -> b -> c -> a",
        ),
        ({"expressions": "a", "aliases": {"a": "a"}}, UnsupportedQuery, "a -> a"),
        (
            {"expressions": "a0", "aliases": {f"a{i}": f"a{i + 1}" for i in range(200)}},
            UnsupportedQuery,
            "50 steps",
        ),
        ({"expressions": "label + 1"}, QueryTypeError, "text cannot be combined"),
        (
            {"expressions": "MET_pt", "cut": "Muon_pt > 1"},
            QueryTypeError,
            "the cut 'Muon_pt > 1' on 'MET_pt'",
        ),
        ({"expressions": "MET_pt", "cut": "label"}, QueryTypeError, "the cut 'label'"),
        ({"expressions": "sum(MET_pt)"}, QueryTypeError, "no axis 1"),
        ({"expressions": "sum(Muon_pt, axis=None)"}, QueryTypeError, "one value for the whole file"),
        ({"expressions": "1"}, QueryTypeError, "one value for the whole file"),
        ({"expressions": "odd + 1"}, QueryTypeError, "cannot be computed with"),
        ({"expressions": "concatenate([MET_pt, Muon_pt])"}, QueryTypeError, "concatenate"),
        ({"expressions": "Muon_pt[:, 0, 0]"}, QueryTypeError, "needs a collection"),
        ({"expressions": "Muon_pt[MET_pt]"}, QueryTypeError, "whole numbers"),
        ({"expressions": "Muon_pt[1.5]"}, QueryTypeError, "whole numbers"),
        ({"expressions": "jets.eta"}, QueryTypeError, "no field 'eta'; the fields are pt"),
    ],
)
def test_what_does_not_fit_is_explained(entry: dict[str, Any], kind: type[QueryError], problem: str) -> None:
    with pytest.raises(kind) as caught:
        raw(**entry)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message


def test_functions_over_the_whole_file_cannot_be_chunked() -> None:
    assert not raw(expressions="MET_pt - max(MET_pt, axis=None)").is_chunkable
    assert not raw(expressions="argsort(MET_pt)").is_chunkable
    assert raw(expressions="Muon_pt / sum(Muon_pt, keepdims=True)").is_chunkable
    assert raw(expressions="is_none(firsts(Muon_pt))").is_chunkable


def test_filters_have_no_effect_beside_expressions() -> None:
    assert raw(expressions="MET_pt", filter_name="Muon_*").schema == {"MET_pt": F4}


def test_binding_loads_awkward_for_vectors_only() -> None:
    script = (
        "import sys; from servicex_server.plan.bind import bind; "
        "from servicex_server.plan.parse import parse; "
        "from servicex_server.plan.schema import MemoryFile, MemoryTree; "
        "from servicex_server.plan.types import Number; "
        "file = MemoryFile((MemoryTree('t', {'px': Number('float32'), 'py': Number('float32')}),)); "
        "query = '(Select (call EventDataset) (lambda (list e) {}))'; "
        "bind(parse('uproot', query.format(\"(attr e 'px')\")), file); print('awkward' in sys.modules); "
        "call = \"(attr (call (attr e 'ToFourMomentum')) 'pt')\"; "
        "bind(parse('uproot', query.format(call)), file); print('awkward' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "True"]


def test_a_property_of_vectors_reads_the_coordinates_that_it_needs() -> None:
    types = dict.fromkeys(("pt", "eta", "phi", "mass", "charge"), List(F4))
    text = qastle.python_source_to_text_ast(
        "EventDataset('f', 't').Select(lambda e: Zip({'pt': e.pt, 'eta': e.eta, 'phi': e.phi, "
        "'mass': e.mass, 'charge': e.charge}).ToFourMomenta()).Select(lambda m: "
        "m.Where(lambda v: v.charge > 0).Select(lambda v: v.py))"
    )
    (output,) = bind(parse("uproot", text), MemoryFile((MemoryTree("t", types),))).outputs
    assert set(output.columns) == {"pt", "phi", "charge"}
    assert output.schema == {"": List(F4)}


def test_and_and_or_of_another_language_are_explained() -> None:
    with pytest.raises(QuerySyntaxError, match=r"AND and OR are & and \|"):
        raw(expressions="MET_pt", cut="nMuon > 1 && MET_pt > 20")
    with pytest.raises(UnsupportedQuery, match="bind more tightly than comparisons"):
        raw(expressions="MET_pt", cut="nMuon > 1 & MET_pt > 20")
