"""What is configured and reachable, as a list of findings for an operator."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import httpx

from servicex_server.app import database
from servicex_server.app.datadir import DataDir, is_inside
from servicex_server.app.finding import Finding, Grade
from servicex_server.app.generators import look_for_generators
from servicex_server.app.grid_checks import examine_grid
from servicex_server.app.oversight import find_misspelt, find_oversights
from servicex_server.app.ports import is_deployment, local_roots
from servicex_server.app.remote_checks import examine_remote
from servicex_server.app.room import examine_room, show_free
from servicex_server.app.settings import LOOPBACK, Settings
from servicex_server.app.tokens import find_holder
from servicex_server.db.engine import show_url
from servicex_server.errors import ConfigurationError, DatabaseUnavailable
from servicex_server.run.sandbox.available import describe
from servicex_server.run.sandbox.limits import show_bytes

_ANSWER_WITHIN_S = 5.0


def examine(settings: Settings) -> list[Finding]:
    """Looks at everything that the settings name; leaves nothing behind.

    Of a deployment the roles have nothing to do with what `servicex-server up` keeps in its data folder.
    """
    return [
        _versions(),
        _folder(settings),
        _database(settings),
        *examine_remote(settings),
        *_roots(settings),
        *_generators(settings),
        _xrootd(),
        *examine_grid(settings),
        *(_app(settings) if is_deployment(settings) else (*_server(settings), _client_file(settings))),
        *_oversights(settings),
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
    if is_deployment(settings):
        return Finding("data folder", Grade.OK, f"{folder}, {show_free(free)}")
    finding = examine_room("data folder", str(folder), free, settings)
    is_new = finding.grade is Grade.OK and not folder.exists()
    return replace(finding, detail=f"{finding.detail}, made at first start") if is_new else finding


def _database(settings: Settings) -> Finding:
    file = DataDir(settings.data_dir).database
    is_external = database.is_external(settings)
    if not is_external and is_deployment(settings):
        return Finding(
            "database", Grade.NOTE, "none: apps and sweepers need SERVICEX_DATABASE_URL, workers none"
        )
    if not is_external and not file.exists():
        return Finding("database", Grade.NOTE, f"{file}, made at first start")
    try:
        database.check(settings)
        where = show_url(database.database_url(settings)) if is_external else file
    except ConfigurationError as error:
        return Finding("database", Grade.FAIL, error.message)
    return Finding("database", Grade.OK, f"{where}, schema up to date")


def _roots(settings: Settings) -> Iterator[Finding]:
    roots = local_roots(settings)
    for root in roots:
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
    if not roots:
        yield Finding("local root", Grade.NOTE, "none: only http(s):// and root:// inputs are allowed")


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


def _server(settings: Settings) -> Iterator[Finding]:
    """Whether a server runs on the folder, and whom it lets in; what the settings say only if none does."""
    url = DataDir(settings.data_dir).read_url()
    if url is None:
        start = "not running on this data folder; start it with `servicex-server up`"
        yield Finding("server", Grade.NOTE, start)
        yield _access(settings.auth, settings.host, "a server started with these settings is")
        return
    try:
        with httpx.Client(base_url=url, timeout=_ANSWER_WITHIN_S) as client:
            ready = client.get("/readyz").status_code
            anonymous = client.get("/servicex").status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        detail = f"{url} does not answer ({type(error).__name__}); it was killed, or is elsewhere"
        yield Finding("server", Grade.WARNING, detail)
        return
    grade = Grade.OK if ready == httpx.codes.OK else Grade.WARNING
    yield Finding("server", grade, f"{url} answers {ready} to /readyz")
    if anonymous in {httpx.codes.OK, httpx.codes.UNAUTHORIZED}:
        yield _access(anonymous != httpx.codes.OK, httpx.URL(url).host, f"{url} is")
    else:
        yield Finding("access", Grade.WARNING, f"{url} answers {anonymous} to /servicex without a token")


def _app(settings: Settings) -> Iterator[Finding]:
    """Whom an app lets in; nothing where only workers run."""
    if settings.database_url is not None:
        yield _access(settings.auth, settings.host, "an app started with these settings is")


def _oversights(settings: Settings) -> Iterator[Finding]:
    """What a server would be told at its start; workers listen to nobody."""
    is_deployed = is_deployment(settings)
    serves = not is_deployed or settings.database_url is not None
    found = find_oversights(settings, is_one_of_several=is_deployed) if serves else find_misspelt()
    for oversight in found:
        yield Finding(oversight.subject, Grade.WARNING, oversight.text)


def _access(asks_token: bool, host: str, whose: str) -> Finding:
    if asks_token:
        return Finding("access", Grade.OK, f"{whose} closed: it asks for a token")
    if host in LOOPBACK:
        return Finding("access", Grade.NOTE, f"{whose} open to every user of this machine (auth is off)")
    return Finding("access", Grade.WARNING, f"{whose} open to everybody who reaches {host} (auth is off)")


def _client_file(settings: Settings) -> Finding:
    """Whether the client's configuration is there, and its token one that works."""
    data = DataDir(settings.data_dir)
    path = data.client_config
    subject = "client file"
    if not path.exists():
        return Finding(subject, Grade.NOTE, f"{path}, made at first start")
    token = data.read_client_token()
    if token is None:
        return Finding(subject, Grade.NOTE, f"{path} carries no token: it serves an open server only")
    try:
        database.check(settings)
        holder = find_holder(settings, token)
    except (ConfigurationError, DatabaseUnavailable) as error:
        return Finding(subject, Grade.WARNING, f"{path}: its token cannot be looked up: {error.message}")
    if holder is None:
        remedy = "the next start puts a good one there"
        return Finding(subject, Grade.WARNING, f"{path}: its token does not work (any more); {remedy}")
    return Finding(subject, Grade.OK, f"{path} carries the token of {holder}")
