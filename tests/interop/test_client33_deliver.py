"""The official client 3.3.1 delivers: formats, ways of delivery, several samples, failures, its own cache."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import httpx
import pyarrow.parquet as pq
import pytest
import uproot

from sandbox_here import sandbox_here
from server_process import ServerProcess

__all__ = ["sandbox_here"]

FORMATS = ("parquet", "root-ttree", "root-rntuple")
# How results come, and for which samples: signing is the same for all, and the client is slow.
WAYS = {
    "LocalCache": ("CMS NanoAOD", "CMS NanoAOD RNTuple", "CMS PFNano", "ATLAS PHYSLITE"),
    "URLs": ("CMS NanoAOD", "ATLAS PHYSLITE"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One sample as the client is asked for it, and the same selection made with uproot and awkward."""

    file: str
    ask: Mapping[str, Any]
    select: Callable[[Path], ak.Array]


def _select_dy(path: Path) -> ak.Array:
    events = uproot.open(path)["Events"].arrays(["Muon_pt", "Muon_eta", "MET_pt", "nMuon"])
    return events[ak.any(events.Muon_pt > 15, axis=1)]


def _select_dimuon(path: Path) -> ak.Array:
    fields = ["Muon_pt", "Muon_charge", "event"]
    events = uproot.open(path)["Events"].arrays(fields)
    # uproot adds fields of its own to what an RNTuple holds.
    return events[fields][ak.num(events.Muon_pt) >= 2]


def _select_pfnano(path: Path) -> ak.Array:
    events = uproot.open(path)["Events"].arrays(["Jet_pt", "MET_pt", "nJet"])
    events = events[events.nJet >= 2]
    return ak.zip(
        {"pt": events.Jet_pt, "n_jets": ak.num(events.Jet_pt), "twice_met": events.MET_pt * 2},
        depth_limit=1,
    )


def _select_physlite(path: Path) -> ak.Array:
    tree = uproot.open(path)["CollectionTree"]
    pt = tree["AnalysisJetsAuxDyn.pt"].array()
    muons = tree["AnalysisMuonsAuxDyn.pt"].array()
    few = ak.num(muons) >= 1
    return ak.zip(
        {"jet_pt": pt[pt > 30000][few] / 1000, "muon_pt": muons[few], "ht": ak.sum(pt, axis=1)[few]},
        depth_limit=1,
    )


PHYSLITE_COLUMNS = (
    "lambda e: {'jet_pt': e['AnalysisJetsAuxDyn.pt'].Where(lambda pt: pt > 30000).Select(lambda j: j / 1000),"
    " 'muon_pt': e['AnalysisMuonsAuxDyn.pt'], 'ht': e['AnalysisJetsAuxDyn.pt'].Sum()}"
)
QUESTIONS: Mapping[str, Question] = {
    "CMS NanoAOD": Question(
        "nano_dy.root",
        {
            "kind": "uproot-raw",
            "query": [
                {
                    "treename": "Events",
                    "expressions": ["Muon_pt", "Muon_eta", "MET_pt", "nMuon"],
                    "cut": "any(Muon_pt > 15)",
                }
            ],
        },
        _select_dy,
    ),
    "CMS NanoAOD RNTuple": Question(
        "nano_dimuon_rntuple.root",
        {
            "kind": "uproot-raw",
            "query": [
                {
                    "treename": "Events",
                    "expressions": ["Muon_pt", "Muon_charge", "event"],
                    "cut": "num(Muon_pt) >= 2",
                }
            ],
        },
        _select_dimuon,
    ),
    "CMS PFNano": Question(
        "pfnano.root",
        {
            "kind": "func_adl",
            "tree": "Events",
            "query": [
                ("Where", "lambda e: e.nJet >= 2"),
                (
                    "Select",
                    "lambda e: {'pt': e.Jet_pt, 'n_jets': e.Jet_pt.Count(), 'twice_met': e.MET_pt * 2}",
                ),
            ],
        },
        _select_pfnano,
    ),
    "ATLAS PHYSLITE": Question(
        "PHYSLITE_example.root",
        {
            "kind": "func_adl",
            "tree": "CollectionTree",
            "query": [
                ("Where", "lambda e: e['AnalysisMuonsAuxDyn.pt'].Count() >= 1"),
                ("Select", PHYSLITE_COLUMNS),
            ],
        },
        _select_physlite,
    ),
}
TCUT = """{
    "tree_name": "Events",
    "selected_columns": "Muon_pt, MET_pt",
    "tcut_selection": "MET_pt > 10 && Sum$(Muon_pt > 15) >= 1"
}"""
PYTHON = """
    def run_query(file_path):
        import awkward as ak
        import uproot

        events = uproot.open(file_path)["Events"].arrays(["Muon_pt", "MET_pt"])
        return events[ak.any(events.Muon_pt > 15, axis=1) & (events.MET_pt > 10)]
"""
RAW = {"kind": "uproot-raw", "query": [{"treename": "Events", "expressions": ["event", "MET_pt"]}]}


