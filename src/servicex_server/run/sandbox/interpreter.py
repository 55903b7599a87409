"""Which files of this Python installation a sandbox has to show, and nothing else of the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

_SYSTEM_FOLDERS = ("usr/lib", "usr/lib32", "usr/lib64", "lib", "lib32", "lib64")
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo")


def executable() -> str:
    """The path of the interpreter, inside as outside."""
    return sys.executable


def mounts() -> Iterator[tuple[str, ...]]:
    """Arguments of bubblewrap that show system libraries, the interpreter and its packages, read-only."""
    for name in _SYSTEM_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            yield ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield _shown(folder)
    for file in map(Path, _SYSTEM_FILES):
        if file.exists():
            # A symbolic link is followed: what it leads to may not be there inside.
            yield ("--ro-bind", str(file.resolve()), str(file))
    for prefix in dict.fromkeys((Path(sys.base_prefix), Path(sys.prefix))):
        yield from _installation(prefix)


def _installation(prefix: Path) -> Iterator[tuple[str, ...]]:
    # Not the prefix as a whole: people keep data and configuration in there, too.
    for name in ("lib", "lib64"):
        folder = prefix / name
        if folder.is_symlink():
            yield ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir() and not _is_below_system(folder):
            yield _shown(folder)
    configuration = prefix / "pyvenv.cfg"
    if configuration.exists():
        yield _shown(configuration)
    program = Path(sys.executable)
    if not program.is_relative_to(prefix):
        return
    if program.is_symlink():
        real = Path(os.path.realpath(program))
        yield _shown(real)
        yield ("--symlink", str(real), str(program))
    else:
        yield _shown(program)


def _is_below_system(folder: Path) -> bool:
    return any(folder.is_relative_to(Path("/", name)) for name in _SYSTEM_FOLDERS)


def _shown(path: Path) -> tuple[str, ...]:
    return ("--ro-bind", str(path), str(path))
