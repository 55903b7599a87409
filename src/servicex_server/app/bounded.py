"""HTTP as uvicorn reads it through llhttp, within bounds of ours: that parser keeps whatever it is sent."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and all headers, trailers included."""


class _TooLarge(Exception):
    """Raised in a callback of the parser, it ends the connection with a 400."""


class BoundedHttp(HttpToolsProtocol):
    """One connection, for `uvicorn.Config(http=…)`.

    The parser gives out a header when it is complete, and body piece by piece. What is not given out for long
    is a header without an end.
    """

    _head_bytes = 0
    _kept_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._kept_bytes += len(data)
        super().data_received(data)
        if self._kept_bytes > len(data) + MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The head of the request is too large.")

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name, value)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        self._kept_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._kept_bytes = 0
        super().on_message_complete()

    def _count(self, *parts: bytes) -> None:
        self._kept_bytes = 0
        self._head_bytes += sum(map(len, parts))
        if self._head_bytes > MAX_HEAD_BYTES:
            raise _TooLarge
