"""Which of several replicas is read, with sources of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from servicex_server.errors import SourceUnavailable
from servicex_server.model.access import AccessDomain
from servicex_server.source.access import domain_of
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import ByteSource, SourceLimits
from servicex_server.source.reading import Reading
from servicex_server.source.replica import Replicas

PATIENCE_S = 30.0
HEDGED = Reading(SourceLimits(hedge_s=0.01))


class Opened:
    """A source of ten bytes, at the location that it is named after."""

    def __init__(self, location: str) -> None:
        self.location = self.identity = self.fingerprint = location
        self.size_bytes, self.bytes_read = 10, 0
        self.is_closed = threading.Event()

    def read_ranges(self, wanted: object) -> list[bytes]:
        raise NotImplementedError

    def close(self) -> None:
        self.is_closed.set()


class Sites:
    """Opens what it is asked for when the test says so, or at once."""

    def __init__(self, *slow: str) -> None:
        self.gates = {location: threading.Event() for location in slow}
        self.faults: dict[str, Exception] = {}
        self.opened: dict[str, list[Opened]] = {}

    def open(self, location: str) -> ByteSource:
        if location in self.gates:
            assert self.gates[location].wait(PATIENCE_S)
        if location in self.faults:
            raise self.faults[location]
        source = Opened(location)
        self.opened.setdefault(location, []).append(source)
        return source


def replicas_of(opener: Callable[[str], ByteSource], *locations: str) -> Replicas:
    return Replicas(locations, SourcePolicy(), HEDGED, opener=opener)


def test_the_slower_one_is_there_when_the_faster_one_fails() -> None:
    sites = Sites("slow")
    replicas = replicas_of(sites.open, "slow", "fast")
    assert replicas.open().location == "fast"
    sites.gates["slow"].set()
    assert replicas.give_up(SourceUnavailable("cannot read fast: it broke off"))
    assert replicas.open().location == "slow"
    replicas.finish()
    outcomes = [(attempt.location, attempt.outcome) for attempt in replicas.attempts]
    assert outcomes == [
        ("slow", "not needed: another replica was faster to open"),
        ("fast", "cannot read: it broke off"),
        ("slow", "read"),
    ]


def test_what_opens_too_late_is_closed() -> None:
    sites = Sites("slow")
    assert replicas_of(sites.open, "slow", "fast").open().location == "fast"
    sites.gates["slow"].set()
    (late,) = wait_for(lambda: sites.opened.get("slow"))
    assert late.is_closed.wait(PATIENCE_S)


def test_what_opens_after_an_error_of_ours_is_closed() -> None:
    sites = Sites("slow")
    sites.faults["broken"] = RuntimeError("a defect")
    with pytest.raises(RuntimeError, match="a defect"):
        replicas_of(sites.open, "slow", "broken").open()
    sites.gates["slow"].set()
    (late,) = wait_for(lambda: sites.opened.get("slow"))
    assert late.is_closed.wait(PATIENCE_S)


def test_a_location_is_told_once() -> None:
    sites = Sites()
    sites.faults = {
        "a": SourceUnavailable("a: no such file"),
        "b": SourceUnavailable("b changed while it was read"),
    }
    replicas = Replicas(["a", "b"], SourcePolicy(), opener=sites.open)
    with pytest.raises(SourceUnavailable, match="no replica can be read: a: no such file; b changed"):
        replicas.open()
    assert [attempt.outcome for attempt in replicas.attempts] == ["no such file", "changed while it was read"]


def test_a_cache_shares_with_nobody_what_a_secret_of_the_reader_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading = Reading(xcache_prefixes=("root://cache.example:1094//",))
    replicas = Replicas(["root://marie@1.1.1.1//x.root"], SourcePolicy(), reading)
    monkeypatch.setattr("servicex_server.source.replica.open_source", lambda location, *_: Opened(location))
    assert replicas.open().location.startswith("root://cache.example:1094//")
    assert domain_of(replicas.given_location, "marie") == AccessDomain.of_user("marie")


def wait_for(look: Callable[[], list[Opened] | None]) -> list[Opened]:
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if found := look():
            return found
        pause.wait(0.01)
    raise AssertionError
