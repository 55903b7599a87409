"""What a Rucio server answers to a finder, from a server of our own that can be told to fail."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

PASSWORD = "a very secret password"


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with one call.

    Attributes:
        status: of the answer; 0 for a connection that is cut.
        after_lines: a good answer is cut after so many lines, instead.
    """

    status: int = 0
    after_lines: int | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class FakeRucio:
    """Knows data sets, and where files lie: at two sites, unless `pfns` says otherwise.

    Attributes:
        datasets: by `scope:name` their files, or the number of these.
        pfns: by the name of a file.
        faults: by the first part of the path (`auth`, `dids`, `replicas`); each goes wrong once, in turn.
        calls: paths in the order in which they were asked for.
        asked: bodies of the calls for replicas.
    """

    datasets: dict[str, int | Sequence[str]] = field(default_factory=dict)
    pfns: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    token_life_s: float = 3600.0
    url: str = ""
    calls: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)

    def of_kind(self, kind: str) -> list[str]:
        return [call for call in self.calls if call.startswith(f"/{kind}/")]

    def files(self, did: str) -> Iterator[dict[str, Any]]:
        scope = did.partition(":")[0]
        known = self.datasets[did]
        names = (f"f{number:06d}.root" for number in range(known)) if isinstance(known, int) else known
        for number, name in enumerate(names):
            yield {
                "scope": scope,
                "name": name,
                "bytes": 100 + number,
                "guid": None,
                "events": 10,
                "adler32": f"{number:08x}",
            }

    def replicas(self, scope: str, name: str) -> dict[str, Any]:
        default = {
            f"root://b.example//{scope}/{name}": {"rse": "B", "domain": "wan", "priority": 2},
            f"davs://a.example/{scope}/{name}": {"rse": "A", "domain": "wan", "priority": 1},
        }
        pfns = self.pfns.get(name, default)
        return {"scope": scope, "name": name, "bytes": 1, "adler32": "0", "pfns": pfns, "rses": {}}


@contextlib.contextmanager
def running_rucio_api(rucio: FakeRucio) -> Iterator[FakeRucio]:
    """Serves it, and gives it its URL."""

    class Handler(_Handler):
        known = rucio

    with _Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        rucio.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield rucio
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Nothing: whoever asked may go at any time."""


class _Handler(BaseHTTPRequestHandler):
    known: FakeRucio
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        rucio = self.known
        kind = self.path.split("/")[1]
        rucio.calls.append(self.path)
        rucio.headers.append(dict(self.headers))
        faults = rucio.faults.get(kind, [])
        fault = faults.pop(0) if faults else None
        if fault is not None and fault.after_lines is None:
            if fault.status == 0:
                self.close_connection = True
            else:
                self._head(fault.status, fault.headers)
        elif kind == "ping":
            self._head(200, {})
        elif kind == "auth":
            self._give_token()
        elif self.headers.get("X-Rucio-Auth-Token") not in rucio.tokens:
            self._refuse(401, "CannotAuthenticate", "the token is none")
        elif kind == "replicas":
            asked = json.loads(body)
            rucio.asked.append(asked)
            self._stream(iter([rucio.replicas(did["scope"], did["name"]) for did in asked["dids"]]), fault)
        else:
            _, _, scope, name, _ = self.path.split("/")
            did = f"{unquote(scope)}:{unquote(name)}"
            if did.endswith(":bad"):
                self._refuse(400, "InvalidObject", f"{did} does not match the schema")
            elif did not in rucio.datasets:
                self._refuse(404, "DataIdentifierNotFound", f"Data identifier '{did}' not found")
            else:
                self._stream(rucio.files(did), fault)

    def _give_token(self) -> None:
        rucio, sent = self.known, self.headers
        if "userpass" in self.path and sent.get("X-Rucio-Password") != PASSWORD:
            self._refuse(401, "CannotAuthenticate", f"no {sent.get('X-Rucio-Password')}")
            return
        token = f"token-{len(rucio.tokens)}"
        rucio.tokens.add(token)
        end = datetime.now(UTC) + timedelta(seconds=rucio.token_life_s)
        expires = f"{end:%a, %d %b %Y %H:%M:%S} UTC"
        self._head(200, {"X-Rucio-Auth-Token": token, "X-Rucio-Auth-Token-Expires": expires})

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._head(status, {"ExceptionClass": kind, "ExceptionMessage": message})

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def _stream(self, entries: Iterator[dict[str, Any]], fault: Fault | None) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-json-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with contextlib.suppress(OSError):  # whoever asked may have gone
            for number, entry in enumerate(entries):
                if fault is not None and number == fault.after_lines:
                    self.wfile.flush()
                    self.close_connection = True
                    return
                line = json.dumps(entry).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nothing."""
