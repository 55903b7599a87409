"""The command line of bubblewrap: what a script sees, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from servicex_server.run.sandbox import interpreter
from servicex_server.run.sandbox.limits import SandboxLimits

PROGRAM = "bwrap"
NOBODY = 65534
INSIDE = Path(__file__).with_name("inside.py")
RUNNER = "/sandbox/inside.py"
INPUT_FOLDER = "/input"

_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",  # noqa: S108  its own, in memory
    "TMPDIR": "/tmp",  # noqa: S108
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


def sandbox_command(
    bwrap: str,
    limits: SandboxLimits,
    *,
    filter_fd: int,
    shown: Sequence[tuple[Path, str]],
    run: Sequence[str],
) -> list[str]:
    """The command that runs `run` in a sandbox.

    Its own user, process, network, IPC and host name namespaces; no capabilities; a file system that is
    read-only but for a bounded `/tmp`; it dies with its parent.

    Args:
        bwrap: the path of bubblewrap.
        filter_fd: descriptor of the filter of system calls.
        shown: files to show read-only, each with its path inside.
        run: program and arguments, by their paths inside.
    """
    parts: list[tuple[str, ...]] = [
        ("--unshare-all", "--unshare-user"),  # the latter: refuse rather than go on without
        ("--die-with-parent", "--new-session"),
        ("--cap-drop", "ALL"),
        ("--uid", str(NOBODY), "--gid", str(NOBODY)),
        ("--hostname", "sandbox"),
        # First of all mounts: the interpreter itself may be somewhere below.
        ("--size", str(limits.tmp_bytes), "--perms", "0700", "--tmpfs", "/tmp"),  # noqa: S108
        *interpreter.mounts(),
        ("--ro-bind", str(INSIDE), RUNNER),
        *(("--ro-bind", str(path), inside) for path, inside in shown),
        ("--proc", "/proc"),
        ("--dev", "/dev"),
        # A shared mapping of it is memory that nothing bounds; a device that is bound so cannot be opened.
        ("--ro-bind", "/dev/null", "/dev/zero"),
        # bubblewrap's own root and /dev live in memory that nothing bounds.
        ("--remount-ro", "/dev", "--remount-ro", "/"),
        ("--chdir", "/tmp"),  # noqa: S108
        ("--clearenv",),
        *(("--setenv", name, value) for name, value in _ENVIRONMENT.items()),
        ("--seccomp", str(filter_fd)),
        ("--", *run),
    ]
    return [bwrap, *(argument for part in parts for argument in part)]
