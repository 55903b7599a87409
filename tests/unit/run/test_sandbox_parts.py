"""The sandbox's parts that need no sandbox: command line, filter of system calls, availability, staging."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from servicex_server.app.checks import examine
from servicex_server.app.executor import build
from servicex_server.app.finding import Grade
from servicex_server.app.generators import look_for_generators
from servicex_server.app.settings import load
from servicex_server.errors import ResourceExhausted, SourceRefused, SourceUnavailable
from servicex_server.run.sandbox import stage
from servicex_server.run.sandbox.available import explain, why_unavailable
from servicex_server.run.sandbox.command import sandbox_command
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.syscalls import MACHINES, syscall_filter
from servicex_server.store.backends.local import LocalStore

KILL, ALLOW = 0x80000000, 0x7FFF0000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """What the kernel would answer: classic BPF, as far as the filter uses it."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    steps = [struct.unpack("<HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]
    position, accumulator = 0, 0
    while True:
        code, yes, no, value = steps[position]
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x06:
                return int(value)
            case _:
                holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value}
                position += yes if holds[code] else no


def refusal(error: int) -> int:
    return 0x00050000 | error


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_processes_and_sockets_and_lets_the_rest_pass(machine: str) -> None:
    program = syscall_filter(machine)
    assert program is not None
    here = ARCHITECTURES[machine]
    clone, socket, ptrace, read, mmap = {
        "x86_64": (56, 41, 101, 0, 9),
        "aarch64": (220, 198, 117, 63, 222),
    }[machine]
    assert verdict(program, here, read) == ALLOW
    assert verdict(program, here, socket) == refusal(errno.ENETUNREACH)
    assert verdict(program, here, ptrace) == refusal(errno.EPERM)
    assert verdict(program, here, clone, 0x01200011) == refusal(errno.EPERM)
    assert verdict(program, here, clone, 0x003D0F00) == ALLOW
    for flags, allowed in [(0x01, True), (0x22, True), (0x4022, True), (0x21, False), (0x8023, False)]:
        expected = ALLOW if allowed else refusal(errno.EPERM)
        assert verdict(program, here, mmap, 0, 4096, 3, flags, 2**64 - 1) == expected
    assert verdict(program, here, 435) == refusal(errno.ENOSYS)
    assert verdict(program, here, 0x40000000 + read) == refusal(errno.ENOSYS)
    assert verdict(program, 0x40000003, read) == KILL


def test_an_unknown_machine_has_no_filter_and_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    assert syscall_filter("riscv64") is None
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/bwrap")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    why_unavailable.cache_clear()
    reason = why_unavailable()
    why_unavailable.cache_clear()
    assert reason == "its filter of system calls knows x86_64 and aarch64, and this machine is riscv64"


def test_the_command_shows_the_interpreter_and_the_input_alone(tmp_path: Path) -> None:
    command = sandbox_command(
        "/bin/bwrap",
        SandboxLimits(tmp_bytes=123),
        filter_fd=9,
        shown=[(tmp_path / "x.root", "/input/x.root")],
        run=("python", "a"),
    )
    assert command[0] == "/bin/bwrap"
    assert command[-3:] == ["--", "python", "a"]
    bound = {command[at + 1] for at, word in enumerate(command) if word == "--ro-bind"}
    assert str(tmp_path / "x.root") in bound
    assert not {"/", "/etc", "/home", "/root", "/tmp", "/var", sys.prefix, sys.base_prefix} & bound
    assert not {"--bind", "--dev-bind", "--share-net", "--bind-try"} & set(command)
    assert {"--unshare-all", "--unshare-user", "--die-with-parent", "--clearenv"} <= set(command)
    assert command[command.index("--tmpfs") - 4 : command.index("--tmpfs") + 2] == [
        *("--size", "123", "--perms", "0700"),
        *("--tmpfs", "/tmp"),
    ]


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("bwrap: Unknown option --size", "this bubblewrap is too old (0.8 is needed)"),
        ("bwrap: No permissions to create new namespace", "unprivileged user namespaces must be allowed"),
        ("bwrap: setting up uid map: Permission denied", "unprivileged user namespaces must be allowed"),
        ("the package awkward does not show inside", "cannot be started: the package awkward"),
    ],
)
def test_explains_what_bubblewrap_says(said: str, shown: str) -> None:
    assert shown in explain(said)


