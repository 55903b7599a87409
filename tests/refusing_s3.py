"""An S3 server that refuses: what it answers to changes is chosen, everything else is not there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated><KeyCount>0</KeyCount></ListBucketResult>"


@dataclass
class RefusingS3:
    """Where it is, what it answers to PUT, POST and DELETE, and what it was asked."""

    endpoint: str
    status: int
    code: str
    calls: list[str] = field(default_factory=list)


@contextlib.contextmanager
def refusing_s3(status: int, code: str) -> Iterator[RefusingS3]:
    """Runs one on a free port until the block is left."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    state = RefusingS3(f"http://127.0.0.1:{server.server_address[1]}", status, code)
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _refuse(self) -> None:
        state: RefusingS3 = self.server.state  # type: ignore[attr-defined]
        state.calls.append(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = f"<Error><Code>{state.code}</Code><Message>no &amp; never</Message></Error>"
        self._answer(state.status, body.encode())

    do_PUT = do_POST = do_DELETE = _refuse  # noqa: N815  the library's names

    def do_GET(self) -> None:
        is_list = "list-type=2" in self.path
        missing = b"<Error><Code>NoSuchKey</Code></Error>"
        self._answer(200, _EMPTY) if is_list else self._answer(404, missing)

    def do_HEAD(self) -> None:
        self._answer(404, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""
