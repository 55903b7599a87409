"""A real Rucio server on https://localhost: gunicorn and SQLite, with names, passwords and certificates."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import pytest

from grid_pki import Pair, TestAuthority
from xrootd_server import free_port

ROOT = Path(__file__).parents[1]
DRIVERS = Path(__file__).parent / "interop" / "drivers"
START_S = 60.0
USERNAME, PASSWORD = "tester", "a-secret-of-tests"

_CONFIG = """\
[common]
logdir = {folder}
loglevel = WARNING
[database]
default = sqlite:///{folder}/rucio.db
[bootstrap]
userpass_identity = {username}
userpass_pwd = {password}
userpass_email = tester@servicex.test
x509_identity = {subject}
x509_email = jane@servicex.test
gss_identity = tester@SERVICEX.TEST
gss_email = tester@servicex.test
ssh_identity = none
ssh_email = tester@servicex.test
[client]
request_retries = 3
auth_token_file_path = {folder}/token
[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
[api]
endpoints = accounts, auth, config, dids, identities, ping, replicas, rses, rules, scopes
[alembic]
cfg = {folder}/alembic.ini
"""


@dataclass(frozen=True, slots=True)
class CatalogueFile:
    """A file as it is put into the catalogue; without `pfn` it lies at a site that is down."""

    name: str
    size_bytes: int = 1
    adler32: str = "00000001"
    n_events: int | None = None
    pfn: str | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """What the catalogue knows, all of it in the scope `test`: data sets by files, containers by data sets.

    Attributes:
        host: of the storage that all replicas lie at; with `port`.
    """

    files: Sequence[CatalogueFile]
    datasets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    containers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    host: str = "localhost"
    port: int = 1094


@dataclass(frozen=True, slots=True)
class RucioServer:
    """A running server; `root` is the account of the name, the password, and the user of the certificate."""

    url: str
    ca_file: Path
    log: Path


def require_rucio() -> Path:
    """Python with Rucio; skips the test where there is none, which in CI is an error."""
    python = Path(os.environ.get("SERVICEX_TEST_RUCIO", ROOT / ".venv-rucio" / "bin" / "python"))
    if not python.exists():
        message = "the environment of Rucio is missing; `make rucio` makes it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return python


@contextlib.contextmanager
def running_rucio(
    folder: Path, authority: TestAuthority, host: Pair, user: Pair, content: Content
) -> Iterator[RucioServer]:
    """Starts it in a folder of its own, and fills it."""
    python = require_rucio()
    folder.mkdir()
    subject = ",".join(reversed(user.subject.strip("/").split("/")))
    config = _CONFIG.format(folder=folder, username=USERNAME, password=PASSWORD, subject=subject)
    (folder / "rucio.cfg").write_text(config)
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG"}}
    environment |= {
        "HOME": str(folder),
        "RUCIO_HOME": str(folder),
        "RUCIO_CONFIG": str(folder / "rucio.cfg"),
        "RUCIO_TEST_CERT": str(host.cert),
        "RUCIO_TEST_KEY": str(host.key),
        "RUCIO_TEST_CA": str(authority.ca_file),
    }
    template = python.parents[1] / "rucio" / "etc" / "alembic.ini.template"
    migrations = next(python.parents[1].glob("lib/python*/site-packages/rucio/db/sqla/migrate_repo"))
    lines = [
        f"script_location = {migrations}" if line.startswith("script_location") else line
        for line in template.read_text().splitlines()
        if not line.startswith(("sqlalchemy.url", "version_table_schema", "default"))
    ]
    lines.insert(lines.index("[alembic]") + 1, f"sqlalchemy.url = sqlite:///{folder}/rucio.db")
    (folder / "alembic.ini").write_text("\n".join(lines) + "\n")
    _run([str(python), str(python.parents[1] / "rucio" / "tools" / "bootstrap.py")], environment)
    port = free_port()
    server = RucioServer(f"https://localhost:{port}", authority.ca_file, folder / "server.log")
    command = [str(python), "-m", "gunicorn", "-b", f"127.0.0.1:{port}", "-c", str(DRIVERS / "rucio_app.py")]
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [*command, "rucio_app:application"], cwd=DRIVERS, env=environment, stdout=log, stderr=log
        )
    try:
        _wait_until_ready(process, server)
        job = asdict(content) | {
            "url": server.url,
            "ca_file": str(server.ca_file),
            "username": USERNAME,
            "password": PASSWORD,
        }
        _run([str(python), str(DRIVERS / "rucio_fill.py")], environment, json.dumps(job))
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(command: Sequence[str], environment: Mapping[str, str], text: str = "") -> None:
    done = subprocess.run(command, env=environment, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        message = f"{command[-1]} failed: {(done.stdout + done.stderr)[-3000:]}"
        raise RuntimeError(message)


def _wait_until_ready(process: subprocess.Popen[bytes], server: RucioServer) -> None:
    end = time.monotonic() + START_S
    trust = ssl.create_default_context(cafile=str(server.ca_file))
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{server.url}/ping", verify=trust, timeout=10).is_success:
                return
        time.sleep(0.1)
    message = f"Rucio does not start: {server.log.read_text(errors='replace')[-3000:]}"
    raise RuntimeError(message)
