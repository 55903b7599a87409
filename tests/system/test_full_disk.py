"""A worker whose disk is full: the file is worth another attempt, and its reason names the disk."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from http_thread import serving
from sandbox_here import sandbox_here
from servicex_server.run.sandbox.available import find_bwrap

__all__ = ["sandbox_here"]

pytestmark = pytest.mark.usefixtures("sandbox_here")

QUERY = '[{"treename": "Events", "expressions": ["nMuon"]}]'
ROOM_BYTES = 40_000


@pytest.fixture
def place(samples: Path, tmp_path: Path) -> Path:
    """A folder with an input file larger than the room that there will be, and an empty folder `small`."""
    shutil.copy(samples / "nano_dy.root", tmp_path / "input.root")
    (tmp_path / "small").mkdir()
    return tmp_path


class Whole(SimpleHTTPRequestHandler):
    """Serves files, but no ranges of them."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def transform(folder: Path, small: Path, codegen: str, selection: str, *paths: str) -> dict[str, object]:
    """What a worker reports to which `small` is a disk with little room, and the place of temporary files."""
    disk = ("--dev-bind", "/", "/", "--size", str(ROOM_BYTES), "--tmpfs", str(small))
    program = str(Path(__file__).with_name("one_unit.py"))
    done = subprocess.run(
        [
            *(find_bwrap() or "", *disk, "--setenv", "TMPDIR", str(small)),
            *(sys.executable, program, str(folder), codegen, selection, *paths),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    document: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return document


def test_a_file_that_has_to_be_fetched_whole_needs_room(place: Path) -> None:
    handler = partial(Whole, directory=str(place))
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        remote, local = f"{url}/input.root", str(place / "input.root")
        failed = transform(place, place / "small", "uproot-raw", QUERY, remote)
        assert (failed["reason"], failed["is_transient"]) == ("resources", True)
        assert failed["message"] == (
            f"cannot read {remote}: the server does not serve byte ranges, and the worker's disk cannot take "
            "the whole file (No space left on device)"
        )
        assert transform(place, place / "small", "uproot-raw", QUERY, remote, local) == {"path": local}


def test_what_code_returns_needs_room_and_the_code_is_not_blamed(place: Path) -> None:
    code = "def run_query(file_path):\n    import numpy as np\n    return np.zeros(10**6)\n"
    small = place / "store" / "scratch"
    small.mkdir(parents=True)
    selection = base64.b64encode(code.encode()).decode()
    failed = transform(place, small, "python", selection, str(place / "input.root"))
    assert failed == {
        "reason": "resources",
        "is_transient": True,
        "message": "the worker's disk is full: no room for what the code returned",
    }


def test_a_temporary_file_needs_room(place: Path) -> None:
    code = "def run_query(file_path):\n    return 1\n" + "# a long story\n" * 4_000
    selection = base64.b64encode(code.encode()).decode()
    failed = transform(place, place / "small", "python", selection, str(place / "input.root"))
    assert failed == {
        "reason": "resources",
        "is_transient": True,
        "message": "the worker's disk is full: No space left on device",
    }
