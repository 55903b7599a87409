"""Files behind http servers that behave, and that do not."""

from __future__ import annotations

import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from servicex_server.errors import SourceCorrupt, SourceRefused, SourceUnavailable
from servicex_server.source.http import HttpSource
from servicex_server.source.open import open_source
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits

DATA = bytes(number * 7 % 256 for number in range(200_000))
POLICY = SourcePolicy(allowed_private_hosts=("localhost",))
LIMITS = SourceLimits(
    backoff_s=0.0, idle_s=5.0, n_attempts=3, gap_bytes=1000, request_bytes=60_000, tail_bytes=0, n_ranges=1
)

Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes: dict[str, Answer]
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        self.routes[self.path.partition("?")[0]](self)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reply_range(self, data: bytes = DATA, etag: str = '"1"') -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match
        start, last = int(match.group(1)), min(int(match.group(2)), len(data) - 1)
        if start >= len(data):
            self.reply(416, Content_Range=f"bytes */{len(data)}")
            return
        self.reply(206, data[start : last + 1], Content_Range=f"bytes {start}-{last}/{len(data)}", ETag=etag)


class Site:
    def __init__(self, server: http.server.ThreadingHTTPServer, handler: type[Handler]) -> None:
        self.port = server.server_address[1]
        self.routes = handler.routes
        self.seen = handler.seen

    def url(self, path: str, host: str = "localhost", user: str = "") -> str:
        return f"http://{user}{host}:{self.port}{path}"