def raw(**changes: object) -> dict[str, Any]:
    """One uproot-raw sample with a changed sub-query."""
    return {"kind": "uproot-raw", "query": [{"treename": "Events", "expressions": ["event"]} | changes]}


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good files and a broken one."""
    folder = tmp_path_factory.mktemp("inputs")
    for question in QUESTIONS.values():
        shutil.copy(samples / question.file, folder / question.file)
    for name in ("first.root", "third.root"):
        shutil.copy(samples / "nano_dimuon.root", folder / name)
    (folder / "second.root").write_bytes((folder / "first.root").read_bytes()[:20_000])
    return folder


@pytest.fixture(scope="module")
def server(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("server") / "data"
    # However busy the machine, a misspelt name is found before the submit is answered.
    environment = {"SERVICEX_PREFLIGHT_WAIT_S": "200"}
    with ServerProcess(data_dir, ("--local-root", str(inputs)), environment) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Delivered:
    """Everything that one run of the client brought, by name.

    Attributes:
        n_requests: how often the server was asked for the sample of the second, identical delivery.
    """

    answers: Mapping[str, Any]
    again: Any
    messages: str
    n_requests: int


@pytest.fixture(scope="module")
def delivered(inputs: Path, server: ServerProcess, start_client33: Any, tmp_path_factory: Any) -> Delivered:
    """One process of the client, all deliveries at once: each takes its 5 s, together not much more."""
    folder = str(inputs)
    everything = {
        name: {"name": name, "files": [f"{folder}/{question.file}"], **question.ask}
        for name, question in QUESTIONS.items()
    }
    stage = {
        f"{format_}/{way}": {
            "format": format_,
            "delivery": way,
            "samples": [everything[name] for name in names],
        }
        for format_ in FORMATS
        for way, names in WAYS.items()
    }
    three = [f"{folder}/{name}.root" for name in ("first", "second", "third")]
    others = {
        "partial": [{"name": "partial", "files": three, **RAW}],
        "misspelt": [
            {"name": "misspelt", "files": three[:1], **raw(expressions=["Muon_ptt"])},
            {"name": "good beside it", "files": three[:1], **RAW},
        ],
        "no tree": [
            {"name": "no tree", "files": three[:1], **raw(treename="Event", fail_on_missing_trees=True)}
        ],
        "empty": [{"name": "empty", "files": three[:1], **raw(cut="event < 0")}],
        "not offered": [{"name": "not offered", "files": three[:1], **RAW, "codegen": "atlasr22"}],
        "tcut": [{"name": "tcut", "files": three[:1], "kind": "text", "query": TCUT, "codegen": "tcut"}],
        "python": [{"name": "python", "files": three[:1], "kind": "python", "query": PYTHON}],
        "python error": [
            {
                "name": "python error",
                "files": three[:1],
                "kind": "python",
                "query": PYTHON.replace('"Events"', '"Event"'),
            }
        ],
        "outside": [{"name": "outside", "files": ["/etc/hostname"], **RAW}],
        "finder": [{"name": "finder", "did": "rucio://mc:dataset", **RAW}],
    }
    stage |= {
        name: {"format": "parquet", "delivery": "LocalCache", "samples": group}
        for name, group in others.items()
    }
    cache = str(tmp_path_factory.mktemp("again"))
    once = {
        "format": "parquet",
        "delivery": "LocalCache",
        "cache": cache,
        "samples": [everything["CMS NanoAOD"]],
    }
    stage["once"] = once
    ran = start_client33(server.client_config, [list(stage.values()), [dict(once)]]).wait()
    with server.client() as http:
        requests = http.get("/servicex/transformation").json()["requests"]
    n_requests = sum(entry["title"] == "CMS NanoAOD" for entry in requests)
    return Delivered(dict(zip(stage, ran.answer[0], strict=True)), ran.answer[1][0], ran.messages, n_requests)


@pytest.fixture(scope="module")
def expected(inputs: Path) -> Mapping[str, ak.Array]:
    """The selections, made without the server."""
    return {name: question.select(inputs / question.file) for name, question in QUESTIONS.items()}


def read(place: str, format_: str) -> ak.Array:
    """Read one result, a file or an URL, with what a physicist would use."""
    content = httpx.get(place).raise_for_status().content if "://" in place else Path(place).read_bytes()
    if format_ == "parquet":
        return ak.from_arrow(pq.read_table(io.BytesIO(content)))
    with uproot.open(io.BytesIO(content)) as file:
        wanted = "ROOT::RNTuple" if format_ == "root-rntuple" else "TTree"
        (name,) = {key.partition(";")[0] for key, kind in file.classnames().items() if kind == wanted}
        return file[name].arrays()


@pytest.mark.parametrize(("way", "name"), [(way, name) for way, names in WAYS.items() for name in names])
@pytest.mark.parametrize("format_", FORMATS)
def test_arrays_equal_the_same_selection_made_with_uproot(
    delivered: Delivered, expected: Mapping[str, ak.Array], format_: str, way: str, name: str
) -> None:
    answer = delivered.answers[f"{format_}/{way}"]
    assert name in answer["delivered"], answer
    (place,) = answer["delivered"][name]
    assert ("://" in place) == (way == "URLs")
    got = read(place, format_)
    want = expected[name]
    assert len(want) > 0
    for field in want.fields:
        assert ak.to_list(got[field]) == ak.to_list(want[field]), field
    if format_ == "parquet":
        # uproot-raw adds the name of the tree as a column.
        assert set(got.fields) - {"treename"} == set(want.fields)


def test_one_corrupt_file_leaves_the_good_ones(delivered: Delivered) -> None:
    answer = delivered.answers["partial"]
    places = answer["delivered"]["partial"]
    assert sorted(place.rpartition("_")[2] for place in places) == [
        "first.root.parquet",
        "third.root.parquet",
    ]
    assert all(len(ak.from_parquet(place)) == 40 for place in places)
    assert "1/3 files failed" in delivered.messages


def test_the_client_links_the_page_that_names_the_corrupt_file(
    delivered: Delivered, server: ServerProcess
) -> None:
    with server.client() as http:
        requests = http.get("/servicex/transformation").json()["requests"]
        (request_id,) = [entry["request_id"] for entry in requests if entry["title"] == "partial"]
        # The client writes two slashes.
        page = http.get(f"/transformation-request//{request_id}/results", params={"status": "failure"})
    assert f"/transformation-request//{request_id}/results?status=failure" in delivered.messages
    assert page.status_code == 200
    assert "second.root" in page.text
    assert "first.root" not in page.text


def test_a_misspelt_branch_is_answered_with_the_nearest_names(delivered: Delivered) -> None:
    answer = delivered.answers["misspelt"]
    text = answer["errors"]["misspelt"]
    assert "Invalid transform request" in text
    assert "Muon_ptt" in text
    assert "Muon_pt" in text.replace("Muon_ptt", "")
    assert len(answer["delivered"]["good beside it"]) == 1


def test_a_missing_tree_is_answered_with_those_that_exist(delivered: Delivered) -> None:
    assert "Events" in delivered.answers["no tree"]["errors"]["no tree"]


def test_no_row_passing_is_a_success_with_the_right_columns(delivered: Delivered) -> None:
    (place,) = delivered.answers["empty"]["delivered"]["empty"]
    got = ak.from_parquet(place)
    assert len(got) == 0
    assert "event" in got.fields


def test_a_code_generator_that_is_not_offered_is_named(delivered: Delivered) -> None:
    answer = delivered.answers["not offered"]
    assert "atlasr22" in (answer["errors"].get("not offered") or answer["raised"])


def select_muons(path: Path) -> list[object]:
    events = uproot.open(path)["Events"].arrays(["Muon_pt", "MET_pt"])
    good = events[ak.any(events.Muon_pt > 15, axis=1) & (events.MET_pt > 10)]
    assert 0 < len(good) < len(events)
    rows: list[object] = good.to_list()
    return rows


def test_a_tcut_selection_is_a_query_text(delivered: Delivered, inputs: Path) -> None:
    (place,) = delivered.answers["tcut"]["delivered"]["tcut"]
    assert ak.from_parquet(place).to_list() == select_muons(inputs / "first.root")


@pytest.mark.usefixtures("sandbox_here")
def test_a_python_function_runs(delivered: Delivered, inputs: Path) -> None:
    (place,) = delivered.answers["python"]["delivered"]["python"]
    assert ak.from_parquet(place).to_list() == select_muons(inputs / "first.root")


@pytest.mark.usefixtures("sandbox_here")
def test_a_python_function_that_fails_is_told_its_line(delivered: Delivered, server: ServerProcess) -> None:
    assert "1/1 files failed" in delivered.messages
    with server.client() as http:
        requests = http.get("/servicex/transformation").json()["requests"]
        (request_id,) = [entry["request_id"] for entry in requests if entry["title"] == "python error"]
        page = http.get(f"/transformation-request/{request_id}/results", params={"status": "failure"})
    assert "KeyInFileError" in page.text
    assert "line 6 of the code" in page.text


def test_a_file_outside_the_roots_is_refused(delivered: Delivered, inputs: Path) -> None:
    text = delivered.answers["outside"]["errors"]["outside"]
    assert "/etc/hostname" in text
    assert str(inputs) in text


def test_a_dataset_name_without_its_finder_ends_with_a_reason(delivered: Delivered) -> None:
    assert "rucio" in delivered.answers["finder"]["errors"]["finder"]


def test_a_second_identical_delivery_asks_the_server_nothing(delivered: Delivered) -> None:
    first = delivered.answers["once"]["delivered"]["CMS NanoAOD"]
    assert delivered.again["delivered"]["CMS NanoAOD"] == first
    # One request for each format and way, and the one that the cache answered later.
    assert delivered.n_requests == len(FORMATS) * len(WAYS) + 1
