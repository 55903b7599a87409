"""One process tree with SQLite, 16 clients, and transforms that read nothing."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.database.fill import fill, request_id
from benchmarks.read_back import READERS, measure_readers
from benchmarks.service import noop
from benchmarks.service.inputs import make_empty
from benchmarks.service.load import Seen
from benchmarks.service.machine import cpu_s, timed
from benchmarks.service.report import Row
from benchmarks.service.reporter import reporting
from benchmarks.service.scale import Scale
from benchmarks.service.session import TRANSFORM, Session, body, signed_in
from local_server import LocalServer, local_server
from servicex_server.db import schema
from servicex_server.db.engine import build_engine

_PART = "embedded, 16 clients"
_KEEP = {
    # The rows that are made are old, and their objects are nowhere.
    "SERVICEX_RESULTS_MAX_AGE_DAYS": "0",
    "SERVICEX_RESULTS_DISK_SHARE": "1",
    "SERVICEX_REQUEST_DEADLINE_S": "1e9",
}
NO_PREFLIGHT = {"SERVICEX_PREFLIGHT_FILES": "0"}


def measure_submits(scale: Scale) -> Iterator[Row]:
    """Submits; their files are worked off beside them, on the same cores."""
    inputs = _inputs(scale)
    files = make_empty(inputs, 20)
    bodies = [body([file], file.name) for file in files]
    for name, environment, target in (
        ("submits without preflight", NO_PREFLIGHT, 500.0),
        ("submits with preflight", {}, None),
    ):
        with _server(scale, environment) as server, signed_in([server.url], server.token) as user:
            before_s = cpu_s([server.process.pid])
            seen = user.post_many(bodies, scale.submits)
            spent_s = cpu_s([server.process.pid]) - before_s
            n_all = len(seen.answers)
            note = f"{1e3 * spent_s / n_all:.2f} ms CPU of the app each, with the file's way through"
            yield Row(_PART, name, seen.per_s, "/s", target, note=note)
            limit = 0.1 if target else None
            yield Row(_PART, f"{name}, p99", seen.p99_s, "s", limit, "less", _latencies(seen))
            if target:
                yield from _measure_reads(scale, server, user, seen)


def _measure_reads(scale: Scale, server: LocalServer, user: Session, submitted: Seen) -> Iterator[Row]:
    ids = [_id_of(answer) for answer in submitted.answers]
    for each in (ids[0], ids[-1]):
        user.wait(each)
    yield _polls(scale, server, user, [f"{TRANSFORM}/{ids[0]}"], "status of one request", 3000)
    some = [f"{TRANSFORM}/{each}" for each in ids[:2000]]
    yield _polls(scale, server, user, some, "status of 2,000 requests in turn", None)
    seen = user.get_many([TRANSFORM], scale.lists, n_clients=4)
    size = seen.body_bytes / scale.lists
    yield Row(_PART, "lists of requests", seen.per_s, "/s", note=f"{size / 1e6:.1f} MB each, 4 clients")


def measure_polls_beside_results(scale: Scale) -> Iterator[Row]:
    """Statuses from a database that holds a million results."""
    folder = scale.folder / "full"
    folder.mkdir(parents=True)
    with local_server(folder, local_roots=[_inputs(scale)], environment=_KEEP):
        pass  # makes the folder what a server wants it to be
    _fill(folder / "servicex.db", scale.results)
    with (
        local_server(
            folder, local_roots=[_inputs(scale)], environment=_KEEP | NO_PREFLIGHT, module=noop.MODULE
        ) as server,
        signed_in([server.url], server.token) as user,
    ):
        results = f"{scale.results:,} results in the database"
        target = f"{TRANSFORM}/{request_id(2)}"
        yield _polls(scale, server, user, [target], f"status, {results}", 3000)
        numbers = range(2, min(2000, scale.results // 200) + 2)
        some = [f"{TRANSFORM}/{request_id(number)}" for number in numbers]
        yield _polls(scale, server, user, some, f"status of {len(some)} requests in turn, {results}", None)


def _fill(path: Path, n_results: int) -> None:
    url = f"sqlite:///{path}"
    schema.check(url)
    engine = build_engine(url, size=1, busy_timeout_s=10, read_only=False)
    fill(engine, n_results)
    engine.dispose()


def _polls(
    scale: Scale, server: LocalServer, user: Session, targets: list[str], name: str, target: float | None
) -> Row:
    before_s = cpu_s([server.process.pid])
    seen = user.get_many(targets, scale.polls)
    spent_s = cpu_s([server.process.pid]) - before_s
    note = f"{_latencies(seen)}; {1e3 * spent_s / scale.polls:.2f} ms CPU each"
    return Row(_PART, name, seen.per_s, "/s", target, note=note)


def measure_files(scale: Scale) -> Iterator[Row]:
    """Files of a look-up, and reports of workers, of whom one sends as fast as it is let."""
    inputs = _inputs(scale)
    with (
        _server(scale, NO_PREFLIGHT, "--workers", "2") as server,
        signed_in([server.url], server.token) as user,
    ):
        rates, costs = [], []
        pids = [server.process.pid]
        for round_ in range(3):
            files = make_empty(inputs / f"look_up{round_}", scale.look_up)
            text = body(files, f"look-up {round_}")
            before_s = cpu_s(pids)
            with timed() as passed_s:
                request = user.submit(text)
            rates.append(len(files) / passed_s())
            costs.append((cpu_s(pids) - before_s) / len(files))
            user.cancel(request)
        note = f"one list of {scale.look_up:,}; {1e3 * min(costs):.3f} ms CPU each"
        yield Row(
            _PART,
            "files of a list recorded and dispatchable",
            statistics.median(rates),
            "/s",
            10_000,
            note=note,
        )
        files = make_empty(inputs / "reports", scale.reports)
        request = user.submit(body(files, "reports"))
        with reporting(server.data_dir):
            before_s, n_before = cpu_s(pids), user.status(request)["files-completed"]
            with timed() as passed_s:
                user.wait(request, pause_s=0.2)
            n_reports = len(files) - n_before
            per_s, cost = n_reports / passed_s(), (cpu_s(pids) - before_s) / n_reports
        note = f"{1e3 * cost:.2f} ms CPU each, with dispatch and polls"
        yield Row(_PART, "reports of workers accepted", per_s, "/s", 3000, note=note)


def measure_read_back(scale: Scale) -> Iterator[Row]:
    """Objects of 32 MB over signed URLs."""
    first = 0.0
    for n_readers, found in zip(
        READERS, measure_readers(32, scale.read_mb, scale.read_rounds, READERS), strict=True
    ):
        first = first or found.mb_per_s
        note = f"{found.cpu_s_per_gb:.2f} CPU s/GB, {found.resident_mb:.0f} MB"
        plural = "s" if n_readers > 1 else ""
        part = "read-back through the S3 endpoint"
        yield Row(part, f"{n_readers} reader{plural}", found.mb_per_s / 1000, "GB/s", 1.0, note=note)
        if n_readers == READERS[-1]:
            yield Row(part, f"{n_readers} readers over one", found.mb_per_s / first, "x", 0.8)


def _latencies(seen: Seen) -> str:
    return f"p50 {1e3 * seen.p50_s:.1f}, p99 {1e3 * seen.p99_s:.1f}, slowest {1e3 * seen.worst_s:.0f} ms"


def _id_of(answer: str) -> str:
    return str(json.loads(answer)["request_id"])


def _inputs(scale: Scale) -> Path:
    """A folder for files that nobody reads."""
    folder = scale.folder / "nothing"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _server(
    scale: Scale, environment: Mapping[str, str], *options: str
) -> AbstractContextManager[LocalServer]:
    folder = Path(tempfile.mkdtemp(dir=scale.folder, prefix="embedded-"))
    return local_server(
        folder,
        local_roots=[_inputs(scale)],
        options=options,
        environment=environment,
        module=noop.MODULE,
    )
