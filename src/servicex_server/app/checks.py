"""What is configured and reachable, as a list of findings for an operator."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version

import httpx

from servicex_server.app.datadir import DataDir, is_inside
from servicex_server.app.generators import look_for_generators
from servicex_server.app.settings import Settings
from servicex_server.db import schema
from servicex_server.errors import ConfigurationError
from servicex_server.run.sandbox.available import describe
from servicex_server.run.sandbox.limits import show_bytes

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Grade(StrEnum):
    """How a finding stands."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    grade: Grade
    detail: str


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything that the settings name; changes nothing."""
    return [
        _versions(),
        _folder(settings),
        _database(settings),
        *_roots(settings),
        _access(settings),
        *_generators(settings),
        _xrootd(),
        _server(settings),
    ]


def _versions() -> Finding:
    parts = (f"{name} {version(name)}" for name in ("servicex-server", "uproot", "awkward", "pyarrow"))
    return Finding("versions", Grade.OK, f"Python {platform.python_version()}, " + ", ".join(parts))


def _folder(settings: Settings) -> Finding:
    folder = settings.data_dir
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(
            "data folder", Grade.FAIL, f"{folder}: {existing} is not writable for you; use --data-dir"
        )
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {free / 2**30:.1f} GiB free"
    if free < settings.min_free_bytes:
        needed = f"; results are refused below {settings.min_free_bytes / 2**30:.1f} GiB (min_free_bytes)"
        return Finding("data folder", Grade.FAIL, detail + needed)
    return Finding("data folder", Grade.OK, detail if folder.exists() else f"{detail}, made at first start")


def _database(settings: Settings) -> Finding:
    data = DataDir(settings.data_dir)
    if not data.database.exists():
        return Finding("database", Grade.NOTE, f"{data.database}, made at first start")
    try:
        schema.check(data.database_url)
    except ConfigurationError as error:
        return Finding("database", Grade.FAIL, error.message)
    return Finding("database", Grade.OK, f"{data.database}, schema up to date")


def _roots(settings: Settings) -> Iterator[Finding]:
    for root in settings.local_roots:
        if is_inside(root, settings.data_dir):
            yield Finding(
                "local root", Grade.FAIL, f"{root} lies in the data folder, which inputs are never read from"
            )
        elif root.is_dir() and os.access(root, os.R_OK | os.X_OK):
            yield Finding("local root", Grade.OK, str(root))
        else:
            yield Finding(
                "local root", Grade.WARNING, f"{root} is not a readable folder; no file can come from it"
            )
    if not settings.local_roots:
        yield Finding("local root", Grade.NOTE, "none: only http(s):// and root:// inputs are allowed")


def _access(settings: Settings) -> Finding:
    if settings.auth:
        return Finding(
            "access", Grade.OK, f"token asked for; yours is in {DataDir(settings.data_dir).client_config}"
        )
    if settings.host in LOOPBACK:
        return Finding("access", Grade.NOTE, "open to every user of this machine (auth is off)")
    return Finding("access", Grade.WARNING, f"open to everybody who reaches {settings.host} (auth is off)")


def _generators(settings: Settings) -> Iterator[Finding]:
    generators = look_for_generators(settings)
    yield Finding("code generators", Grade.OK, ", ".join(sorted(generators.offered)))
    for name, reason in generators.withheld.items():
        yield Finding(f"generator {name}", Grade.NOTE, f"not offered: {reason}")
    if "python" in generators.offered:
        bounds = f"{show_bytes(settings.python_memory_bytes)} and {settings.python_time_s:g} s per file"
        yield Finding("generator python", Grade.OK, f"in a sandbox by {describe()}, {bounds}")


def _xrootd() -> Finding:
    if importlib.util.find_spec("XRootD") is not None:
        return Finding("root:// inputs", Grade.OK, "the xrootd package is installed")
    return Finding("root:// inputs", Grade.NOTE, "not available: pip install 'servicex-server[xrootd]'")


def _server(settings: Settings) -> Finding:
    url = DataDir(settings.data_dir).read_url()
    if url is None:
        return Finding(
            "server", Grade.NOTE, "not running on this data folder; start it with `servicex-server up`"
        )
    try:
        answer = httpx.get(f"{url}/readyz", timeout=5.0)
    except httpx.HTTPError as error:
        return Finding("server", Grade.WARNING, f"{url} does not answer ({type(error).__name__})")
    grade = Grade.OK if answer.status_code == 200 else Grade.WARNING
    return Finding("server", grade, f"{url} answers {answer.status_code} to /readyz")
