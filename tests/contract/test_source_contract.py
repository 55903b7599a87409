"""What every source of bytes does, whatever the protocol."""

from __future__ import annotations

import functools
import http.server
import random
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seaweed_server import SeaweedServer
from servicex_server.errors import SourceCorrupt, SourceUnavailable
from servicex_server.source.ahead import AheadSource
from servicex_server.source.open import open_source
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import ByteSource, EdgeSource, SourceLimits
from servicex_server.source.reading import Reading
from servicex_server.source.replica import Replicas
from servicex_server.source.stored import StoredSource
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.protocol import Store
from xrootd_server import XrootdServer, require_xrootd, running_xrootd

DATA = random.Random(1).randbytes(3_000_000)
LIMITS = SourceLimits(connect_s=2.0, idle_s=5.0, n_attempts=1, tail_bytes=10_000)

KINDS = (
    "local",
    "root",
    "http",
    "http-one-range",
    "http-no-ranges",
    "replicas",
    "ahead",
    "stored",
    "stored-s3",
)
Open = Callable[[str], ByteSource]


class OneRange(http.server.SimpleHTTPRequestHandler):
    """Knows single ranges from a place on, not from the end, and takes several for none."""

    def send_head(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        start, stop = (int(asked[1]), min(int(asked[2]) + 1, len(data))) if asked else (0, len(data))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.end_headers()
        self.wfile.write(data[start:stop])

    def log_message(self, format: str, *args: object) -> None:
        pass


class NoRanges(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


class Silent(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # who has enough hangs up


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "data").write_bytes(DATA)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[XrootdServer]:
    require_xrootd()
    with running_xrootd({"data": folder / "data"}) as running:
        yield running


@pytest.fixture
def site(folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    handler = NoRanges if request.node.callspec.params["kind"] == "http-no-ranges" else OneRange
    with Silent(("127.0.0.1", 0), functools.partial(handler, directory=str(folder))) as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://localhost:{site.server_port}/"
        site.shutdown()
        thread.join()


@pytest.fixture
def store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    if kind == "stored":
        return LocalStore(tmp_path / "store", min_free_bytes=0)
    server: SeaweedServer = request.getfixturevalue("seaweed")
    return server.open_store(tmp_path / "scratch")


@pytest.fixture
def opened(kind: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    policy = SourcePolicy(local_roots=(folder,), allowed_private_hosts=("localhost",))
    sources: list[ByteSource] = []

    def open_one(name: str) -> ByteSource:
        if kind == "local":
            source = open_source(str(folder / name), policy)
        elif kind in ("stored", "stored-s3"):
            store: Store = request.getfixturevalue("store")
            if not store.has(name) and (folder / name).exists():
                copy = store.scratch_folder() / name
                copy.write_bytes((folder / name).read_bytes())
                store.put_file(name, copy)
            source = StoredSource(f"servicex://request/{name}", store, name)
        elif kind in ("http-one-range", "http-no-ranges"):
            source = open_source(request.getfixturevalue("site") + name, policy, LIMITS)
        else:
            server: XrootdServer = request.getfixturevalue("server")
            url = server.http_url(name) if kind == "http" else server.url(name)
            if kind in ("root", "http"):
                source = open_source(url, policy, LIMITS)
            else:
                source = Replicas([url], policy, Reading(LIMITS)).open()
                source = AheadSource(source, 2_000_000) if kind == "ahead" else source
        sources.append(source)
        return source

    yield open_one
    for source in sources:
        source.close()


pytestmark = pytest.mark.parametrize("kind", KINDS)


def test_ranges_come_back_in_the_order_asked(opened: Open) -> None:
    source = opened("data")
    wanted = [(2_000_000, 2_000_010), (0, 3), (1_000_000, 2_500_000), (7, 7), (2_999_999, 3_000_000)]
    assert source.size_bytes == len(DATA)
    assert source.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    assert source.bytes_read >= 1_500_000


def test_any_number_of_ranges_may_be_asked_for(opened: Open) -> None:
    source = opened("data")
    wanted = [(start, start + 10) for start in range(0, 2_900_000, 40_000)]
    assert source.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    assert source.read_ranges([]) == []


def test_many_threads_may_read(opened: Open) -> None:
    source = opened("data")
    places = [(start, start + 100_000) for start in range(0, 3_000_000, 100_000)]
    before = source.bytes_read
    with ThreadPoolExecutor(4) as threads:
        pieces = list(threads.map(lambda place: source.read_ranges([place])[0], places))
    assert b"".join(pieces) == DATA
    # What was at hand, or is known of the beginning and the end, is not read again.
    assert source.bytes_read == before or source.bytes_read >= 2_900_000


def test_a_range_beyond_the_end_is_corrupt(opened: Open) -> None:
    with pytest.raises(SourceCorrupt, match="outside the file"):
        opened("data").read_ranges([(0, len(DATA) + 1)])


def test_a_missing_file_is_unavailable(opened: Open) -> None:
    with pytest.raises(SourceUnavailable):
        opened("none")


def test_the_edges_are_those_of_the_file(opened: Open) -> None:
    source = opened("data")
    if isinstance(source, EdgeSource):
        assert all(data == DATA[start:stop] for (start, stop), data in source.edges().items())


def test_a_closed_source_reads_nothing_more(opened: Open) -> None:
    source = opened("data")
    source.close()
    # From the middle: the edges may be in memory.
    with pytest.raises(SourceUnavailable):
        source.read_ranges([(1_000_000, 1_500_000)])
