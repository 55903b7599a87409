"""What the CERN Open Data portal's API answers, from a server of our own: records old and new."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from http_thread import serving

EOS = "root://eospublic.cern.ch//eos/opendata/cms/Run2012B"


def listed(uri: str, size: int = 1000, checksum: str = "adler32:0a1b2c3d") -> dict[str, Any]:
    """A file as records list it."""
    return {"bucket": "b", "checksum": checksum, "key": uri.rsplit("/", 1)[-1], "size": size, "uri": uri}


def record(number: int, files: list[dict[str, Any]], **metadata: Any) -> dict[str, Any]:
    """A record as `/api/records/<number>` answers it."""
    return {
        "created": "2020-01-01T00:00:00.000000+00:00",
        "id": number,
        "links": {"self": f"http://opendata.cern.ch/api/records/{number}"},
        "metadata": {"recid": str(number), "title": "a record", "files": files, **metadata},
        "revision": 1,
    }


@contextlib.contextmanager
def running_portal(pages: Mapping[str, Any]) -> Iterator[str]:
    """Serves the pages (JSON, or text as it is) by their paths; yields the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            status = 404 if page is None else 200
            if isinstance(page, int):
                status, page = page, {"message": "no"}
            content = page.encode() if isinstance(page, str) else json.dumps(page).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url
