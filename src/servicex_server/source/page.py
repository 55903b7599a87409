"""A page behind http(s), read whole: a listing, not a data file."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx

from servicex_server.errors import SourceMissing, SourceRefused, SourceUnavailable
from servicex_server.model.naming import show_location
from servicex_server.source.hop import REDIRECTS, make_request, redirected
from servicex_server.source.http import TRANSIENT, retry_after_s
from servicex_server.source.patience import PassingFault, try_often
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.transport import CheckedTransport

_ABSENT = (404, 410)


@dataclass(frozen=True, slots=True)
class Page:
    """What was read.

    Attributes:
        url: where it was, after all redirects.
        media_type: of its content, in lower case and without parameters; empty if the server tells none.
        content: all bytes, or the first ones, if they told enough.
    """

    url: str
    media_type: str
    content: bytes


def read_page(
    url: str, policy: SourcePolicy, limits: SourceLimits, *, most_bytes: int, enough: bytes = b""
) -> Page:
    """The page at `url`, which `policy.check` has let through. Blocks for `limits.request_s` at most.

    Args:
        most_bytes: a larger page is not read.
        enough: of a page that begins with these bytes no more is read.

    Raises:
        SourceMissing: the server says that there is no such page.
        SourceRefused: it, or a redirect, leads where the policy does not allow, or the server forbids it.
        SourceUnavailable: the server cannot be reached, or does not deliver; or the page is too large.
    """
    shown = show_location(url)
    # Without a client, as in `HttpSource`: proxies of the environment would hide addresses from the check.
    reader = _Reader(CheckedTransport(policy.allowed_private_hosts, policy.grid), policy, limits, shown)

    def once(end: float) -> Page:
        try:
            return reader.read(url, most_bytes, enough, end)
        except httpx.TimeoutException as error:
            message = "the server does not answer in time"
            raise PassingFault(message) from error
        except httpx.TransportError as error:
            raise PassingFault(str(error) or type(error).__name__) from error

    return try_often(once, limits, shown, limits.request_s)


@dataclass(frozen=True, slots=True)
class _Reader:
    transport: CheckedTransport
    policy: SourcePolicy
    limits: SourceLimits
    shown: str

    def read(self, url: str, most_bytes: int, enough: bytes, end: float) -> Page:
        with self._follow(url, end) as (final, response):
            self._check_status(response)
            media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            return Page(final, media_type, self._read_body(response, most_bytes, enough, end))

    @contextlib.contextmanager
    def _follow(self, url: str, end: float) -> Iterator[tuple[str, httpx.Response]]:
        for _hop in range(self.limits.n_redirects + 1):
            left_s = max(0.001, end - time.monotonic())
            timeout = httpx.Timeout(
                min(self.limits.idle_s, left_s), connect=min(self.limits.connect_s, left_s)
            )
            request = make_request(url, {}, timeout, self.policy.grid)
            with contextlib.closing(self.transport.handle_request(request)) as response:
                if response.status_code not in REDIRECTS or "location" not in response.headers:
                    yield url, response
                    return
                url = redirected(url, response.headers["location"], self.policy, self.shown)
        message = f"cannot read {self.shown}: more than {self.limits.n_redirects} redirects"
        raise SourceUnavailable(message)

    def _check_status(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == httpx.codes.OK:
            return
        answer = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status in TRANSIENT:
            raise PassingFault(answer, retry_after_s(response))
        message = f"cannot read {self.shown}: {answer}"
        if status in _ABSENT:
            raise SourceMissing(message)
        raise (SourceRefused if status in (401, 403) else SourceUnavailable)(message)

    def _read_body(self, response: httpx.Response, most_bytes: int, enough: bytes, end: float) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            message = f"{self.shown}: the server compresses what it was asked to send as it is"
            raise SourceUnavailable(message)
        body = bytearray()
        for piece in response.iter_raw():
            body += piece
            if enough and body.startswith(enough):
                return bytes(body)
            if len(body) > most_bytes:
                message = f"cannot read {self.shown}: it is larger than {most_bytes:,} bytes"
                raise SourceUnavailable(message)
            if time.monotonic() > end:
                message = "the answer takes too long"
                raise PassingFault(message)
        length = response.headers.get("content-length", "")
        if length.isdigit() and len(body) != int(length):
            message = f"the answer ended after {len(body)} of {length} bytes"
            raise PassingFault(message)
        return bytes(body)
