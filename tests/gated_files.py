"""A folder served over HTTP with ranges, whose answers can be held back: catches a read in the middle."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class GatedFiles:
    """Serves `folder` on 127.0.0.1. While the gate is shut, requests for files matching `held` wait.

    Attributes:
        url: address of the folder, without trailing slash.
    """

    def __init__(self, folder: Path, *, held: str = "$^") -> None:
        self._changed = threading.Condition()
        self._held = re.compile(held)
        self._is_shut = True
        self._waiting = 0
        files = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def do_GET(self) -> None:
                self._answer(with_body=True)

            def log_message(self, format: str, *args: object) -> None:
                pass

            def _answer(self, *, with_body: bool) -> None:
                name = self.path.rpartition("/")[2]
                files.pass_gate(name)
                path = folder / name
                if not path.is_file():
                    self.send_error(404)
                    return
                content = path.read_bytes()
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                start = int(asked[1]) if asked else 0
                stop = min(int(asked[2]) + 1 if asked and asked[2] else len(content), len(content))
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(stop - start))
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("ETag", f'"{len(content)}"')
                if asked:
                    self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
                self.end_headers()
                if with_body:
                    self.wfile.write(content[start:stop])

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # readers that are killed in the middle are what these tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open_gate()
        self._server.shutdown()
        self._server.server_close()

    def pass_gate(self, name: str) -> None:
        """Waits while the gate is shut for this file."""
        if not self._held.search(name):
            return
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_shut, timeout=120)
            self._waiting -= 1

    def wait_for_readers(self, count: int) -> None:
        """Returns once `count` readers stand before the shut gate."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting >= count, timeout=60), "nobody reads"

    def open_gate(self) -> None:
        with self._changed:
            self._is_shut = False
            self._changed.notify_all()
