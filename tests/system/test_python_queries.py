"""python queries from end to end: `transform` and a server, with real sandboxes."""

from __future__ import annotations

import base64
import functools
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import awkward as ak
import h5py
import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot

import servicex_server
from sandbox_here import sandbox_here
from server_process import ServerProcess
from servicex_server.errors import FormatError, InvalidRequest, QueryError, SourceUnavailable, UnknownCodegen
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.tally import Tally
from servicex_server.run.execute import transform_file
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.source.policy import CALLERS_OWN

__all__ = ["sandbox_here"]

pytestmark = pytest.mark.usefixtures("sandbox_here")

HEAD = """
def run_query(file_path):
    import awkward as ak
    import numpy as np
    import uproot
    events = uproot.open(file_path)["Events"].arrays()
"""
SELECTION = HEAD + "    return events[ak.num(events.pt) > 1]\n"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("inputs") / "in:put.root"
    pt = ak.unflatten(np.arange(13, dtype=np.float32), np.arange(10) % 4)
    # As an open file: uproot would take the colon for the name of an object.
    with path.open("w+b") as handle, uproot.recreate(handle) as target:
        target.mktree("Events", {"x": "float64", "pt": pt.type}).extend({"x": np.arange(10.0), "pt": pt})
    return path


def directly(source: str, path: Path, folder: Path) -> Any:
    """What the function gives without any sandbox."""
    copy = folder / "copy.root"
    copy.write_bytes(path.read_bytes())
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace["run_query"](str(copy))


def transform(
    file: Path | str, source: str, output: Path, result_format: str = "parquet", **more: Any
) -> Any:
    (summary,) = servicex_server.transform(
        file, codegen="python", selection=source, output=output, result_format=result_format, **more
    )
    return summary


@pytest.mark.parametrize(
    "body",
    [
        "return events[ak.num(events.pt) > 1]",
        "return events.x[events.x > 1e9]",
        "return {'only': events.pt * 2}",
        "return ak.zip({'x': events.x, 'name': ak.Array(['é'] * len(events))}, depth_limit=1)",
        "return ak.mask(events.x, events.x > 3)",
    ],
)
def test_parquet_is_what_awkward_writes(body: str, file: Path, tmp_path: Path) -> None:
    source = f"{HEAD}    {body}\n"
    summary = transform(file, source, tmp_path / "out.parquet")
    expected = directly(source, file, tmp_path)
    if isinstance(expected, dict):
        expected = expected["only"]
    table = ak.to_arrow_table(ak.Array(expected))
    assert pq.read_schema(tmp_path / "out.parquet").remove_metadata() == table.schema.remove_metadata()
    result = ak.from_parquet(tmp_path / "out.parquet")
    assert result.to_list() == ak.Array(expected).to_list()
    assert summary.n_events_in == summary.n_events_out == len(expected)
    assert summary.bytes_read == file.stat().st_size


@pytest.mark.parametrize("result_format", ["root-file", "root-rntuple"])
def test_root_has_one_tree_per_key(result_format: str, file: Path, tmp_path: Path) -> None:
    source = f"{HEAD}    return {{'all': events.x, 'few': events[events.x > 7][['x', 'pt']]}}\n"
    summary = transform(file, source, tmp_path / "out.root", result_format)
    expected = directly(source, file, tmp_path)
    with uproot.open(tmp_path / "out.root") as result:
        assert result.keys(cycle=False) == ["all", "few"]
        assert result["all"]["branch"].array().to_list() == expected["all"].to_list()
        assert result["few"].arrays(["x", "pt"]).to_list() == expected["few"].to_list()
    assert summary.n_events_out == 12


def test_root_has_the_tree_servicex_for_an_array_alone(file: Path, tmp_path: Path) -> None:
    transform(file, SELECTION, tmp_path / "out.root", "root-file")
    with uproot.open(tmp_path / "out.root") as result:
        assert result.keys(cycle=False) == ["servicex"]
        assert result["servicex/x"].array().to_list() == [2.0, 3.0, 6.0, 7.0]


@pytest.mark.parametrize("unnamed", [True, False])
def test_parquet_holds_all_keys_of_a_dict(unnamed: bool, file: Path, tmp_path: Path) -> None:
    what = "events.pt" if unnamed else "events[['x', 'pt']]"
    source = f"{HEAD}    return {{'low': {what}[:4], 'high': {what}[8:], 'none': {what}[:0]}}\n"
    transform(file, source, tmp_path / "out.parquet")
    result = ak.from_parquet(tmp_path / "out.parquet")
    expected = directly(source, file, tmp_path)
    assert result.treename.to_list() == ["low"] * 4 + ["high"] * 2
    for name, array in expected.items():
        rows = result[result.treename == name]
        assert (rows[""] if unnamed else rows[["x", "pt"]]).to_list() == array.to_list()


