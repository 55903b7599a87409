"""A real XRootD server on 127.0.0.1 for tests: Debian's `xrootd`, without access control."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from grid_pki import Pair

_CONFIG = """\
all.export /store r/o
oss.localroot {folder}/data
all.adminpath {folder}/admin
all.pidpath {folder}/run
xrd.port {port}
xrd.network nodnr
xrd.protocol http:{http_port} libXrdHttp.so
"""

_TLS = """\
xrd.tls {folder}/host.pem {folder}/host.key
xrd.tlsca noverify
"""

_FORWARDING = """\
all.export /root:/ r/o
all.adminpath {folder}/admin
all.pidpath {folder}/run
xrd.port {port}
xrd.network nodnr
ofs.osslib libXrdPss.so
pss.origin =
"""

START_S = 15.0


@dataclass(frozen=True, slots=True)
class XrootdServer:
    """A running server; what lies in `folder` is served below `/store`.

    Attributes:
        port: for root://.
        http_port: for http://, and https:// where it has a certificate.
        pid: of the process, to be stopped by a signal.
    """

    port: int
    http_port: int
    folder: Path
    log: Path
    pid: int

    def url(self, name: str, host: str = "localhost", port: int | None = None) -> str:
        return f"root://{host}:{port or self.port}//store/{name}"

    def http_url(
        self, name: str, host: str = "localhost", port: int | None = None, *, scheme: str = "http"
    ) -> str:
        return f"{scheme}://{host}:{port or self.http_port}/store/{name}"


def require_xrootd() -> None:
    """Skips the test, with a reason, where there is no server; in CI that is an error."""
    missing = []
    if shutil.which("xrootd") is None:
        missing.append("the program xrootd (apt-get install xrootd-server)")
    try:
        import XRootD.client  # noqa: F401, PLC0415  (only to see whether it is there)
    except ImportError:
        missing.append("the Python package xrootd")
    if missing:
        message = f"missing for root:// tests: {', '.join(missing)}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def running_xrootd(files: Mapping[str, Path], certificate: Pair | None = None) -> Iterator[XrootdServer]:
    """Serves copies of `files` under their keys; over https, too, with a certificate."""
    with _folder() as folder:
        for name, source in files.items():
            shutil.copyfile(source, folder / "data" / "store" / name)
        port, http_port = free_port(), free_port()
        config = _CONFIG
        if certificate is not None:
            config += _TLS
            shutil.copyfile(certificate.cert, folder / "host.pem")
            shutil.copyfile(certificate.key, folder / "host.key")
            (folder / "host.key").chmod(0o400)
        (folder / "server.cfg").write_text(config.format(folder=folder, port=port, http_port=http_port))
        with _process(folder, port) as pid:
            log = folder / "log" / "server.log"
            yield XrootdServer(port, http_port, folder / "data" / "store", log, pid)


@contextlib.contextmanager
def running_redirector(target: str, port: int | None = None) -> Iterator[XrootdServer]:
    """Has nothing itself, and sends all who ask on to `target`, a host with its port."""
    with _folder() as folder:
        port, http_port = port or free_port(), free_port()
        config = _CONFIG + "xrootd.redirect {target} all /store\n"
        (folder / "server.cfg").write_text(
            config.format(folder=folder, port=port, http_port=http_port, target=target)
        )
        with _process(folder, port) as pid:
            yield XrootdServer(port, http_port, folder / "data" / "store", folder / "log" / "server.log", pid)


@contextlib.contextmanager
def running_xcache() -> Iterator[str]:
    """The prefix of a server that reads `root://host//path` for those who ask for it below that prefix."""
    with _folder() as folder:
        port = free_port()
        (folder / "server.cfg").write_text(_FORWARDING.format(folder=folder, port=port))
        with _process(folder, port):
            yield f"root://localhost:{port}//"


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    # Not below pytest's folder: the server drops root's rights and could not pass the folders above.
    folder = Path(tempfile.mkdtemp(prefix="xrootd-test-"))
    try:
        for name in ("data/store", "admin", "run", "log"):
            (folder / name).mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _process(folder: Path, port: int) -> Iterator[int]:
    process = start_program(folder)
    try:
        wait_until_listening(process, port, folder / "log" / "server.log")
        yield process.pid
    finally:
        process.kill()
        process.wait()


def start_program(
    folder: Path, *, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Starts the server of the folder's `server.cfg`, as another user where this one is root.

    Args:
        environment: additions to this process's environment.
        prefix: command that starts the server's.
    """
    program = shutil.which("xrootd") or "xrootd"
    command = [program, "-c", str(folder / "server.cfg"), "-l", str(folder / "log" / "server.log")]
    if os.geteuid() == 0:
        # The server refuses to run as root.
        folder.chmod(0o755)
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "xrootd", "xrootd")
        command = ["setpriv", "--reuid=xrootd", "--regid=xrootd", "--init-groups", *command]
    variables = {**os.environ, "HOME": str(folder), **(environment or {})}
    return subprocess.Popen(
        [*prefix, *command], env=variables, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when the server listens; raises RuntimeError with the end of its log if it does not."""
    end = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    text = log.read_text(errors="replace")[-2000:] if log.exists() else ""
    message = f"xrootd does not start: {text}"
    raise RuntimeError(message)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
