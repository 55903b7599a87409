"""What `make demo` runs: the official client gets columns of three samples from a server on this machine.

One specification asks for muons of CMS NanoAOD (uproot-raw), jets of ATLAS PHYSLITE (func_adl) and the
dimuon mass of a toy Drell-Yan sample (uproot-raw). The script compares every row count with uproot's own,
draws the mass, and prints what the server did.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import awkward as ak
import matplotlib as mpl
import numpy as np
import pyarrow.parquet as pq
import uproot
from servicex import Sample, ServiceXSpec, dataset, deliver, query

from local_server import LocalServer, local_server, stop_on_sigterm
from toy_sample import generate

mpl.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache"
# Tests keep what they make out of the way of what a person has made here.
OUTPUT = os.environ.get("DEMO_OUTPUT")
PICTURE = Path(OUTPUT or ROOT) / "demo.png"
WORK = Path(OUTPUT or CACHE / "demo")

# The invariant mass of all muons of an event, from sums over them: no index, so no event has too few.
MASS = (
    "sqrt(sum(Muon_pt * cosh(Muon_eta))**2 - sum(Muon_pt * cos(Muon_phi))**2"
    " - sum(Muon_pt * sin(Muon_phi))**2 - sum(Muon_pt * sinh(Muon_eta))**2)"
)
TWO_OPPOSITE_MUONS = "(nMuon == 2) & (sum(Muon_charge) == 0) & all(Muon_pt > 15)"


@dataclass(frozen=True, slots=True)
class Question:
    """One sample: where its files are, what is asked, and how many rows uproot itself counts."""

    title: str
    files: Sequence[Path]
    query: Any  # a query object of the official client
    n_expected: int


def ask_cms(samples: Path) -> Question:
    """Muons of events with one above 20 GeV, from NanoAOD."""
    files = [samples / name for name in ("nano_dy.root", "nano_dimuon.root")]
    n_expected = sum(
        int(ak.sum(ak.any(uproot.open(file)["Events"]["Muon_pt"].array() > 20, axis=1))) for file in files
    )
    asked = query.UprootRaw(
        [
            {
                "treename": "Events",
                "expressions": ["Muon_pt", "Muon_eta", "MET_pt"],
                "cut": "any(Muon_pt > 20)",
            }
        ]
    )
    return Question("CMS NanoAOD", files, asked, n_expected)


def ask_atlas(samples: Path) -> Question:
    """Jets above 30 GeV of events with at least two of them, from PHYSLITE."""
    files = [samples / "PHYSLITE_example.root"]
    pt = uproot.open(files[0])["CollectionTree"]["AnalysisJetsAuxDyn.pt"].array()
    asked = (
        query.FuncADL_Uproot()
        .FromTree("CollectionTree")
        .Where(lambda e: e["AnalysisJetsAuxDyn.pt"].Where(lambda pt: pt > 30000).Count() >= 2)
        .Select(
            lambda e: {
                "jet_pt_GeV": e["AnalysisJetsAuxDyn.pt"]
                .Where(lambda pt: pt > 30000)
                .Select(lambda pt: pt / 1000),
                "n_muons": e["AnalysisMuonsAuxDyn.pt"].Count(),
            }
        )
    )
    return Question("ATLAS PHYSLITE", files, asked, int(ak.sum(ak.sum(pt > 30000, axis=1) >= 2)))


def ask_toy(folder: Path) -> Question:
    """The mass of opposite-sign muon pairs above 15 GeV, from the toy sample."""
    files = generate(folder)
    n_expected = 0
    for file in files:
        muons = uproot.open(file)["Events"].arrays(["Muon_pt", "Muon_charge"])
        pairs = muons[ak.num(muons.Muon_pt) == 2]
        opposite = pairs.Muon_charge[:, 0] != pairs.Muon_charge[:, 1]
        n_expected += int(ak.sum(opposite & (pairs.Muon_pt[:, 1] > 15)))
    asked = query.UprootRaw(
        [
            {
                "treename": "Events",
                "aliases": {"mass": MASS},
                "expressions": ["mass"],
                "cut": TWO_OPPOSITE_MUONS,
            }
        ]
    )
    return Question("toy Drell-Yan", files, asked, n_expected)


def ask(server: LocalServer, questions: Sequence[Question]) -> Mapping[str, Sequence[str]]:
    """Let the official client deliver; it shows its own progress bars."""
    spec = ServiceXSpec(
        General={"OutputFormat": "parquet", "Delivery": "LocalCache"},
        Sample=[
            Sample(Name=q.title, Dataset=dataset.FileList([str(file) for file in q.files]), Query=q.query)
            for q in questions
        ],
    )
    # The client knows requests by their text alone: an old cache would answer in the place of the server.
    cache = WORK / "client"
    shutil.rmtree(cache, ignore_errors=True)
    delivered: Mapping[str, Sequence[str]] = deliver(
        spec, config_path=str(server.client_config), cache_dir=str(cache)
    )
    return delivered


def draw_mass(files: Sequence[str], picture: Path) -> None:
    """Draw the delivered dimuon masses."""
    masses = np.concatenate([ak.to_numpy(ak.from_parquet(file)["mass"]) for file in files])
    edges = np.arange(40.0, 161.0, 1.0)
    counts, _ = np.histogram(masses, edges)
    centres = (edges[1:] + edges[:-1]) / 2
    figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
    axes.stairs(counts, edges, color="#4c78a8", fill=True, alpha=0.35)
    axes.errorbar(
        centres,
        counts,
        np.sqrt(counts),
        fmt="o",
        ms=2.5,
        lw=0.8,
        color="black",
        label=f"{counts.sum():,} pairs",
    )
    axes.set(
        yscale="log",
        xlim=(40, 160),
        xlabel=r"$m(\mu^+\mu^-)$ [GeV]",
        ylabel="pairs / 1 GeV",
        title=f"Toy Drell-Yan, {len(files)} files through servicex-server",
    )
    axes.annotate("Z", (91.2, counts.max()), (97, counts.max() * 0.8), fontsize=13)
    axes.text(
        0.97, 0.83, r"$p_T(\mu) > 15$ GeV, opposite charge", transform=axes.transAxes, ha="right", fontsize=9
    )
    axes.legend(frameon=False, loc="upper right")
    axes.tick_params(direction="in", which="both", top=True, right=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def compare_rows(questions: Sequence[Question], delivered: Mapping[str, Sequence[str]]) -> bool:
    """Say for each sample whether as many rows came as uproot counts; return whether all agree."""
    agree = True
    for question in questions:
        files = list(delivered[question.title])
        n_rows = sum(pq.ParquetFile(file).metadata.num_rows for file in files)
        good = n_rows == question.n_expected and len(files) == len(question.files)
        agree &= good
        verdict = "as many as uproot selects" if good else f"WRONG: uproot selects {question.n_expected:,}"
        print(
            f"  {question.title:<15} {len(files)} file{'s' * (len(files) != 1)}, {n_rows:>9,} rows, {verdict}"
        )
    return agree


def seconds_between(start: str, stop: str) -> float:
    """Seconds between two times as the server writes them."""
    return (datetime.fromisoformat(stop) - datetime.fromisoformat(start)).total_seconds()


def print_statistics(server: LocalServer) -> None:
    """Print what the server itself says about the requests it has just served."""
    heads = ("sample", "files", "events in", "events out", "bytes read", "delivered", "server s")
    widths = (15, 5, 10, 10, 11, 10, 8)
    print("\nserver s: from submit to the last file, all samples at once and the workers just started")
    print("  ".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))
    with server.http() as http:
        requests = http.get("/servicex/transformation").raise_for_status().json()["requests"]
        for request in sorted(requests, key=lambda entry: str(entry["title"])):
            details = {"details": "1"}
            path = f"/servicex/transformation/{request['request_id']}/status"
            status = http.get(path, params=details).raise_for_status().json()
            files = [file for file in status["details"] if file["transform_status"] == "success"]
            row = (
                request["title"],
                str(len(files)),
                f"{sum(file['total-events'] for file in files):,}",
                f"{sum(file['events-out'] for file in files):,}",
                f"{sum(file['bytes-read'] for file in files):,}",
                f"{sum(file['total-bytes'] for file in files):,}",
                f"{seconds_between(status['submit-time'], status['finish-time']):.2f}",
            )
            print("  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)))


def main() -> int:
    """Run the demonstration; return the exit code."""
    stop_on_sigterm()
    samples = (CACHE / "samples").resolve()
    toys = CACHE / "demo" / "toy"
    print("preparing the samples ...", flush=True)
    questions = [ask_cms(samples), ask_atlas(samples), ask_toy(toys.resolve())]
    data_dir = WORK / "server"
    shutil.rmtree(data_dir, ignore_errors=True)
    with local_server(data_dir, local_roots=[samples, toys]) as server:
        print(
            f"server ready after {server.seconds_to_ready:.1f} s at {server.url}; the official client asks:\n"
        )
        delivered = ask(server, questions)
        print("\ndelivered:")
        agree = compare_rows(questions, delivered)
        print_statistics(server)
    if not agree:
        print("\nthe demonstration failed: row counts differ", file=sys.stderr)
        return 1
    draw_mass(delivered["toy Drell-Yan"], PICTURE)
    print(f"\nthe Z peak is in {PICTURE.name}. To go on:")
    print("  .venv/bin/servicex-server up                       # a server for the files below this folder")
    print("  cp -n servicex-data/servicex.yaml ~/servicex.yaml  # where the official client looks")
    print("  .venv/bin/pip install jupyterlab                   # once, for these questions as a notebook:")
    print("  .venv/bin/jupyter lab examples/quickstart.ipynb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
