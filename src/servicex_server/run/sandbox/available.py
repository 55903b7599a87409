"""Whether scripts can be locked away on this machine; where not, they are not run at all."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import tempfile

from servicex_server.run.sandbox import interpreter
from servicex_server.run.sandbox.command import PROGRAM, sandbox_command
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.syscalls import MACHINES, syscall_filter

NEEDED_MODULES = ("awkward", "numpy", "uproot")
_PROBE_TIMEOUT_S = 60.0
_PROBE = (
    "import importlib.util as u, os, sys\n"
    f"missing = [name for name in {NEEDED_MODULES!r} if u.find_spec(name) is None]\n"
    "if os.getuid() != 65534: sys.exit('the user is the same inside')\n"
    "if missing: sys.exit(f'the package {missing[0]} does not show inside')\n"
)


@functools.cache
def why_unavailable() -> str | None:
    """Why no sandbox can be made here, with what would help; None if it can. Tried once per process."""
    bwrap = shutil.which(PROGRAM)
    if bwrap is None:
        return (
            "bubblewrap (the command bwrap) is not installed; distributions have it as the package bubblewrap"
        )
    program = syscall_filter()
    if program is None:
        known = " and ".join(MACHINES)
        return f"its filter of system calls knows {known}, and this machine is {platform.machine()}"
    return _probe(bwrap, program)


def find_bwrap() -> str | None:
    """The path of bubblewrap, if it is installed."""
    return shutil.which(PROGRAM)


def describe() -> str:
    """Which bubblewrap there is, by its own words."""
    bwrap = find_bwrap()
    if bwrap is None:
        return PROGRAM
    ran = subprocess.run([bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False)
    return ran.stdout.strip() or PROGRAM


def _probe(bwrap: str, program: bytes) -> str | None:
    with tempfile.TemporaryFile() as file:
        file.write(program)
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        run = (interpreter.executable(), "-I", "-c", _PROBE)
        command = sandbox_command(bwrap, SandboxLimits(), filter_fd=file.fileno(), shown=(), run=run)
        try:
            ran = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_PROBE_TIMEOUT_S,
                pass_fds=(file.fileno(),),
                env={},
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"a sandbox cannot be started: {error}"
    if ran.returncode == 0:
        return None
    lines = ran.stderr.strip().splitlines()
    return explain(lines[-1] if lines else f"it ended with code {ran.returncode}")


def explain(problem: str) -> str:
    """What bubblewrap said, with what an operator may do about it."""
    said = problem.removeprefix("bwrap: ")[:300]
    if "Unknown option" in said:
        return f"this bubblewrap is too old (0.8 is needed): {said}"
    if "namespace" in said or "Operation not permitted" in said or "uid map" in said:
        hint = (
            "unprivileged user namespaces must be allowed (sysctl kernel.unprivileged_userns_clone, AppArmor)"
        )
        return f"the kernel refuses a sandbox: {said}; {hint}"
    return f"a sandbox cannot be started: {said}"
