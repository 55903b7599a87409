"""Where a file is looked for, in which order, and what is remembered of sites."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from servicex_server.errors import SourceMissing, SourceUnavailable
from servicex_server.source.checksum import parse_adler32
from servicex_server.source.health import HALF_LIFE_S, SiteHealth
from servicex_server.source.multipart import boundary_of, parse_parts
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.reading import HostMount, Reading, choose_xcache, places_of
from servicex_server.source.replica import Replicas

POLICY = SourcePolicy(local_roots=(Path("/data"),))
CACHES = tuple(f"root://cache{number}.example:1094//" for number in range(4))


def locations(given: list[str], reading: Reading) -> list[str]:
    return [place.location for place in places_of(given, POLICY, reading)]


def test_a_cache_in_a_private_network_needs_no_permission() -> None:
    cache = "root://cache.internal.example:1094//"
    cached, replica = places_of(["root://a.example//x.root"], POLICY, Reading(xcache_prefixes=(cache,)))
    assert cached.policy.allowed_private_hosts == ("cache.internal.example",)
    assert replica.policy.allowed_private_hosts == ()


def test_caches_are_asked_before_the_replicas_themselves() -> None:
    given = ["root://a.example//store/x.root", "https://b.example/store/x.root"]
    assert locations(given, Reading(xcache_prefixes=CACHES[:1])) == [CACHES[0] + given[0], *given]


def test_all_replicas_of_a_file_share_a_cache_and_files_spread_over_caches() -> None:
    names = [f"store/{number}.root" for number in range(400)]
    chosen = [choose_xcache(f"root://a.example//{name}", CACHES) for name in names]
    assert chosen == [choose_xcache(f"root://me@b.example:1095//{name}?token=x", CACHES) for name in names]
    assert min(Counter(chosen).values()) > 60
    fewer = [choose_xcache(f"root://a.example//{name}", CACHES[:3]) for name in names]
    assert all(after == before for before, after in zip(chosen, fewer, strict=True) if before != CACHES[3])


@pytest.mark.parametrize(
    ("prefix", "location", "path"),
    [
        ("root://eos.example//eos/", "root://eos.example//eos/cms/x.root", "/mnt/cms/x.root"),
        ("root://eos.example//eos", "root://eos.example//eos/x.root?a=b", "/mnt/x.root"),
        ("root://eos.example//eos", "root://eos.example//eosother/x.root", None),
        ("/data", "/data/x.root", "/mnt/x.root"),
        ("/data", "/database/x.root", None),
    ],
)
def test_mounted_folders_hold_what_lies_below_their_prefix(
    prefix: str, location: str, path: str | None
) -> None:
    found = locations([location], Reading(host_mounts=(HostMount(prefix, "/mnt"),)))
    assert found == ([location] if path is None else [path, location])


def test_sick_sites_are_asked_last_for_a_while_and_never_left_out() -> None:
    now = 0.0
    health = SiteHealth(clock=lambda: now)
    order = ["a", "b", "c"]
    health.failed("a")
    assert health.sorted(order, str) == ["b", "c", "a"]
    health.succeeded("a", 0.1)
    health.succeeded("a", 0.1)
    assert health.sorted(order, str) == order
    health.failed("b")
    health.failed("b")
    now += 1.5 * HALF_LIFE_S
    assert health.is_sick("b")
    now += HALF_LIFE_S
    assert not health.is_sick("b")


def test_sites_that_take_long_are_no_better_than_sick_ones() -> None:
    health = SiteHealth(clock=lambda: 0.0)
    health.succeeded("a", 20.0)
    assert health.sorted(["a", "b"], str) == ["b", "a"]


def test_a_missing_file_says_nothing_of_its_site(tmp_path: Path) -> None:
    health = SiteHealth()
    policy = SourcePolicy(local_roots=(tmp_path,), allowed_private_hosts=("localhost",))
    with pytest.raises(SourceMissing):
        Replicas([str(tmp_path / "none")], policy, health=health).open()
    with pytest.raises(SourceUnavailable):
        Replicas(["http://localhost:9/x.root"], policy, health=health).open()
    assert not health.is_sick("")
    assert health.is_sick("localhost:9")


def test_an_error_names_no_credentials(tmp_path: Path) -> None:
    policy = SourcePolicy(local_roots=(tmp_path,), allowed_private_hosts=("localhost",))
    replicas = Replicas(["http://me:s3cret@localhost:9/x.root?t=s3cret", str(tmp_path / "none")], policy)
    with pytest.raises(SourceUnavailable) as caught:
        replicas.open()
    told = caught.value.message + repr(replicas.attempts)
    assert "s3cret" not in told
    assert [attempt.location for attempt in replicas.attempts] == [
        "http://localhost:9/x.root?…",
        str(tmp_path / "none"),
    ]


@pytest.mark.parametrize("text", [None, "", "0", "xxx", "00000000", "123456789", "12 34"])
def test_what_is_no_checksum_is_not_compared(text: str | None) -> None:
    assert parse_adler32(text) is None


def part(start: int, data: bytes, total: int = 100) -> bytes:
    return (
        b"\r\n--x\r\nContent-Type: text/plain\r\ncontent-range: bytes "
        + f"{start}-{start + len(data) - 1}/{total}\r\n\r\n".encode()
        + data
    )


def test_pieces_of_an_answer_may_hold_what_looks_like_their_end() -> None:
    body = part(5, b"--x--\r\n\r\n") + part(50, b"abc") + b"\r\n--x--\r\n"
    assert parse_parts(body, b"x", 100) == {(5, 14): b"--x--\r\n\r\n", (50, 53): b"abc"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        part(5, b"abc"),
        part(5, b"abc", total=99) + b"\r\n--x--",
        part(5, b"abc")[:-1],
        b"--x\r\n\r\nabc\r\n--x--",
    ],
)
def test_broken_answers_in_pieces_are_noticed(body: bytes) -> None:
    with pytest.raises(ValueError, match="answer"):
        parse_parts(body, b"x", 100)


def test_other_answers_are_not_in_pieces() -> None:
    assert boundary_of("text/plain; boundary=x") is None
    assert boundary_of("") is None
    assert boundary_of("multipart/byteranges; boundary=x") == b"x"
