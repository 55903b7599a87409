"""Large inputs, very many files, and two users at once."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.engine import write_uproot
from benchmarks.service import noop
from benchmarks.service.embedded import NO_PREFLIGHT
from benchmarks.service.inputs import make_empty
from benchmarks.service.machine import cpu_s, timed, watch_memory
from benchmarks.service.report import Row
from benchmarks.service.scale import Scale
from benchmarks.service.session import body, signed_in
from benchmarks.service.start import deliver_s
from local_server import LocalServer, local_server

_N_FILES = 10
_CODEC = "ZSTD"


def measure_large(scale: Scale) -> Iterator[Row]:
    """Ten files of about 75 MB and two workers; a new cut in each round, so that nothing is known before."""
    files = _large_files(scale)
    total_mb = sum(file.stat().st_size for file in files) / 1e6
    part = f"{_N_FILES} files, {total_mb:.0f} MB in all ({_CODEC} level 5, 103 branches), 2 workers"
    with (
        local_server(
            scale.folder / "large", local_roots=[files[0].parent], options=["--workers", "2"]
        ) as server,
        signed_in([server.url], server.token) as user,
    ):
        user.seconds_of(body(files[:1], "warm", cut="MET_pt > 0"))
        seconds = [user.seconds_of(body(files, f"{n}", cut=f"MET_pt > 1.{n}")) for n in range(scale.rounds)]
        median_s = statistics.median(seconds)
        note = f"{median_s:.2f} s; fastest {min(seconds):.2f} s; two columns and a cut"
        yield Row(part, "input, submit to Complete", total_mb / median_s, "MB/s", 500, note=note)
        client_s = deliver_s(server, files, scale.folder / "client_large", cut="MET_pt > 2")
        note = "deliver() of the official client, which polls each 5 s and downloads"
        yield Row(part, "what the official client sees", client_s, "s", note=note)


def _large_files(scale: Scale) -> list[Path]:
    """The same events ten times, in files of their own."""
    scale.inputs.mkdir(parents=True, exist_ok=True)
    first = scale.inputs / f"service-{_CODEC.lower()}-{scale.events}-1.root"
    if not first.exists():
        unfinished = first.with_suffix(".part")
        write_uproot.write_tree(unfinished, "Events", scale.events, _CODEC)
        unfinished.rename(first)
    folder = scale.folder / "ten"
    folder.mkdir(parents=True)
    return [Path(shutil.copy(first, folder / f"part{n}.root")) for n in range(_N_FILES)]


def measure_many(scale: Scale) -> Iterator[Row]:
    """One request with very many files that are not read: it ends, and memory stays."""
    inputs = scale.folder / "many_inputs"
    files = make_empty(inputs, scale.many)
    part = f"{scale.many:,} files, no-op transform, 2 workers"
    with (
        _noop_server(scale, "many", inputs) as server,
        signed_in([server.url], server.token) as user,
        watch_memory(lambda: [server.process.pid]) as memory,
    ):
        before_s = cpu_s([server.process.pid])
        with timed() as passed_s:
            request = user.submit(body(files, "many"))
            submitted_s = passed_s()
            user.wait(request, pause_s=0.5)
        spent_s = cpu_s([server.process.pid]) - before_s
        cost_ms = 1e3 * spent_s / len(files)
        note = f"{submitted_s:.1f} s of it for the submit; {cost_ms:.2f} ms CPU of the app per file"
        yield Row(part, "submit to Complete", passed_s(), "s", note=note)
        yield Row(part, "files", len(files) / passed_s(), "/s")
    for role, (first, middle, last) in memory.first_middle_last().items():
        note = f"most in each third of the time: {first:.0f}, {middle:.0f}, {last:.0f} MB"
        yield Row(part, f"memory, {role}", max(first, middle, last), "MB", note=note)


def measure_crowd(scale: Scale) -> Iterator[Row]:
    """One file of one user beside very many of another."""
    inputs = scale.folder / "crowd_inputs"
    files = make_empty(inputs, 2 * scale.latencies, "one")
    crowd = make_empty(inputs, scale.crowd)
    part = "two users"
    with (
        _noop_server(scale, "crowd", inputs) as server,
        signed_in([server.url], server.token) as many,
        signed_in([server.url], _new_user(server)) as one,
    ):
        alone = [one.seconds_of(body([file], "alone")) for file in files[: scale.latencies]]
        request = many.submit(body(crowd, "crowd"))
        beside, n_beside = [], 0
        for file in files[scale.latencies :]:
            beside.append(one.seconds_of(body([file], "beside")))
            n_beside += many.peek(request)["status"] == "Running"
        yield Row(part, "one file, alone", statistics.median(alone), "s", note="no-op transform")
        note = f"slowest {max(beside):.3f} s; the other request ran during {n_beside} of {len(beside)}"
        yield Row(part, f"one file beside {scale.crowd:,}", statistics.median(beside), "s", note=note)


def _noop_server(scale: Scale, name: str, inputs: Path) -> AbstractContextManager[LocalServer]:
    return local_server(
        scale.folder / name,
        local_roots=[inputs],
        options=["--workers", "2"],
        environment=NO_PREFLIGHT,
        module=noop.MODULE,
    )


def _new_user(server: LocalServer) -> str:
    command = [sys.executable, "-m", "servicex_server", "token", "create", "niels"]
    done = subprocess.run(
        [*command, "--data-dir", str(server.data_dir)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    return done.stdout.split()[-1]
