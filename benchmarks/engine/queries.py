"""The queries, each in the languages of those who answer it.

Q1 takes ten columns; Q2 the same of events with two muons, of which the first has more than 25 GeV; Q3 six
columns of central jets above 30 GeV; Q4 the mass of exactly two muons of opposite charge; Q5 sixty columns.
What coffea and ROOT do for them is in `methods`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import qastle

Q1_COLUMNS = (
    "run", "event", "MET_pt", "MET_phi", "nMuon", "Muon_pt", "Muon_eta", "Muon_phi", "Jet_pt", "Jet_eta",
)  # fmt: skip
Q3_COLUMNS = ("Jet_pt", "Jet_eta", "Jet_phi", "Jet_mass", "Jet_btagDeepFlavB", "Jet_jetId")
Q4_COLUMNS = ("Muon_pt", "Muon_eta", "Muon_phi", "Muon_charge")


def _fields(collection: str, names: str) -> tuple[str, ...]:
    return tuple(f"{collection}_{name}" for name in names.split())


Q5_COLUMNS = (
    "run", "luminosityBlock", "event", "genWeight", "PV_z", "PV_npvs", "fixedGridRhoFastjetAll", "puWeight",
    *_fields("MET", "pt phi sumEt significance"),
    *_fields("HLT", "IsoMu24 IsoMu27 Mu50 Ele27_WPTight_Gsf Ele32_WPTight_Gsf PFHT1050"),
    *_fields("Muon", "pt eta phi mass pfRelIso04_all pfRelIso03_all dxy dz sip3d charge pdgId tightId"),
    *_fields("Electron", "pt eta phi mass pfRelIso03_all dxy dz charge cutBased mvaFall17V2Iso_WP90"),
    *_fields("Jet", "pt eta phi mass btagDeepFlavB chHEF neHEF area jetId puId hadronFlavour"),
    *_fields("GenPart", "pt eta phi mass pdgId"),
    *_fields("FatJet", "pt eta phi msoftdrop"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Query:
    """One question.

    Attributes:
        columns: names in the result.
        python: the func_adl query after its data set, in Python.
        touched: branches whose baskets an answer cannot do without.
        raw: the same as a sub-query of uproot-raw, but for the name of the tree.
    """

    name: str
    columns: tuple[str, ...]
    python: str
    touched: tuple[str, ...]
    raw: dict[str, object] = field(default_factory=dict)

    def func_adl(self, tree: str) -> str:
        """The text that a client sends."""
        text: str = qastle.python_source_to_text_ast(f"EventDataset('bench', {tree!r}){self.python}")
        return text

    def uproot_raw(self, tree: str) -> str:
        """The text that a client of the other language sends."""
        return json.dumps([{"treename": tree, **self.raw}])


def _record(names: tuple[str, ...], owner: str) -> str:
    return "{" + ", ".join(f"{name!r}: {owner}.{name}" for name in names) + "}"


_CENTRAL = "(j.Jet_pt > 30) and (abs(j.Jet_eta) < 2.4)"
_MUONS = "Zip({'pt': e.Muon_pt, 'eta': e.Muon_eta, 'phi': e.Muon_phi, 'charge': e.Muon_charge})"
_MASS = (
    "np.sqrt(2 * m.First().pt * m.Last().pt * "
    "(np.cosh(m.First().eta - m.Last().eta) - np.cos(m.First().phi - m.Last().phi)))"
)
# Functions that take many columns to one: uproot-raw cannot ask for the first muon of events without any.
_RAW_MASS = "sqrt(2*prod(Muon_pt)*(cosh(max(Muon_eta) - min(Muon_eta)) - cos(max(Muon_phi) - min(Muon_phi))))"

QUERIES = (
    Query(
        "Q1",
        Q1_COLUMNS,
        f".Select(lambda e: {_record(Q1_COLUMNS, 'e')})",
        Q1_COLUMNS,
        {"expressions": list(Q1_COLUMNS)},
    ),
    Query(
        "Q2",
        Q1_COLUMNS,
        ".Where(lambda e: e.nMuon >= 2).Where(lambda e: e.Muon_pt.First() > 25)"
        f".Select(lambda e: {_record(Q1_COLUMNS, 'e')})",
        Q1_COLUMNS,
        {"expressions": list(Q1_COLUMNS), "cut": "(nMuon >= 2) & any(Muon_pt > 25)"},
    ),
    Query(
        "Q3",
        Q3_COLUMNS,
        f".Select(lambda e: Zip({_record(Q3_COLUMNS, 'e')}).Where(lambda j: {_CENTRAL}))"
        f".Select(lambda j: {_record(Q3_COLUMNS, 'j')})",
        Q3_COLUMNS,
        {"expressions": list(Q3_COLUMNS), "cut": "(Jet_pt > 30) & (abs(Jet_eta) < 2.4)"},
    ),
    Query(
        "Q4",
        ("mass",),
        f".Where(lambda e: e.nMuon == 2).Select(lambda e: {_MUONS})"
        f".Where(lambda m: m.First().charge != m.Last().charge).Select(lambda m: {{'mass': {_MASS}}})",
        ("nMuon", *Q4_COLUMNS),
        {
            "expressions": ["mass"],
            "aliases": {"mass": _RAW_MASS},
            "cut": "(nMuon == 2) & (sum(Muon_charge) == 0)",
        },
    ),
    Query(
        "Q5",
        Q5_COLUMNS,
        f".Select(lambda e: {_record(Q5_COLUMNS, 'e')})",
        Q5_COLUMNS,
        {"expressions": list(Q5_COLUMNS)},
    ),
)


def find_query(name: str) -> Query:
    """The query of that name."""
    return next(query for query in QUERIES if query.name == name)
