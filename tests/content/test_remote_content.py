"""The same file over each protocol gives the same result."""

from __future__ import annotations

import functools
import http.server
import json
import threading
from pathlib import Path

import awkward as ak
import pytest

from servicex_server.model.kinds import ResultFormat
from servicex_server.run.execute import TransformSummary, transform_file
from servicex_server.source.policy import SourcePolicy
from xrootd_server import require_xrootd, running_xrootd

SELECTION = json.dumps([{"treename": "Events", "expressions": ["Muon_pt", "run"], "cut": "nMuon > 0"}])


def run(location: str, policy: SourcePolicy, output: Path) -> TransformSummary:
    return transform_file(
        location,
        codegen="uproot-raw",
        selection=SELECTION,
        result_format=ResultFormat.PARQUET,
        output=output,
        policy=policy,
    )


@pytest.fixture
def local(samples: Path, tmp_path: Path) -> ak.Array:
    run(str(samples / "nano_dy.root"), SourcePolicy(local_roots=(samples,)), tmp_path / "local")
    return ak.from_parquet(tmp_path / "local")


def test_a_file_behind_http_gives_what_the_local_one_gives(
    samples: Path, tmp_path: Path, local: ak.Array
) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=samples))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        policy = SourcePolicy(allowed_private_hosts=("127.0.0.1",))
        summary = run(f"http://127.0.0.1:{server.server_address[1]}/nano_dy.root", policy, tmp_path / "http")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert summary.n_events_out == len(local)
    assert ak.array_equal(ak.from_parquet(tmp_path / "http"), local)


def test_a_file_behind_root_gives_what_the_local_one_gives(
    samples: Path, tmp_path: Path, local: ak.Array
) -> None:
    require_xrootd()
    policy = SourcePolicy(allowed_private_hosts=("localhost",))
    with running_xrootd({"x.root": samples / "nano_dy.root"}) as server:
        summary = run(server.url("x.root"), policy, tmp_path / "root")
    assert summary.n_events_out == len(local)
    assert ak.array_equal(ak.from_parquet(tmp_path / "root"), local)
