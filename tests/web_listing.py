"""Indices of directories as web servers write them, and a server of our own that serves pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from http_thread import serving


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path is answered with."""

    content: bytes = b""
    media_type: str = "text/html;charset=UTF-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def redirect(target: str) -> Answer:
    return Answer(status=302, headers={"Location": target})


def apache_index(folder: str, names: Sequence[str]) -> Answer:
    """As mod_autoindex writes it: links that sort, one to the parent, and relative ones."""
    rows = "".join(
        f'<tr><td valign="top"><img src="/icons/unknown.gif" alt="[   ]"></td><td><a href="{name}">{name}</a>'
        '</td><td align="right">2024-01-01 10:00  </td><td align="right">1.2K</td></tr>\n'
        for name in names
    )
    page = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
        f"<html>\n<head>\n<title>Index of {folder}</title>\n</head>\n<body>\n<h1>Index of {folder}</h1>\n"
        '<table>\n<tr><th><a href="?C=N;O=D">Name</a></th>'
        '<th><a href="?C=M;O=A">Last modified</a></th></tr>\n'
        f'<tr><td><a href="/">Parent Directory</a></td></tr>\n{rows}</table>\n</body></html>\n'
    )
    return Answer(page.encode())


def nginx_index(folder: str, names: Sequence[str]) -> Answer:
    """As ngx_http_autoindex_module writes it."""
    rows = "".join(f'<a href="{name}">{name}</a>     01-Jan-2024 10:00    1234\r\n' for name in names)
    page = (
        f"<html>\r\n<head><title>Index of {folder}</title></head>\r\n<body>\r\n<h1>Index of {folder}</h1><hr>"
        f'<pre><a href="../">../</a>\r\n{rows}</pre><hr></body>\r\n</html>\r\n'
    )
    return Answer(page.encode(), "text/html")


def xrootd_index(folder: str, names: Sequence[str]) -> Answer:
    """As XrdHttp writes it: paths from the root, with no media type of their own."""
    rows = "".join(
        f'<tr><td class="idx">{number}</td><td class="name"><a href="{folder}{name}">{name}</a></td></tr>'
        for number, name in enumerate(names)
    )
    page = f'<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml"><body><table>{rows}</table></body></html>'
    return Answer(page.encode(), "")


def text_list(*lines: str) -> Answer:
    return Answer("\n".join(lines).encode(), "text/plain")


class _Silent(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: who has read enough hangs up."""


@contextlib.contextmanager
def running_web(pages: Mapping[str, Answer]) -> Iterator[str]:
    """Serves the pages by their paths, query included; yields the URL without a final slash."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = pages.get(self.path, Answer(status=404))
            content, status = answer.content, answer.status
            bounds = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            headers = dict(answer.headers)
            if bounds[1] and status == 200:
                size = len(content)
                start = int(bounds[0]) if bounds[0] else max(0, size - int(bounds[2]))
                stop = min(size, int(bounds[2]) + 1) if bounds[0] and bounds[2] else size
                content, status = content[start:stop], 206
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if answer.media_type:
                self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with serving(_Silent(("127.0.0.1", 0), Handler)) as url:
        yield url
