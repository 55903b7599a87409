"""uproot-raw queries: the same values and types as uproot's `arrays()` with the generator's functions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import awkward as ak
import pytest
import uproot
from uproot.language.python import PythonLanguage

from servicex_server.plan.bind import bind
from servicex_server.plan.function import FUNCTIONS, LANGUAGE_FUNCTIONS
from servicex_server.plan.parse import parse
from servicex_server.plan.schema import MemoryFile, MemoryTree
from servicex_server.run.filter import evaluate, from_awkward
from uproot_raw_oracle import language

BRANCHES = (
    "run", "event", "MET_pt", "MET_phi", "HLT_IsoMu24", "PV_npvs", "Muon_pt", "Muon_eta", "Muon_phi",
    "Muon_charge", "Muon_tightId", "Electron_pt", "Electron_eta", "Jet_pt", "Jet_eta", "Jet_jetId",
)  # fmt: skip

SUB_QUERIES: list[dict[str, Any]] = [
    {},
    {"expressions": ["MET_pt", "Muon_pt"]},
    {"expressions": "MET_pt"},
    {"expressions": ["MET_pt*2", "Muon_pt/1000", "-Muon_charge", "~Muon_tightId", "PV_npvs//2", "PV_npvs%3"]},
    {"expressions": ["Muon_pt**2", "1/MET_pt", "2**PV_npvs", "event<<1", "event & 15"]},
    {"expressions": ["sqrt(Muon_pt)", "abs(Muon_eta)", "arctan2(Muon_pt, MET_pt)", "log10(MET_pt)"]},
    {"expressions": ["round(Muon_pt)", "real(Muon_pt)", "conj(Muon_pt)", "rint(MET_pt)", "fabs(MET_phi)"]},
    {"expressions": ["exp(-MET_pt)", "hypot(Muon_pt, Muon_eta)", "logical_and(HLT_IsoMu24, True)"]},
    {"expressions": ["isnan(Muon_pt)", "signbit(Muon_eta)", "neg(MET_pt)", "copysign(MET_pt, MET_phi)"]},
    {"expressions": ["MET_pt"], "cut": "MET_pt > 20"},
    {"expressions": ["MET_pt", "Muon_pt"], "cut": "(MET_pt > 20) & HLT_IsoMu24"},
    {"expressions": ["MET_pt", "Muon_pt"], "cut": "PV_npvs"},
    {"expressions": ["Muon_pt", "Muon_eta"], "cut": "Muon_pt > 15"},
    {"expressions": ["Muon_pt", "MET_pt"], "cut": "any(Muon_pt > 20)"},
    {"expressions": ["Muon_pt", "MET_pt"], "cut": "num(Muon_pt) >= 2"},
    {"expressions": ["Muon_pt"], "cut": "MET_pt > 1e9"},
    {"filter_name": "Muon_*"},
    {"filter_name": ["/muon_(pt|eta)/i", "MET_pt"]},
    {"filter_name": "/.*_p(t|hi)$/", "filter_typename": "float[]"},
    {"filter_typename": "bool"},
    {"expressions": ["gev", "twice"], "aliases": {"gev": "Muon_pt/1000", "twice": "2*gev"}},
    {"expressions": ["good"], "aliases": {"good": "Muon_pt[Muon_pt > cutoff]", "cutoff": "MET_pt/2"}},
    {"expressions": ["get('Muon_pt') + 1"]},
    {"expressions": ["Muon_pt[:, :1]", "Muon_pt[Muon_pt > 10]", "Muon_pt[..., ::-1]", "MET_pt[MET_pt > 0]"]},
    {"expressions": ["sum(Muon_pt)", "sum(Muon_charge)", "prod(Muon_charge)", "max(Muon_pt)"]},
    {"expressions": ["count(Muon_pt)", "sum(Muon_tightId)"]},
    {"expressions": ["min(Muon_pt)", "argmin(Muon_pt)", "argmax(Muon_pt)", "any(Muon_tightId)"]},
    {"expressions": ["all(Muon_tightId)", "all(Muon_pt > 20)"]},
    {"expressions": ["mean(Muon_pt)", "var(Muon_pt)", "std(Muon_pt)", "moment(Muon_pt, 2)"]},
    {"expressions": ["softmax(Muon_eta)", "softmax(Muon_charge)"]},
    {"expressions": ["nansum(Muon_pt)", "nanmax(Muon_pt)", "nanmean(Muon_pt)", "count_nonzero(Muon_charge)"]},
    {"expressions": ["mean(Muon_eta, weight=Muon_pt)", "max(Muon_pt, mask_identity=False, initial=0)"]},
    {"expressions": ["sum(Muon_pt, keepdims=True)", "sum(Muon_pt, axis=-1)", "max(Muon_pt, -1)"]},
    {"expressions": ["where(Muon_pt > 20, Muon_pt, 0)", "where(MET_pt > 20, MET_pt, MET_phi)"]},
    {"expressions": ["num(Muon_pt)", "sort(Muon_pt)", "argsort(Muon_pt, ascending=False)"]},
    {"expressions": ["mask(Muon_pt, Muon_pt > 20)", "is_none(firsts(Muon_pt))", "firsts(Muon_pt)"]},
    {"expressions": ["fill_none(firsts(Muon_pt), -1)", "pad_none(Muon_pt, 2)"]},
    {"expressions": ["pad_none(Muon_pt, 2, clip=True)", "fill_none(Muon_pt, 0)"]},
    {"expressions": ["fill_none(pad_none(Muon_pt, 2), 0.0)", "drop_none(pad_none(Muon_pt, 2))"]},
    {"expressions": ["singletons(firsts(Muon_pt))", "singletons(MET_pt)"]},
    {"expressions": ["concatenate([Muon_pt, Electron_pt])", "concatenate((Muon_charge, Jet_jetId))"]},
    {"expressions": ["cartesian([Muon_pt, Electron_pt])", "cartesian({'m': Muon_pt, 'e': Electron_pt})"]},
    {"expressions": ["cartesian([Muon_pt, Jet_pt], nested=True)", "argcartesian([Muon_pt, Jet_pt])"]},
    {"expressions": ["combinations(Jet_pt, 2)", "argcombinations(Jet_pt, 2, fields=['a', 'b'])"]},
    {"expressions": ["combinations(Jet_pt, 2, fields=['a', 'b'])['a']", "combinations(Jet_pt, 2)['0']"]},
    {"expressions": ["broadcast_arrays(MET_pt, Muon_pt)[0]", "isclose(Muon_pt, Muon_eta)"]},
    {"expressions": ["flatten(cartesian([Muon_pt, Electron_pt], nested=True))"]},
    {"expressions": ["flatten(Muon_pt)"], "use_standard_awkward_axis": True},
    {"expressions": ["Muon_pt/sum(Muon_pt, axis=-1)"], "use_standard_awkward_axis": True},
    {"expressions": ["MET_pt - max(MET_pt)"], "use_standard_awkward_axis": True},
    {"expressions": ["erf(MET_phi)", "erfc(MET_phi)", "gamma(MET_pt/50)"]},
    {"expressions": ["acos(Muon_eta/3)", "acosh(Muon_pt)", "asin(Muon_eta/3)", "asinh(Muon_eta)"]},
    {"expressions": ["atan(Muon_eta)", "atan2(Muon_eta, Muon_phi)", "atanh(Muon_eta/3)", "cbrt(Muon_eta)"]},
    {"expressions": ["ceil(Muon_eta)", "cos(Muon_phi)", "cosh(Muon_eta)", "exp2(Muon_eta)"]},
    {"expressions": ["expm1(Muon_eta)", "fmax(Muon_eta, 1)", "fmin(MET_pt, Muon_pt)", "imag(Muon_pt)"]},
    {"expressions": ["isinf(Muon_pt)", "log(Muon_pt)", "log1p(Muon_pt)", "log2(Muon_pt)"]},
    {"expressions": ["conjugate(Muon_pt)", "absolute(Muon_eta)", "floor(Muon_eta)", "isfinite(Muon_pt)"]},
    {"expressions": ["logical_or(HLT_IsoMu24, MET_pt > 20)", "nextafter(Muon_pt, 0)", "sin(Muon_phi)"]},
    {"expressions": ["sinh(Muon_eta)", "tan(Muon_phi)", "tanh(Muon_eta)", "trunc(Muon_eta)"]},
    {"expressions": ["arccos(Muon_eta/3)", "arccosh(Muon_pt)", "arcsin(Muon_eta/3)", "arcsinh(Muon_eta)"]},
    {"expressions": ["arctan(Muon_eta)", "arctanh(Muon_eta/3)"]},
    {"expressions": ["nanargmax(Muon_pt)", "nanargmin(Muon_pt)", "nanmin(Muon_pt)", "nanprod(Muon_pt)"]},
    {"expressions": ["nanstd(Muon_pt)", "nanvar(Muon_pt)", "nanvar(Muon_pt, mask_identity=False)"]},
    {"expressions": ["broadcast_fields(combinations(Jet_pt, 2), combinations(Jet_eta, 2))[0]"]},
    {"expressions": ["MET_pt * almost_equal(Muon_pt, Muon_pt)"]},
    {"expressions": ["cartesian([Muon_pt, Jet_pt])[['1', '0']]", "MET_pt if False else MET_phi"]},
    {"expressions": ["lgamma(MET_pt)", "factorial(PV_npvs/8)", "tgamma(MET_pt/50)"]},
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(samples: Path) -> Any:
    return uproot.open(samples / "nano_dy.root")["Events"]


@pytest.fixture(scope="module")
def columns(tree: Any) -> dict[str, ak.Array]:
    arrays = tree.arrays(list(BRANCHES))
    return {name: arrays[name] for name in arrays.fields}


@pytest.fixture(scope="module")
def schema(tree: Any, columns: dict[str, ak.Array]) -> MemoryFile:
    types = {name: from_awkward(column.type.content) for name, column in columns.items()}
    typenames = {name: tree[name].typename for name in columns}
    return MemoryFile((MemoryTree("Events", types, typenames=typenames),))


@pytest.mark.parametrize("sub_query", SUB_QUERIES, ids=json.dumps)
def test_gives_what_uproot_gives(
    sub_query: dict[str, Any], tree: Any, columns: dict[str, ak.Array], schema: MemoryFile
) -> None:
    (output,) = bind(parse("uproot-raw", json.dumps([{"treename": "Events", **sub_query}])), schema).outputs
    result = evaluate(output, {name: columns[name] for name in output.columns})

    arguments = {key: value for key, value in sub_query.items() if key != "use_standard_awkward_axis"}
    lang = language(uses_event_axis=not sub_query.get("use_standard_awkward_axis"))
    branches = set(BRANCHES)
    expected = tree.arrays(language=lang, filter_branch=lambda branch: branch.name in branches, **arguments)

    assert set(result.fields) == set(expected.fields)
    for name in result.fields:
        assert str(result[name].type) == str(expected[name].type)
        rtol = 1e-5 if any(word in name for word in ("erf", "gamma", "factorial")) else 0.0
        if "factorial" in name:
            rtol = 1e-3  # uproot's gamma function is an approximation
        same = ak.almost_equal(result[name], expected[name], rtol=rtol, atol=rtol, check_parameters=False)
        assert same or ak.array_equal(result[name], expected[name], equal_nan=True)
    assert {name: from_awkward(result[name].type.content) for name in result.fields} == dict(output.schema)


def test_every_function_is_compared() -> None:
    called = {name for sub_query in SUB_QUERIES for name in re.findall(r"(\w+)\(", repr(sub_query))}
    assert {*FUNCTIONS, *LANGUAGE_FUNCTIONS} <= called


def test_knows_every_function_of_uproots_language() -> None:
    assert set(PythonLanguage.default_functions) <= {*LANGUAGE_FUNCTIONS, *FUNCTIONS}