def test_without_bubblewrap_the_generator_is_not_offered_and_check_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    why_unavailable.cache_clear()
    settings = load(data_dir=tmp_path)
    generators = look_for_generators(settings)
    findings = {finding.subject: finding for finding in examine(settings)}
    why_unavailable.cache_clear()
    assert "python" not in generators.offered
    assert {"uproot", "uproot-raw", "tcut"} <= set(generators.offered)
    assert "bubblewrap (the command bwrap) is not installed" in generators.withheld["python"]
    assert "python" not in findings["code generators"].detail
    assert findings["generator python"].grade is Grade.NOTE
    assert "bubblewrap" in findings["generator python"].detail


def test_a_setting_switches_the_generator_off(tmp_path: Path) -> None:
    generators = look_for_generators(load(data_dir=tmp_path, python_generator="off"))
    assert "python" not in generators.offered
    assert generators.withheld == {"python": "the setting python_generator is off"}


class Remote:
    """A source of some bytes."""

    location = "https://host/x.root"
    identity = "x"
    fingerprint = None
    bytes_read = 0

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)
        self.largest = 0

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        self.largest = max(self.largest, *(stop - start for start, stop in wanted))
        return [self._content[start:stop] for start, stop in wanted]

    def close(self) -> None:
        pass


def test_fetches_a_file_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PIECE_BYTES", 1000)
    content = bytes(range(256)) * 10
    source = Remote(content)
    with stage.staged(source, tmp_path, 10_000, math.inf) as path:
        assert path.read_bytes() == content
        assert stage.remove_abandoned(tmp_path) == 0
        assert list(tmp_path.iterdir()) == [path]
    assert source.largest == 1000
    assert list(tmp_path.iterdir()) == []


def test_fetching_ends_when_its_time_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "PIECE_BYTES", 2**20)
    source = Remote(bytes(3 * 2**20))
    with (
        pytest.raises(SourceUnavailable, match="could not be fetched in time: 1 MiB of 3 MiB came"),
        stage.staged(source, tmp_path, 2**30, time.monotonic()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("time_s", "fetch_time_s"), [(900, 2340), (3000, 1620), (10_000, 1620)])
def test_fetching_leaves_time_for_the_code(time_s: float, fetch_time_s: float) -> None:
    assert SandboxLimits(time_s=time_s, file_time_s=3240).fetch_time_s == fetch_time_s
    assert SandboxLimits(time_s=time_s).fetch_time_s == math.inf


def test_what_a_killed_process_had_fetched_is_gone_when_the_next_one_starts(tmp_path: Path) -> None:
    scratch = LocalStore(tmp_path / "store").scratch_folder()
    program = f"""
import math, os, signal
from pathlib import Path
from test_sandbox_parts import Remote
from servicex_server.run.sandbox.stage import staged
with staged(Remote(b"abc"), Path({str(scratch)!r}), 100, math.inf):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}
    killed = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [path.read_bytes() for path in scratch.iterdir()] == [b"abc"]
    (scratch / "another's.parquet").touch()
    build(
        store={"url": str(tmp_path / "store"), "min_free_bytes": 0},
        local_roots=[],
        forbidden_folders=[],
        allowed_private_hosts=[],
        n_threads=1,
        sandbox=None,
    )
    assert [path.name for path in scratch.iterdir()] == ["another's.parquet"]


def test_a_file_that_is_too_large_is_not_fetched(tmp_path: Path) -> None:
    source = Remote(bytes(2 * 2**20))
    with (
        pytest.raises(SourceRefused, match="has 2 MiB; a python query reads remote files of up to 1 MiB"),
        stage.staged(source, tmp_path, 2**20, math.inf),
    ):
        pass
    assert source.largest == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_not_fetched_onto_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SPARE_BYTES", 1 << 62)
    with (
        pytest.raises(ResourceExhausted, match="no space to fetch https"),
        stage.staged(Remote(b"abc"), tmp_path, 100, math.inf),
    ):
        pass


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("/data/x.root", "x.root"),
        ("/data/a b:c.root", "a_b_c.root"),
        ("https://host/a/x.root?token=secret", "x.root"),
        ("root://host//store/x.root", "x.root"),
        ("https://host/", "input.root"),
        ("https://host/..", "input.root"),
        ("https://host/%2e%2e%2fetc", "etc"),
        ("/data/-rf", "rf"),
        ("/data/" + "x" * 300 + ".root", "x" * 145 + ".root"),
    ],
)
def test_a_file_keeps_its_name_without_what_libraries_take_for_syntax(location: str, name: str) -> None:
    assert stage.plain_name(location) == name
