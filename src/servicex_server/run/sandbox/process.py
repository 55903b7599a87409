"""One run of a script: a process is started, watched and, if need be, killed; its arrays come back."""

from __future__ import annotations

import json
import logging
import os
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from servicex_server.errors import (
    AttemptLost,
    ConfigurationError,
    QueryError,
    ResourceExhausted,
    SourceUnavailable,
)
from servicex_server.run.sandbox import interpreter
from servicex_server.run.sandbox.available import explain, find_bwrap, why_unavailable
from servicex_server.run.sandbox.command import INPUT_FOLDER, RUNNER, sandbox_command
from servicex_server.run.sandbox.limits import SandboxLimits, show_bytes
from servicex_server.run.sandbox.result import (
    BadResult,
    ScriptError,
    ScriptOutput,
    has_started,
    read_result,
)
from servicex_server.run.sandbox.syscalls import syscall_filter

logger = logging.getLogger(__name__)

_WATCH_INTERVAL_S = 0.1
_END_TIMEOUT_S = 10.0
_PRINTED_BYTES = 4096
_LIBRARY_BYTES = 2**30
"""Address space for libraries and their reservations, which the bound on private memory does not count."""
_SPARE_BYTES = 64 * 2**20
"""What RLIMIT_DATA does not count of a process that means well: its stack, relocated libraries."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """The file that a script reads.

    Attributes:
        path: where it is.
        name: what it is called inside.
        identity: size, time of last change (ns) and inode that it must have when it is opened inside; None
            for a file of our own.
    """

    path: Path
    name: str
    identity: tuple[int, int, int] | None = None


def run_script(
    source: str, input_file: InputFile, limits: SandboxLimits, scratch: Path
) -> tuple[ScriptOutput, ...]:
    """The arrays that the code's `run_query` returns for the file.

    Args:
        scratch: a folder on the disk that has room for the result.

    Raises:
        QueryError: the code failed, broke a bound or returned no arrays; says where.
        SourceUnavailable: the file has changed meanwhile.
        ResourceExhausted: the disk has no room for the result.
        ConfigurationError: no sandbox can be made here.
        AttemptLost: the sandbox did not start this time.
    """
    reason = why_unavailable()
    if reason is not None:
        message = f"python queries cannot run here: {reason}"
        raise ConfigurationError(message)
    limits = replace(limits, memory_bytes=min(limits.memory_bytes, _memory_left()))
    with tempfile.TemporaryFile(dir=scratch) as result, _job(source, input_file, limits) as job:
        ended = _run(input_file, limits, job, result)
        started = has_started(result.fileno())
        outcome = read_result(result.fileno()) if started and ended.broken_bound is None else None
    if isinstance(outcome, tuple):
        return outcome
    if not started and ended.broken_bound is None:
        message = f"the sandbox did not start: {explain(_last_line(ended.printed) or f'code {ended.code}')}"
        raise AttemptLost(message)
    if isinstance(outcome, ScriptError) and outcome.kind == "input":
        raise _check_input(input_file)
    raise _to_error(outcome, ended, limits)


def _memory_left() -> int:
    """What this process may use itself, in bytes: no child may use more."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a process ended.

    Attributes:
        code: as a shell tells it: 128 and the number of the signal that killed it.
        printed: the end of what it printed.
        broken_bound: the bound for which it was killed, in words.
    """

    code: int
    printed: str
    broken_bound: str | None


@contextmanager
def _job(source: str, input_file: InputFile, limits: SandboxLimits) -> Iterator[IO[bytes]]:
    """A file with the job, to be read from its start."""
    try:
        n_bytes = input_file.path.stat().st_size
    except OSError as error:
        message = f"cannot read {input_file.path}: {error.strerror}"
        raise SourceUnavailable(message) from error
    job = {
        "source": source,
        "path": f"{INPUT_FOLDER}/{input_file.name}",
        "identity": input_file.identity,
        "bounds": {
            "RLIMIT_DATA": limits.memory_bytes,
            "RLIMIT_AS": limits.memory_bytes + n_bytes + _LIBRARY_BYTES,
            "RLIMIT_FSIZE": limits.memory_bytes,
            "RLIMIT_CPU": int(limits.time_s * (os.cpu_count() or 1)) + 10,
            "RLIMIT_NPROC": limits.n_threads,
            "RLIMIT_NOFILE": limits.n_descriptors,
            "RLIMIT_CORE": 0,
        },
    }
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(job).encode())
        file.seek(0)
        yield file


def _run(input_file: InputFile, limits: SandboxLimits, job: IO[bytes], result: IO[bytes]) -> _Ended:
    with tempfile.TemporaryFile() as program:
        program.write(syscall_filter() or b"")
        program.seek(0)
        command = sandbox_command(
            find_bwrap() or "",
            limits,
            filter_fd=program.fileno(),
            shown=[(input_file.path, f"{INPUT_FOLDER}/{input_file.name}")],
            # -I: nothing is imported from the folder it runs in, no variable is heard.
            run=(interpreter.executable(), "-I", "-X", "utf8", RUNNER, str(result.fileno())),
        )
        process = subprocess.Popen(
            command,
            stdin=job,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(result.fileno(), program.fileno()),
            env={},
        )
    with process:
        try:
            return _watch(process, limits)
        finally:
            process.kill()  # its children die with it


def _watch(process: subprocess.Popen[bytes], limits: SandboxLimits) -> _Ended:
    """Waits for the end, which comes when nobody holds the other end of the pipe any more."""
    deadline = time.monotonic() + limits.time_s
    printed = b""
    broken: str | None = None
    assert process.stdout is not None  # noqa: S101  a pipe was asked for
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(_WATCH_INTERVAL_S):
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    break
                printed = (printed + piece)[-_PRINTED_BYTES:]
            elif process.poll() is not None:
                break
            if broken is None:
                broken = _broken_bound(process.pid, deadline, limits)
                if broken is not None:
                    process.kill()
                    deadline = time.monotonic() + _END_TIMEOUT_S
            elif time.monotonic() > deadline:
                break  # something hangs in the kernel; it dies when it can
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_TIMEOUT_S)
    code = process.returncode if process.returncode is not None else 128 + signal.SIGKILL
    return _Ended(code if code >= 0 else 128 - code, printed.decode(errors="replace"), broken)


def _broken_bound(pid: int, deadline: float, limits: SandboxLimits) -> str | None:
    if time.monotonic() > deadline:
        return f"took longer than {limits.time_s:g} s"
    n_bytes = 0
    for child in _processes_below(pid):
        # Of one that has just ended nothing can be told.
        with suppress(OSError):
            # For the superuser the kernel does not count them, whatever user he is inside.
            if _count_threads(child) > limits.n_threads:
                return f"started more than {limits.n_threads} threads"
            n_bytes += _private_bytes(child)
    # RLIMIT_DATA forgets pages that were filled and then made read-only.
    if n_bytes > limits.memory_bytes + _SPARE_BYTES:
        return f"used more than {show_bytes(limits.memory_bytes)} of memory"
    return None


def _count_threads(pid: int) -> int:
    # Links of a folder: one for each subfolder and two of its own.
    return Path(f"/proc/{pid}/task").stat().st_nlink - 2


def _private_bytes(pid: int) -> int:
    """Memory of a process that belongs to no file: resident pages, less those shared or of files."""
    _, resident, shared, *_ = map(int, Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split())
    return (resident - shared) * resource.getpagesize()


def _processes_below(pid: int) -> Iterator[int]:
    """The processes that a process has started, and those that they have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        return
    for child in children:
        yield int(child)
        yield from _processes_below(int(child))


