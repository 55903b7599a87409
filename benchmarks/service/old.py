"""Measure the service around the engine: `make bench-service` prints a table and writes
.cache/bench/service.json.

Time to ready, submit to Complete for one small file, submits per second, memory of the idle process tree by
role, and the wall time of the official client's `deliver()` for one small file.
"""

from __future__ import annotations

import json
import platform
import shutil
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
from servicex import dataset, deliver, query

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "examples"))

from local_server import LocalServer, local_server, stop_on_sigterm  # noqa: E402  lies in examples
from toy_sample import generate  # noqa: E402

REPORT = ROOT / ".cache" / "bench" / "service.json"
FOLDER = REPORT.with_suffix("")
N_LATENCY = 20
N_SUBMITS = 100


def body(file: Path, title: str) -> dict[str, object]:
    """A small request: two columns of 40 events."""
    selection = [{"treename": "Events", "expressions": ["Muon_pt", "MET_pt"], "cut": "nMuon >= 1"}]
    return {
        "title": title,
        "file-list": [str(file)],
        "selection": json.dumps(selection),
        "codegen": "uproot-raw",
        "result-destination": "object-store",
        "result-format": "parquet",
    }


def submit(http: httpx.Client, file: Path, title: str) -> str:
    """Return the id of a new request."""
    answer = http.post("/servicex/transformation", json=body(file, title)).raise_for_status()
    return str(answer.json()["request_id"])


def wait_until_complete(http: httpx.Client, request_id: str) -> None:
    """Poll as clients do; the server holds a poll until something changes."""
    path = f"/servicex/transformation/{request_id}"
    while (status := http.get(path).raise_for_status().json()["status"]) != "Complete":
        if status in {"Fatal", "Canceled", "Bad Dataset"}:
            message = f"request {request_id} ended {status}"
            raise RuntimeError(message)


def measure_latency(http: httpx.Client, files: list[Path]) -> dict[str, float]:
    """Seconds from submit to Complete, one request after another, each on a file of its own."""
    seconds = []
    for index, file in enumerate(files):
        started = time.perf_counter()
        wait_until_complete(http, submit(http, file, f"latency {index}"))
        seconds.append(time.perf_counter() - started)
    first, *rest = seconds
    return {"first": first, "median": statistics.median(rest), "max": max(rest)}


def measure_submits(http: httpx.Client, files: list[Path]) -> float:
    """Submits per second of one client that sends one after another; all must complete afterwards."""
    started = time.perf_counter()
    ids = [submit(http, files[index % len(files)], f"submit {index}") for index in range(N_SUBMITS)]
    rate = N_SUBMITS / (time.perf_counter() - started)
    for request_id in ids:
        wait_until_complete(http, request_id)
    return rate


def role(process: psutil.Process) -> str:
    """What a process of the server's tree is, as its module says."""
    module = next((word for word in process.cmdline() if word.startswith("servicex_server.")), "app")
    parent = process.parent()
    if module.endswith(".nursery"):
        return "workers" if parent is not None and module in parent.cmdline() else "worker nursery"
    return "worker parent" if module.endswith(".run") else "app"


def measure_memory(server: LocalServer) -> dict[str, float]:
    """Proportional set size in MB, by role: shared pages count once over the tree."""
    top = psutil.Process(server.process.pid)
    by_role: defaultdict[str, float] = defaultdict(float)
    for process in [top, *top.children(recursive=True)]:
        by_role[role(process)] += getattr(process.memory_full_info(), "pss", process.memory_info().rss) / 1e6
    return {**by_role, "sum": sum(by_role.values())}


def measure_deliver(server: LocalServer, file: Path) -> float:
    """Wall seconds of the official client's `deliver()`; its own floor is one 5-second poll."""
    sub_query: dict[str, Any] = {"treename": "Events", "expressions": ["Muon_pt"]}
    spec = {
        "General": {"OutputFormat": "parquet", "Delivery": "LocalCache"},
        "Sample": [
            {"Name": "bench", "Dataset": dataset.FileList([str(file)]), "Query": query.UprootRaw([sub_query])}
        ],
    }
    started = time.perf_counter()
    delivered = deliver(
        spec, config_path=str(server.client_config), cache_dir=str(FOLDER / "client"), progress_bar="none"
    )
    seconds = time.perf_counter() - started
    if len(delivered["bench"]) != 1:
        message = "deliver() brought nothing"
        raise RuntimeError(message)
    return seconds


def measure_start(inputs: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds to ready on a new data folder and on an existing one, and the memory of the idle tree."""
    ready = []
    memory: dict[str, float] = {}
    for index in range(3):
        with local_server(FOLDER / "ready", local_roots=[inputs]) as server:
            ready.append(server.seconds_to_ready)
            if index == 2:
                time.sleep(2)  # until start-up is really over: idle, as the number says
                memory = measure_memory(server)
    return {"new data folder": ready[0], "existing one": min(ready[1:])}, memory


def measure() -> dict[str, Any]:
    """Run everything once."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    inputs = FOLDER / "inputs"
    inputs.mkdir(parents=True)
    real = ROOT / ".cache" / "samples" / "nano_dy.root"
    wide = [Path(shutil.copy(real, inputs / f"wide_{index}.root")) for index in range(N_LATENCY + 1)]
    toys = generate(inputs, n_files=N_LATENCY + 1, n_events=1000 * (N_LATENCY + 1))
    ready, memory = measure_start(inputs)
    results: dict[str, Any] = {"seconds to ready": ready, "idle memory MB": memory}
    with local_server(FOLDER / "data", local_roots=[inputs]) as server, server.http() as http:
        results["submit to Complete s, NanoAOD with 1499 branches"] = measure_latency(http, wide)
        results["submit to Complete s, toy with 16 branches"] = measure_latency(http, toys)
        rate = measure_submits(http, toys)
        results["deliver() s"] = {"official client 3.3.1": measure_deliver(server, toys[0])}
    late = {"SERVICEX_PREFLIGHT_WAIT_S": "0"}
    with (
        local_server(FOLDER / "late", local_roots=[inputs], environment=late) as server,
        server.http() as http,
    ):
        later = measure_submits(http, toys)
    results["submits per second"] = {"preflight before the answer": rate, "preflight after it": later}
    return results


def print_table(results: dict[str, Any], write: Callable[[str], object]) -> None:
    """Print one line per number."""
    for name, numbers in results.items():
        for detail, number in numbers.items():
            write(f"{name:<50} {detail:<28} {number:10.3f}\n")


def main() -> None:
    """Measure, print, write."""
    stop_on_sigterm()
    results = measure()
    print_table(results, sys.stdout.write)
    machine = {
        "machine": platform.machine(),
        "cores": psutil.cpu_count(),
        "python": platform.python_version(),
    }
    REPORT.write_text(json.dumps(results | machine, indent=2))


if __name__ == "__main__":
    main()