@pytest.fixture
def site() -> Iterator[Site]:
    handler = type("SiteHandler", (Handler,), {"routes": {"/good": Handler.reply_range}, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Site(server, handler)
    server.shutdown()
    server.server_close()
    thread.join()


def read_all(url: str, policy: SourcePolicy = POLICY, limits: SourceLimits = LIMITS) -> bytes:
    source = open_source(url, policy, limits)
    try:
        return source.read_ranges([(0, source.size_bytes)])[0]
    finally:
        source.close()


def test_ranges_come_back_in_the_order_asked(site: Site) -> None:
    source = HttpSource(site.url("/good"), POLICY, LIMITS)
    wanted = [(150_000, 150_010), (0, 4), (99_000, 170_000), (40_000, 40_000)]
    assert source.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    assert source.size_bytes == len(DATA)
    assert source.bytes_read >= 71_000
    source.close()


def test_near_ranges_share_a_request(site: Site) -> None:
    source = HttpSource(site.url("/good"), POLICY, LIMITS)
    before = len(site.seen)
    source.read_ranges([(start, start + 100) for start in range(100_000, 110_000, 500)])
    assert len(site.seen) - before == 1
    source.close()


def test_identity_changes_with_the_content(site: Site) -> None:
    site.routes["/new"] = lambda handler: handler.reply_range(etag='"2"')
    identities = set()
    for path in ("/good", "/new"):
        source = HttpSource(site.url(path), POLICY, LIMITS)
        identities.add(source.identity)
        source.close()
    assert len(identities) == 2


def test_a_range_beyond_the_end_is_corrupt(site: Site) -> None:
    source = HttpSource(site.url("/good"), POLICY, LIMITS)
    with pytest.raises(SourceCorrupt, match="outside the file"):
        source.read_ranges([(0, len(DATA) + 1)])
    source.close()


def test_a_server_without_ranges_is_read_whole(site: Site) -> None:
    site.routes["/whole"] = lambda handler: handler.reply(200, DATA)
    assert read_all(site.url("/whole")) == DATA
    assert len(site.seen) == 1


def test_what_came_of_a_whole_file_is_forgotten_when_ranges_come(site: Site) -> None:
    def break_off_first(handler: Handler) -> None:
        if len(site.seen) == 1:
            handler.close_connection = True
            handler.reply(200, DATA[:100], Content_Length=str(len(DATA)))
        else:
            handler.reply_range()

    site.routes["/flaky"] = break_off_first
    assert read_all(site.url("/flaky")) == DATA


def test_a_large_file_from_a_server_without_ranges_is_not_fetched(site: Site) -> None:
    site.routes["/whole"] = lambda handler: handler.reply(200, DATA)
    with pytest.raises(SourceUnavailable, match="does not serve byte ranges"):
        read_all(site.url("/whole"), limits=SourceLimits(spool_bytes=1000))


@pytest.mark.parametrize("status", [500, 503, 429])
def test_passing_faults_are_tried_again(site: Site, status: int) -> None:
    def fail_once(handler: Handler) -> None:
        if len(site.seen) == 1:
            handler.reply(status)
        else:
            handler.reply_range()

    site.routes["/flaky"] = fail_once
    assert read_all(site.url("/flaky")) == DATA


def test_short_answers_are_tried_again_and_then_reported(site: Site) -> None:
    def cut_short(handler: Handler) -> None:
        handler.close_connection = True
        handler.reply(206, DATA[:100], Content_Length="1000", Content_Range="bytes 0-999/1000")

    site.routes["/short"] = cut_short
    with pytest.raises(SourceUnavailable, match="3 attempts"):
        read_all(site.url("/short"))
    assert len(site.seen) == 3


def test_a_missing_file_is_not_tried_again(site: Site) -> None:
    site.routes["/no"] = lambda handler: handler.reply(404)
    with pytest.raises(SourceUnavailable, match="404"):
        read_all(site.url("/no"))
    assert len(site.seen) == 1


def test_a_forbidden_file_is_refused(site: Site) -> None:
    site.routes["/no"] = lambda handler: handler.reply(403)
    with pytest.raises(SourceRefused, match="403"):
        read_all(site.url("/no"))


def test_wrong_ranges_are_noticed(site: Site) -> None:
    site.routes["/liar"] = lambda handler: handler.reply(206, DATA[5:105], Content_Range="bytes 5-104/200000")
    with pytest.raises(SourceUnavailable, match="other bytes"):
        read_all(site.url("/liar"))


def test_a_file_that_changes_meanwhile_is_noticed(site: Site) -> None:
    site.routes["/moving"] = lambda handler: handler.reply_range(etag=f'"{len(site.seen)}"')
    with pytest.raises(SourceUnavailable, match="changed while it was read"):
        read_all(site.url("/moving"))


def test_redirects_are_followed_and_remembered(site: Site) -> None:
    site.routes["/old"] = lambda handler: handler.reply(302, Location="/good")
    source = HttpSource(site.url("/old"), POLICY, LIMITS)
    source.read_ranges([(100_000, 100_100)])
    assert [path for path, _ in site.seen] == ["/old", "/good", "/good"]
    source.close()


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_place_that_a_redirect_led_to_is_left_when_it_refuses(site: Site, status: int) -> None:
    sent_to = ["/signed-1", "/signed-2"]

    def once(handler: Handler) -> None:
        if [path for path, _ in site.seen].count("/signed-1") == 1:
            handler.reply_range()
        else:
            handler.reply(status)

    site.routes["/old"] = lambda handler: handler.reply(302, Location=sent_to.pop(0))
    site.routes["/signed-1"] = once
    site.routes["/signed-2"] = Handler.reply_range
    source = HttpSource(site.url("/old"), POLICY, LIMITS)
    assert source.read_ranges([(100_000, 100_100)]) == [DATA[100_000:100_100]]
    assert [path for path, _ in site.seen] == ["/old", "/signed-1", "/signed-1", "/old", "/signed-2"]
    source.close()


def test_a_refusal_behind_a_redirect_is_one(site: Site) -> None:
    site.routes["/old"] = lambda handler: handler.reply(302, Location="/forbidden")
    site.routes["/forbidden"] = lambda handler: handler.reply(403)
    with pytest.raises(SourceRefused, match="403"):
        read_all(site.url("/old"))
    assert len(site.seen) == 2


@pytest.mark.parametrize(
    "target", ["http://[bad", "http://" + "a" * 70 + ".example/x", "http://xn--a/x", "//[/x"]
)
def test_a_redirect_to_no_url_is_refused(site: Site, target: str) -> None:
    site.routes["/away"] = lambda handler: handler.reply(302, Location=target)
    with pytest.raises((SourceRefused, SourceUnavailable), match=r"no URL|resolve"):
        read_all(site.url("/away"))


def test_a_promise_of_bytes_beyond_the_end_is_understood(site: Site) -> None:
    small = DATA[:20_000]

    def promise(handler: Handler) -> None:
        start, last = map(int, handler.headers["Range"].removeprefix("bytes=").split("-"))
        body = small[start : last + 1]
        handler.reply(206, body, Content_Range=f"bytes {start}-{last}/{len(small)}", ETag='"1"')

    site.routes["/small"] = promise
    assert read_all(site.url("/small")) == small


def test_whoever_reads_while_it_is_closed_is_told(site: Site) -> None:
    gate, seen = threading.Event(), threading.Semaphore(0)

    def hold(handler: Handler) -> None:
        if not handler.headers["Range"].startswith("bytes=0-"):
            seen.release()
            gate.wait(30)
        handler.reply_range()

    site.routes["/held"] = hold
    source = HttpSource(site.url("/held"), POLICY, LIMITS)
    wanted = [(start, start + 100) for start in range(70_000, 200_000 - 100, 2_000)]
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(source.read_ranges, wanted)
        for _ in range(LIMITS.n_connections):
            assert seen.acquire(timeout=30)
        source.close()
        gate.set()
        with pytest.raises(SourceUnavailable):
            reading.result(30)


def test_endless_redirects_end(site: Site) -> None:
    site.routes["/loop"] = lambda handler: handler.reply(302, Location="/loop")
    with pytest.raises(SourceUnavailable, match="more than 5 redirects"):
        read_all(site.url("/loop"))
    assert len(site.seen) == 6


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/good", "http://127.0.0.1:{port}/good", "http://[::1]/x"]
)
def test_a_redirect_into_a_private_network_is_refused(site: Site, target: str) -> None:
    site.routes["/away"] = lambda handler: handler.reply(302, Location=target.format(port=site.port))
    with pytest.raises(SourceRefused, match="loopback"):
        read_all(site.url("/away"))
    assert [path for path, _ in site.seen] == ["/away"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/x", "root://localhost//x"])
def test_a_redirect_to_another_scheme_is_refused(site: Site, target: str) -> None:
    site.routes["/away"] = lambda handler: handler.reply(302, Location=target)
    with pytest.raises(SourceRefused, match="only http:// and https:// are followed"):
        read_all(site.url("/away"))


def test_a_name_that_resolves_to_loopback_is_refused_when_connecting(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo

    def lie(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "innocent.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", lie)
    with pytest.raises(SourceRefused, match=r"innocent\.example"):
        read_all(site.url("/good", host="innocent.example"))
    assert not site.seen


def test_the_name_is_not_looked_up_again_after_the_check(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    asked = []

    def count(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", count)
    read_all(site.url("/good"))
    # The connection itself is made to an address, never to the name.
    assert "localhost" in asked
    assert all(host == "localhost" or host[0].isdigit() or ":" in host for host in asked)
    assert asked.count("localhost") <= LIMITS.n_connections


def test_credentials_go_to_the_server_and_nowhere_else(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.routes["/no"] = lambda handler: handler.reply(500)
    caplog.set_level("INFO")
    with pytest.raises(SourceUnavailable) as caught:
        read_all(site.url("/no?token=s3cret", user="me:s3cret@"))
    assert site.seen[0][1]["authorization"].startswith("Basic ")
    assert "s3cret" not in caught.value.message + caplog.text


def test_an_unreachable_server_is_unavailable() -> None:
    with pytest.raises(SourceUnavailable, match="3 attempts"):
        read_all("http://localhost:9/x")


@pytest.mark.parametrize("tag", ['"2"', 'W/"1"', "", "1", '""'])
def test_only_a_strong_tag_names_the_content(site: Site, tag: str) -> None:
    site.routes["/other"] = lambda handler: handler.reply_range(etag=tag)
    source = HttpSource(site.url("/other"), POLICY, LIMITS)
    source.close()
    assert (source.fingerprint is not None) == (tag == '"2"')


def test_the_name_of_the_content_depends_on_url_and_tag(site: Site) -> None:
    site.routes["/other"] = lambda handler: handler.reply_range()
    site.routes["/new"] = lambda handler: handler.reply_range(etag='"2"')
    names = set()
    for path in ("/good", "/other", "/new", "/good?a", "/good"):
        source = HttpSource(site.url(path), POLICY, LIMITS)
        names.add(source.fingerprint)
        source.close()
    assert len(names) == 4
