"""A large container of a real Rucio server becomes work: `make bench-rucio` prints a table.

The container's data sets are made through Rucio's own interface, with one file each; the other files are then
copied from these in Rucio's database, which would take an hour otherwise. The finder is a process of its own,
as in a deployment: PostgreSQL, RabbitMQ, one app, and a worker whose transforms read nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
import psutil

from benchmarks.service import noop
from benchmarks.service.machine import cpu_s
from benchmarks.service.session import Session, signed_in

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
# The worker imports what does nothing from here.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

from deployment import a_deployment  # noqa: E402  lies in tests
from grid_pki import TestAuthority  # noqa: E402  lies in tests
from postgres_server import running_postgres  # noqa: E402  lies in tests
from rabbitmq_server import free_ports, running_rabbitmq  # noqa: E402  lies in tests
from rucio_server import PASSWORD, USERNAME, CatalogueFile, Content, RucioServer, running_rucio  # noqa: E402  lies in tests

REPORT = ROOT / ".cache" / "bench" / "rucio.json"
N_DATASETS = 10
_PAUSE_S = 0.02
_TABLES = {"dids": "did_type = 'F'", "replicas": "1", "contents": "child_type = 'F'"}
"""What Rucio has a row for each file in, and which rows those are."""


def copy_files(database: Path, n_each: int) -> None:
    """Gives every file of the catalogue `n_each - 1` companions in its data set, which differ by name."""
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.row_factory = sqlite3.Row
        for table, chosen in _TABLES.items():
            rows = connection.execute(f"SELECT * FROM {table} WHERE {chosen}").fetchall()
            marks = ", ".join("?" * len(rows[0]))
            copies = ([_rename(value, n) for value in row] for row in rows for n in range(1, n_each))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)


def _rename(value: object, number: int) -> object:
    return value.replace("-0.root", f"-{number}.root") if isinstance(value, str) else value


def resident_bytes(pid: int) -> int:
    """Of a process alone."""
    found: int = psutil.Process(pid).memory_info().rss
    return found


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """The resident bytes of a process, from time to time while the context lasts."""
    seen: list[int] = [resident_bytes(pid)]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.1):
            seen.append(resident_bytes(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    is_over.set()
    thread.join()


def measure(n_files: int, folder: Path) -> dict[str, float]:
    """Seconds from the submit on, and megabytes."""
    names = [f"d{number}" for number in range(N_DATASETS)]
    content = Content(
        [
            CatalogueFile(
                f"{name}-0.root", 10**6, "0a1b2c3d", 1000, f"root://localhost:1094//store/{name}-0.root"
            )
            for name in names
        ],
        {name: [f"{name}-0.root"] for name in names},
        {"large": names},
    )
    with ExitStack() as stack:
        authority = TestAuthority(folder / "ca")
        host, user = authority.issue("localhost", hosts=("localhost",)), authority.issue("Jane Analyst")
        rucio = stack.enter_context(running_rucio(folder / "rucio", authority, host, user, content))
        copy_files(folder / "rucio" / "rucio.db", n_files // N_DATASETS)
        broker = stack.enter_context(running_rabbitmq())
        database = stack.enter_context(running_postgres())
        (internal,) = free_ports(1)
        (folder / "store").mkdir()
        deployment = stack.enter_context(
            a_deployment(
                folder,
                database_url=database.create(),
                queue_url=broker.url,
                store={"store_url": str(folder / "store")},
                inputs=folder,
                finder_broker_url=broker.url,
                broker_finders="rucio",
                internal_port=str(internal),
                preflight_files="0",
                rucio_host=rucio.url,
                rucio_auth_type="userpass",
                rucio_account="root",
                rucio_username=USERNAME,
                rucio_password=PASSWORD,
                rucio_ca_file=str(rucio.ca_file),
            )
        )
        app = deployment.add_app("app")
        finder = deployment.add("finder", "finder", "rucio")
        finder.wait_for("is ready")
        worker = deployment.add("worker", "worker", "--workers", "1", module=noop.MODULE)
        worker.wait_for("worker.ready")
        token = deployment.run("token", "create", "marie").split()[-1]
        with signed_in([deployment.url_of("app")], token) as user_session, watched(finder.pid) as memory:
            cpu_before_s = cpu_s([finder.pid])
            found = _follow(user_session, n_files)
            found["finder, CPU of it, s"] = cpu_s([finder.pid]) - cpu_before_s
            found["Rucio alone, one request, s"] = ask_alone(rucio, n_files)
            found["finder, at rest, MB"] = memory[0] / 1e6
            found["finder, at most, MB"] = max(memory) / 1e6
            found["app, then, MB"] = resident_bytes(app.pid) / 1e6
    return found


def ask_alone(rucio: RucioServer, n_files: int) -> float:
    """Seconds that Rucio takes to list the replicas of the container when nobody does anything beside."""
    trust = ssl.create_default_context(cafile=str(rucio.ca_file))
    with httpx.Client(base_url=rucio.url, verify=trust, timeout=3600) as client:
        names = {"Account": "root", "Username": USERNAME, "Password": PASSWORD}
        headers = {f"X-Rucio-{name}": value for name, value in names.items()}
        answer = client.get("/auth/userpass", headers=headers).raise_for_status()
        headers = {
            "X-Rucio-Auth-Token": answer.headers["X-Rucio-Auth-Token"],
            "Accept": "application/x-json-stream",
        }
        wanted = {"dids": [{"scope": "test", "name": "large"}], "schemes": ["root"]}
        begun_s = time.perf_counter()
        with client.stream("POST", "/replicas/list", headers=headers, json=wanted) as lines:
            n_told = sum(1 for line in lines.iter_lines() if line)
    if n_told != n_files:
        message = f"Rucio told {n_told} of {n_files} files"
        raise RuntimeError(message)
    return time.perf_counter() - begun_s


def _follow(user: Session, n_files: int) -> dict[str, float]:
    body = json.dumps(
        {
            "did": "rucio://test:large",
            "selection": json.dumps([{"treename": "tree", "expressions": ["x"]}]),
            "codegen": "uproot-raw",
            "result-format": "parquet",
            "result-destination": "object-store",
        }
    )
    begun_s = time.perf_counter()
    request = user.submit(body)
    found = {"submit answered, s": time.perf_counter() - begun_s}
    while "all files recorded, s" not in found:
        status = user.peek(request)
        passed_s = time.perf_counter() - begun_s
        if status["files"]:
            found.setdefault("first files recorded, s", passed_s)
        if status["files-completed"]:
            found.setdefault("first result delivered, s", passed_s)
        if status["files"] >= n_files:
            found["all files recorded, s"] = passed_s
        if status["status"] not in {"Submitted", "Lookup", "Running"}:
            message = f"the request ended: {status}"
            raise RuntimeError(message)
        time.sleep(_PAUSE_S)
    user.cancel(request)
    return found


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(options.files, Path(folder))
    for name, value in found.items():
        sys.stdout.write(f"{name:32}{value:10.2f}\n")
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps({"files": options.files, "cores": os.cpu_count(), **found}, indent=1))


if __name__ == "__main__":
    main()
