"""What the official client shows when the end comes after the submit: a late preflight, a cancel."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gated_files import GatedFiles
from server_process import ServerProcess


@pytest.fixture
def gate(samples: Path, tmp_path: Path) -> Iterator[GatedFiles]:
    """A file whose bytes come only when the test says so."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(samples / "nano_dy.root", folder / "slow.root")
    with GatedFiles(folder, held="slow") as served:
        yield served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that waits for no preflight before it answers a submit."""
    environment = {"SERVICEX_PREFLIGHT_WAIT_S": "0", "SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1"}
    with ServerProcess(tmp_path / "data", ("--workers", "1"), environment, cwd=tmp_path) as running:
        yield running


def ask_for(url: str, expression: str) -> list[list[dict[str, Any]]]:
    """The stages of one delivery of one column."""
    query = [{"treename": "Events", "expressions": [expression]}]
    sample = {"name": "the sample", "files": [url], "kind": "uproot-raw", "query": query}
    return [[{"format": "parquet", "delivery": "LocalCache", "samples": [sample]}]]


def only_request(server: ServerProcess) -> dict[str, Any]:
    with server.client() as http:
        (entry,) = http.get("/servicex/transformation").json()["requests"]
        status: dict[str, Any] = http.get(f"/servicex/transformation/{entry['request_id']}").json()
    return status


def test_a_late_preflight_ends_the_request_with_the_nearest_names(
    gate: GatedFiles, server: ServerProcess, start_client33: Callable[..., Any]
) -> None:
    client = start_client33(server.client_config, ask_for(f"{gate.url}/slow.root", "Muon_ptt"))
    gate.wait_for_readers(1)
    gate.open_gate()
    ran = client.wait()

    status = only_request(server)
    assert status["status"] == "Fatal"
    assert "Muon_ptt" in status["failure-info"]
    assert "Muon_pt" in status["failure-info"].replace("Muon_ptt", "")
    # The client shows the title of what failed, so the cause is to be read there.
    assert "Muon_ptt" in ran.answer[0][0]["errors"]["the sample"]
    assert "Muon_ptt" in ran.messages


def test_the_log_link_of_a_late_preflight_leads_to_the_cause(
    gate: GatedFiles, server: ServerProcess, start_client33: Callable[..., Any]
) -> None:
    client = start_client33(server.client_config, ask_for(f"{gate.url}/slow.root", "Muon_ptt"))
    gate.wait_for_readers(1)
    gate.open_gate()
    ran = client.wait()

    found = re.search(r"link=(\S+?)\]HERE", ran.messages) or re.search(r"(http://127\S+_g=\S+)", ran.messages)
    assert found, f"the client shows no link: {ran.messages}"
    with server.client() as http:
        page = http.get(found[1], follow_redirects=True)
    assert page.status_code == 200, (found[1], page.text)
    assert "Muon_ptt" in page.text


def test_cancelling_from_a_second_terminal_ends_the_delivery(
    gate: GatedFiles,
    server: ServerProcess,
    start_client33: Callable[..., Any],
    servicex: Callable[..., Any],
) -> None:
    client = start_client33(server.client_config, ask_for(f"{gate.url}/slow.root", "Muon_pt"))
    gate.wait_for_readers(1)
    cancelled = servicex(server.client_config, "transforms", "cancel", only_request(server)["request_id"])
    assert cancelled.was_carried_out, cancelled.stderr
    ran = client.wait()

    assert "was canceled" in ran.answer[0][0]["errors"]["the sample"]
    assert only_request(server)["status"] == "Canceled"