def test_parquet_refuses_keys_that_differ_and_names_them(file: Path, tmp_path: Path) -> None:
    source = f"{HEAD}    return {{'a': events.x, 'b': events[['x', 'pt']]}}\n"
    with pytest.raises(
        FormatError, match=r"'a' has float64, 'b' has x float64, pt var \* float32.*root-file"
    ):
        transform(file, source, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("body", "result_format", "shown"),
    [
        ("return ak.Array([[[1]], []])", "root-file", "root-file cannot hold"),
        ("return {'a': events, '': events}", "root-file", "returned the name ''"),
        ("return events.nothing", "parquet", "(line 7 of the code: return events.nothing)"),
    ],
)
def test_what_cannot_be_written_is_refused(
    body: str, result_format: str, shown: str, file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        transform(file, f"{HEAD}    {body}\n", tmp_path / "out", result_format)
    assert shown in raised.value.message
    assert [path for path in tmp_path.iterdir() if path.name != "copy.root"] == []


def test_takes_base64_and_the_command_line_a_file(file: Path, tmp_path: Path) -> None:
    transform(file, base64.b64encode(SELECTION.encode()).decode(), tmp_path / "a.parquet")
    (tmp_path / "script.py").write_text(SELECTION)
    command = [
        *(sys.executable, "-m", "servicex_server", "transform", str(file), "--codegen", "python"),
        *("--selection", f"@{tmp_path / 'script.py'}", "--output", str(tmp_path / "b.parquet"), "--json"),
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(printed)[0]["rows_out"] == 4
    assert (
        ak.from_parquet(tmp_path / "a.parquet").to_list() == ak.from_parquet(tmp_path / "b.parquet").to_list()
    )


@pytest.mark.parametrize(
    ("result_format", "compression"),
    [
        ("parquet", "gzip:2"),
        ("arrow", "none"),
        ("hdf5", "gzip:7"),
        ("root-file", "lzma:5"),
        ("root-rntuple", "none"),
    ],
)
def test_a_result_is_compressed_as_asked_and_names_its_origin(
    result_format: str, compression: str, file: Path, tmp_path: Path
) -> None:
    body = "return ak.zip({'x': np.zeros(50_000), 'y': np.zeros(50_000)}, depth_limit=1)"
    output = tmp_path / "out"
    transform(file, f"{HEAD}    {body}\n", output, result_format, compression=compression)
    origin: str | bytes | None = None
    match result_format:
        case "parquet":
            metadata = pq.read_metadata(output)
            assert metadata.row_group(0).column(0).compression == "GZIP"
            origin = metadata.metadata[b"servicex.provenance"]
        case "arrow":
            # Zeros, which any codec would have made small.
            assert output.stat().st_size > 2 * 8 * 50_000
            origin = pa.ipc.open_file(output).schema.metadata[b"servicex.provenance"]
        case "hdf5":
            with h5py.File(output) as result:
                assert result["servicex/x"].compression_opts == 7
                origin = result.attrs["provenance"]
        case "root-file":
            with uproot.open(output) as result:
                assert result.file.compression == uproot.LZMA(5)
        case _:
            assert output.stat().st_size > 2 * 8 * 50_000
    if origin is not None:
        assert json.loads(origin).keys() == {"plan", "engine"}


def test_reads_whole_files_only(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="reads files whole"):
        transform(file, SELECTION, tmp_path / "out.parquet", max_events=3)


def test_runs_nothing_where_it_is_switched_off(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownCodegen, match="switched off"):
        transform_file(
            str(file),
            codegen="python",
            selection=SELECTION,
            result_format=ResultFormat.PARQUET,
            output=tmp_path / "out.parquet",
            policy=CALLERS_OWN,
            sandbox=None,
        )


@pytest.fixture(scope="module")
def url(file: Path) -> Iterator[str]:
    """A web server with the folder of the input."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(file.parent))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_remote_file_is_fetched_and_removed_again(url: str, file: Path, tmp_path: Path) -> None:
    summary = transform(f"{url}/in:put.root", SELECTION, tmp_path / "out.parquet")
    assert ak.from_parquet(tmp_path / "out.parquet").x.to_list() == [2.0, 3.0, 6.0, 7.0]
    assert summary.bytes_read == file.stat().st_size
    stages = summary.tally.seconds
    assert min(stages.read, stages.filter, stages.encode) > 0
    assert stages.read + stages.filter + stages.encode <= summary.seconds
    assert summary.tally == Tally(seconds=stages)
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_the_next_replica_is_taken_when_one_cannot_be_read(url: str, tmp_path: Path, file: Path) -> None:
    arguments: dict[str, Any] = {
        "codegen": "python",
        "selection": SELECTION,
        "result_format": ResultFormat.PARQUET,
        "policy": CALLERS_OWN,
    }
    replicas = [f"{url}/gone.root", str(file)]
    summary = transform_file(replicas, output=tmp_path / "out.parquet", **arguments)
    assert summary.location == str(file)
    with pytest.raises(SourceUnavailable):
        transform_file(replicas[:1], output=tmp_path / "none.parquet", **arguments)


def test_the_code_is_bound_by_what_is_asked(file: Path, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="took longer than 2 s"):
        transform_file(
            str(file),
            codegen="python",
            selection="def run_query(path):\n    while True: pass",
            result_format=ResultFormat.PARQUET,
            output=tmp_path / "out.parquet",
            policy=CALLERS_OWN,
            sandbox=SandboxLimits(time_s=2.0),
        )


# -- a server --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    flags = ("--workers", "1", "--local-root", str(file.parent))
    environment = {"SERVICEX_PYTHON_MEMORY_BYTES": str(400 * 2**20), "SERVICEX_PYTHON_TIME_S": "60"}
    with ServerProcess(tmp_path_factory.mktemp("server") / "data", flags, environment) as running:
        yield running


def submit(server: ServerProcess, file: Path, source: str) -> httpx.Response:
    body = {
        "file-list": [str(file)],
        "selection": base64.b64encode(source.encode()).decode(),
        "codegen": "python",
        "result-destination": "object-store",
        "result-format": "parquet",
    }
    with server.client() as client:
        return client.post("/servicex/transformation", json=body)


def finish(server: ServerProcess, submitted: httpx.Response) -> tuple[str, int, int]:
    """How the request has ended, with the numbers of files that are done and that failed."""
    place = f"/servicex/transformation/{submitted.json()['request_id']}"
    with server.client() as client:
        while True:
            status: dict[str, Any] = client.get(place).json()
            if status["status"] in {"Complete", "Fatal", "Canceled"}:
                return status["status"], status["files-completed"], status["files-failed"]


def test_a_server_offers_them(server: ServerProcess) -> None:
    with server.client() as client:
        assert "python" in client.get("/servicex").json()["code-gen-image"]


def test_a_submit_with_broken_code_is_refused_with_the_line(server: ServerProcess, file: Path) -> None:
    answer = submit(server, file, "def run_query(path):\n    return (\n")
    assert answer.status_code == 400
    assert "line 2 of the code" in answer.json()["message"]


HOSTILE = [
    "import os, signal\n    os.kill(os.getppid(), signal.SIGKILL)\n    os.killpg(0, signal.SIGKILL)",
    "kept = []\n    while True: kept.append(bytearray(10**7))",
    "import os\n    while True: os.fork()",
    "return open(SERVER)",
    "import os\n    os._exit(9)",
]


def test_hostile_code_fails_its_file_and_leaves_the_server_as_it_was(
    server: ServerProcess, file: Path
) -> None:
    head = f"SERVER = {str(server.client_config)!r}\ndef run_query(path):\n    "
    hostile = [submit(server, file, f"{head}{body}\n") for body in HOSTILE]
    good = submit(server, file, SELECTION)
    assert [finish(server, each) for each in hostile] == [("Complete", 0, 1)] * len(HOSTILE)
    assert finish(server, good) == ("Complete", 1, 0)
    assert server.process is not None
    assert server.process.poll() is None
    scratch = server.data_dir / "store" / "scratch"
    assert not scratch.exists() or list(scratch.iterdir()) == []


@pytest.mark.long
def test_a_server_without_them_says_why(file: Path, tmp_path: Path) -> None:
    flags = ("--workers", "1", "--local-root", str(file.parent))
    with ServerProcess(tmp_path / "data", flags, {"SERVICEX_PYTHON_GENERATOR": "off"}) as server:
        with server.client() as client:
            assert "python" not in client.get("/servicex").json()["code-gen-image"]
        answer = submit(server, file, SELECTION)
    assert answer.status_code == 400
    assert "'python' is not offered here: the setting python_generator is off" in answer.json()["message"]


def test_check_tells_that_they_are_offered(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "servicex_server", "check", "--data-dir", str(tmp_path / "data")]
    printed = subprocess.run(
        [*command, "--output", "json"], capture_output=True, text=True, check=True
    ).stdout
    findings = {finding["subject"]: finding for finding in json.loads(printed)}
    assert findings["generator python"]["grade"] == "ok"
    assert "2 GiB and 900 s per file" in findings["generator python"]["detail"]