def _check_input(input_file: InputFile) -> QueryError | SourceUnavailable:
    """What to make of a word from inside that the file has changed, which code may say by itself.

    Were it believed, each replica would be tried, again and again, for an error of the code.
    """
    if input_file.identity is not None:
        try:
            status = input_file.path.stat()
        except OSError as error:
            return SourceUnavailable(f"cannot read {input_file.path}: {error.strerror}")
        if (status.st_size, status.st_mtime_ns, status.st_ino) != input_file.identity:
            return SourceUnavailable(f"{input_file.path} changed while it was opened")
    return BadResult("the code has tampered with its result: it says that the file has changed")


def _to_error(
    error: ScriptError | None, ended: _Ended, limits: SandboxLimits
) -> QueryError | ResourceExhausted:
    """What the user is told."""
    if ended.broken_bound is not None:
        return QueryError(f"the query {ended.broken_bound} and was stopped")
    if error is None:
        return QueryError(_describe_end(ended))
    place = f" (line {error.line} of the code: {error.text})" if error.line else ""
    match error.kind:
        case "memory":
            return QueryError(f"the query used more than {show_bytes(limits.memory_bytes)} of memory{place}")
        case "size":
            what = "wrote a file" if error.line else "returned a result"
            return QueryError(f"the query {what} of more than {show_bytes(limits.memory_bytes)}{place}")
        case "disk":
            # Code that says so by itself is tried as often as a file may be, and no more.
            return ResourceExhausted("the worker's disk is full: no room for what the code returned")
        case "exit":
            return QueryError(f"the code ended its process ({error.message}) instead of returning{place}")
        case "returned":
            return QueryError(error.message)
    hint = ""
    if error.message.startswith("NameError"):
        hint = "; the client sends the function alone: import inside of it"
    return QueryError(f"the code raised {error.message}{place}{hint}{_show_printed(ended.printed)}")


def _describe_end(ended: _Ended) -> str:
    printed = _show_printed(ended.printed)
    if ended.code <= 128:
        return f"the code ended its process with code {ended.code} instead of returning{printed}"
    number = ended.code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    hint = {
        "SIGKILL": ", by itself or for want of memory",
        "SIGXCPU": ": it used too much processor time",
        "SIGSYS": ": it made a system call of another machine",
    }.get(name, "")
    return f"the code's process was ended by signal {name}{hint}{printed}"


def _show_printed(printed: str) -> str:
    line = _last_line(printed)
    return f"; it printed last: {line:.300}" if line else ""


def _last_line(printed: str) -> str:
    return next((line for line in reversed(printed.splitlines()) if line.strip()), "").strip()
