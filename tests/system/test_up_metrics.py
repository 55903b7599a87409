"""Metrics of a real server and its worker, each on its own port."""

from __future__ import annotations

import getpass
import shutil
import socket
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from server_process import ServerProcess

QUERY = '[{"treename": "Events", "filter_name": ["nMuon"]}]'


def values(port: int) -> tuple[dict[tuple[str, str], float], str]:
    """Values by name and labels, and the text itself."""
    answer = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.text)
    found = {
        (sample.name.removeprefix("servicex_"), ",".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    return found, answer.text


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_server_and_worker_tell_what_they_do(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inputs"
    folder.mkdir()
    for number in range(3):
        shutil.copy(samples / "nano_dy.root", folder / f"secret_name_{number}.root")
    (folder / "broken.root").write_bytes(b"no ROOT file")
    port, worker_port = free_ports(2)
    environment = {"SERVICEX_METRICS_PORT": str(port), "SERVICEX_WORKER_METRICS_PORT": str(worker_port)}
    flags = ("--local-root", str(folder), "--workers", "2")
    with ServerProcess(tmp_path / "data", flags=flags, environment=environment) as server:
        body = {
            "file-list": [str(path) for path in sorted(folder.iterdir())],
            "selection": QUERY,
            "codegen": "uproot-raw",
        }
        with server.client() as client:
            answer = client.post("/servicex/transformation", json=body)
        request_id = answer.json()["request_id"]
        server.wait_complete(request_id)
        app, text = values(port)
        worker, worker_text = values(worker_port)
    assert app["files_ended_total", "delivered,"] == 3
    assert app["files_ended_total", "failed,corrupt"] == 1
    assert app["request_transitions_total", "Complete"] == 1
    assert app["http_request_seconds_count", "POST,/servicex/transformation,200"] == 1
    assert app["queue_slots", ""] == 2
    assert app["queue_waiting_units", ""] == app["queue_leased_units", ""] == 0
    assert app["db_write_seconds_count", ""] > 0
    assert app["store_operation_seconds_count", "heads"] > 0
    assert app["report_batch_reports_sum", ""] == sum(
        app["reports_recorded_total", kind] for kind in ("done", "failed", "preflight")
    )
    assert worker["worker_children_alive", ""] == worker["worker_slots", ""] == 2
    assert worker["worker_units_total", "delivered"] == 3
    assert worker["worker_units_total", "failed"] == 1
    assert worker["worker_busy_seconds_total", ""] > 0
    assert worker["worker_input_read_bytes_total", ""] == app["input_read_bytes_total", ""] > 0
    assert worker["worker_results_written_bytes_total", ""] == app["results_written_bytes_total", ""] > 0
    for told in (text, worker_text):
        for secret in (request_id, "secret_name", f'"{getpass.getuser()}"', server.token):
            assert secret not in told
