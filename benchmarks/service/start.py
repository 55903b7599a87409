"""Before the first request: time to ready, memory of the idle processes; and one small file, warm."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from servicex import dataset, deliver, query

from benchmarks.service.machine import memory_mb
from benchmarks.service.report import Row
from benchmarks.service.scale import Scale
from benchmarks.service.session import Session, body, signed_in
from local_server import LocalServer, local_server
from toy_sample import generate

_CUT = "nMuon >= 0"


def measure_start(scale: Scale) -> Iterator[Row]:
    """A new data folder, and an existing one."""
    folder, inputs = scale.folder / "ready", scale.inputs
    inputs.mkdir(parents=True, exist_ok=True)
    with local_server(folder, local_roots=[inputs]) as server:
        yield Row("start", "ready on a new data folder", server.seconds_to_ready, "s")
    with local_server(folder, local_roots=[inputs]) as server:
        yield Row("start", "ready on an existing one", server.seconds_to_ready, "s")
        time.sleep(2)  # until start-up is really over: idle, as the number says
        memory = memory_mb([server.process.pid])
    for role, megabytes in memory.items():
        yield Row("start", f"idle memory, {role}", megabytes, "MB")
    yield Row("start", "idle memory, all", sum(memory.values()), "MB")


def measure_small(scale: Scale) -> Iterator[Row]:
    """One small file, as a user would: with preflight, each request on a file that nobody has read before."""
    inputs = scale.folder / "small"
    inputs.mkdir(parents=True)
    n = scale.latencies
    real = scale.samples / "nano_dy.root"
    wide = [Path(shutil.copy(real, inputs / f"wide_{index}.root")) for index in range(n + 1)]
    toys = generate(inputs, n_files=n + 1, n_events=1000 * (n + 1))
    part = "one small file, warm"
    with (
        local_server(scale.folder / "small_server", local_roots=[inputs]) as server,
        signed_in([server.url], server.token) as user,
    ):
        for name, files in (("NanoAOD, 1499 branches", wide), ("toy, 16 branches", toys)):
            seconds = [user.seconds_of(body([file], name, cut=_CUT)) for file in files][1:]
            note = f"slowest {max(seconds):.3f} s of {n}"
            yield Row(
                part, f"submit to Complete, {name}", statistics.median(seconds), "s", 0.15, "less", note
            )
        again = statistics.median(_again(user, toys[0]) for _ in range(n))
        yield Row(part, "the identical query again", again, "s", 0.05, "less")
        seconds_ = deliver_s(server, [toys[1]], scale.folder / "client", cut=None)
        yield Row(part, "deliver() of the official client", seconds_, "s", note="one poll of its own is 5 s")


def _again(user: Session, file: Path) -> float:
    return user.seconds_of(body([file], "again", cut=_CUT))


def deliver_s(server: LocalServer, files: list[Path], cache: Path, *, cut: str | None) -> float:
    """Wall seconds of the official client's `deliver()`."""
    sub_query: dict[str, Any] = {"treename": "Events", "expressions": ["Muon_pt", "MET_pt"]}
    if cut is not None:
        sub_query["cut"] = cut
    spec = {
        "General": {"OutputFormat": "parquet", "Delivery": "LocalCache"},
        "Sample": [
            {
                "Name": "bench",
                "Dataset": dataset.FileList([str(file) for file in files]),
                "Query": query.UprootRaw([sub_query]),
            }
        ],
    }
    started_s = time.perf_counter()
    delivered = deliver(
        spec, config_path=str(server.client_config), cache_dir=str(cache), progress_bar="none"
    )
    seconds = time.perf_counter() - started_s
    if len(delivered["bench"]) != len(files):
        message = f"deliver() brought {len(delivered['bench'])} of {len(files)} files"
        raise RuntimeError(message)
    return seconds
