"""The old line of the official client, 2.6.2, which func-adl-servicex 2.x needs."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import awkward as ak
import httpx
import pyarrow.parquet as pq
import pytest
import uproot

from server_process import ServerProcess

QASTLE = (
    "(call Select (call Where (call EventDataset 'bogus.root' 'Events')"
    " (lambda (list e) (>= (attr e 'nMuon') 1)))"
    " (lambda (list e) (dict (list 'pt' 'met') (list (attr e 'Muon_pt') (attr e 'MET_pt')))))"
)


@pytest.fixture(scope="module")
def inputs(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for name in ("nano_dy.root", "nano_dimuon.root"):
        shutil.copy(samples / name, folder / name)
    (folder / "corrupt.root").write_bytes((folder / "nano_dy.root").read_bytes()[:20_000])
    return folder


@pytest.fixture(scope="module")
def server(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("server") / "data"
    # However busy the machine, a misspelt name is found before the submit is answered.
    environment = {"SERVICEX_PREFLIGHT_WAIT_S": "200"}
    with ServerProcess(data_dir, ("--workers", "2", "--local-root", str(inputs)), environment) as running:
        yield running


@pytest.fixture(scope="module")
def answers(inputs: Path, server: ServerProcess, run_client26: Callable[..., Any]) -> Mapping[str, Any]:
    """All queries at once, by title."""
    good = [str(inputs / name) for name in ("nano_dy.root", "nano_dimuon.root")]
    queries: dict[str, dict[str, object]] = {
        "parquet": {"format": "parquet", "files": good},
        "root": {"format": "root-file", "files": good},
        "signed": {"format": "parquet", "files": good[:1], "uri": True},
        "misspelt": {
            "format": "parquet",
            "files": good,
            "query": QASTLE.replace("'Muon_pt'", "'Muon_ptt'"),
        },
        "corrupt": {"format": "parquet", "files": [*good, str(inputs / "corrupt.root")]},
    }
    asked = [
        {"title": title, "query": QASTLE, "codegen": "uproot", **query} for title, query in queries.items()
    ]
    ran = run_client26(server.url, server.token, asked)
    return dict(zip(queries, ran.answer, strict=True)) | {"messages": ran.messages}


def expected(inputs: Path) -> list[Any]:
    rows: list[Any] = []
    for name in ("nano_dy.root", "nano_dimuon.root"):
        events = uproot.open(inputs / name)["Events"].arrays(["Muon_pt", "MET_pt", "nMuon"])
        events = events[events.nMuon >= 1]
        rows += [(row["Muon_pt"], row["MET_pt"]) for row in ak.to_list(events)]
    return sorted(rows)


def rows_of(arrays: list[ak.Array]) -> list[Any]:
    return sorted((row["pt"], row["met"]) for array in arrays for row in ak.to_list(array))


def test_downloads_parquet(answers: Mapping[str, Any], inputs: Path) -> None:
    files = answers["parquet"]["delivered"]
    assert len(files) == 2
    assert rows_of([ak.from_parquet(file) for file in files]) == expected(inputs)


def test_downloads_root(answers: Mapping[str, Any], inputs: Path) -> None:
    files = answers["root"]["delivered"]
    assert len(files) == 2
    assert rows_of([uproot.open(file)["servicex"].arrays(["pt", "met"]) for file in files]) == expected(
        inputs
    )


def test_signed_urls_open_the_results(answers: Mapping[str, Any], inputs: Path) -> None:
    (url,) = answers["signed"]["delivered"]
    got = pq.read_table(io.BytesIO(httpx.get(url).raise_for_status().content))
    events = uproot.open(inputs / "nano_dy.root")["Events"].arrays(["nMuon"])
    assert len(got) == int(ak.sum(events.nMuon >= 1))


def test_a_misspelt_branch_is_answered_with_the_nearest_names(answers: Mapping[str, Any]) -> None:
    text = answers["misspelt"]["error"]
    assert "Muon_ptt" in text
    assert "Muon_pt" in text.replace("Muon_ptt", "")


def test_a_corrupt_file_is_named(answers: Mapping[str, Any]) -> None:
    # This client delivers nothing when a file failed; it must not hang, and say which it was.
    assert "Failed to transform all files" in answers["corrupt"]["error"]
    assert "corrupt.root" in answers["messages"]
