"""Files behind a real XRootD server."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator

import pytest

from servicex_server.errors import SourceCorrupt, SourceRefused, SourceUnavailable
from servicex_server.source import address
from servicex_server.source.open import open_source
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.xrootd import XrootdSource
from xrootd_server import XrootdServer, require_xrootd, running_xrootd

POLICY = SourcePolicy(allowed_private_hosts=("localhost", "127.0.0.0/8", "::1"))
LIMITS = SourceLimits(connect_s=2.0, idle_s=5.0, n_attempts=1)
DATA = random.Random(1).randbytes(5_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[XrootdServer]:
    require_xrootd()
    path = tmp_path_factory.mktemp("xrootd") / "data"
    path.write_bytes(DATA)
    with running_xrootd({"data": path}) as running:
        yield running


def test_ranges_come_back_in_the_order_asked(server: XrootdServer) -> None:
    source = open_source(server.url("data"), POLICY, LIMITS)
    wanted = [(4_000_000, 4_000_010), (0, 3), (1_000_000, 4_500_000), (7, 7), (4_999_999, 5_000_000)]
    assert source.size_bytes == len(DATA)
    assert source.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    assert source.bytes_read >= 3_500_000
    source.close()


def test_many_ranges_are_split_into_vector_reads(server: XrootdServer) -> None:
    source = open_source(server.url("data"), POLICY, SourceLimits(gap_bytes=0, connect_s=2.0, idle_s=5.0))
    wanted = [(start, start + 10) for start in range(0, 4_900_000, 2_000)]
    assert source.read_ranges(wanted) == [DATA[start:stop] for start, stop in wanted]
    source.close()


def test_a_range_beyond_the_end_is_corrupt(server: XrootdServer) -> None:
    source = open_source(server.url("data"), POLICY, LIMITS)
    with pytest.raises(SourceCorrupt):
        source.read_ranges([(0, len(DATA) + 1)])
    source.close()


def test_a_missing_file_is_unavailable(server: XrootdServer) -> None:
    with pytest.raises(SourceUnavailable, match="cannot open"):
        open_source(server.url("no"), POLICY, LIMITS)


def test_a_dead_server_is_unavailable() -> None:
    require_xrootd()
    with pytest.raises(SourceUnavailable):
        open_source("root://localhost:9//store/data", POLICY, LIMITS)


def test_a_private_host_is_refused_before_it_is_asked(server: XrootdServer) -> None:
    before = server.log.read_text(errors="replace")
    with pytest.raises(SourceRefused, match="loopback"):
        open_source(server.url("data", host="127.0.0.1"), SourcePolicy(), LIMITS)
    assert server.log.read_text(errors="replace") == before


def test_the_server_that_is_read_from_is_checked_too(
    server: XrootdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The client resolves names by itself; whatever it ended at must be allowed, whoever sent it there.
    real = address.resolve
    asked: list[str] = []

    def trust_the_first(host: str, port: int, allowed: tuple[str, ...]) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else real(host, port, allowed)

    monkeypatch.setattr(address, "resolve", trust_the_first)
    with pytest.raises(SourceRefused, match="loopback"):
        XrootdSource(server.url("data"), SourcePolicy(), LIMITS)
    assert len(asked) == 2


def test_without_the_client_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "XRootD.client", None)
    with pytest.raises(SourceRefused, match=r"servicex-server\[xrootd\]"):
        open_source("root://localhost//x", POLICY, LIMITS)
