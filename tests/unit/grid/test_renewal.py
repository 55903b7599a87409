"""When a proxy is renewed, and what happens while that fails: the old one stays."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from grid_pki import Pair, TestAuthority, fake_voms_proxy, require_voms
from servicex_server.errors import CredentialError
from servicex_server.grid.certificate import UserFiles
from servicex_server.grid.maker import PlainProxy, ProxyWish
from servicex_server.grid.place import MemoryPlace
from servicex_server.grid.proxy import Proxy
from servicex_server.grid.renewal import ProxyKeeper, Schedule
from servicex_server.telemetry import metrics

HOUR = timedelta(hours=1)
AWAY = "the API server does not answer"
START = datetime(2030, 1, 1, tzinfo=UTC)


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


@dataclass
class Maker:
    """Makes proxies with a key of its own, or fails with these words."""

    files: UserFiles
    fault: str | None = None
    life_s: float = 7200.0
    passphrases: list[bytes | None] = field(default_factory=list)

    def make(self, passphrase: bytes | None) -> bytes:
        self.passphrases.append(passphrase)
        if self.fault is not None:
            raise CredentialError(self.fault)
        return PlainProxy(self.files, ProxyWish(life_s=self.life_s)).make(passphrase)


@dataclass
class BrokenPlace:
    """A place that cannot be reached for now."""

    inner: MemoryPlace = field(default_factory=MemoryPlace)
    is_broken: bool = True

    def read(self) -> bytes | None:
        if self.is_broken:
            raise CredentialError(AWAY)
        return self.inner.read()

    def write(self, proxy: bytes) -> None:
        if self.is_broken:
            raise CredentialError(AWAY)
        self.inner.write(proxy)


@dataclass
class Setup:
    """A keeper whose clock is moved by the test."""

    maker: Maker
    place: MemoryPlace = field(default_factory=MemoryPlace)
    ahead: timedelta = timedelta()

    def keeper(self, *others: BrokenPlace, wish: ProxyWish | None = None) -> ProxyKeeper:
        return ProxyKeeper(
            self.maker,
            [self.place, *others],
            wish or ProxyWish(),
            Schedule(first_pause_s=8.0, longest_pause_s=60.0),
            clock=lambda: datetime.now(UTC) + self.ahead,
            spread=lambda: 1.0,
        )


@pytest.fixture
def setup(jane: Pair) -> Setup:
    return Setup(Maker(UserFiles(jane.cert.parent)))


def test_the_schedule_follows_the_life_that_was_granted() -> None:
    proxy = Proxy("/CN=x", None, (), START, START + 96 * HOUR)
    schedule = Schedule()
    assert schedule.due_at(proxy) == START + 48 * HOUR
    assert not schedule.is_ending(proxy, START + 71 * HOUR)
    assert schedule.is_ending(proxy, START + 73 * HOUR), "a day ahead"
    short = Proxy("/CN=x", None, (), START, START + 12 * HOUR)
    assert not schedule.is_ending(short, START + 8 * HOUR), "not for all of its life"
    assert schedule.is_ending(short, START + 10 * HOUR)
    assert Schedule(warn_s=3600).is_ending(proxy, START + 95.5 * HOUR)


def test_pauses_double_up_to_a_bound_and_are_spread() -> None:
    schedule = Schedule(first_pause_s=10.0, longest_pause_s=600.0)
    assert [schedule.pause_s(n, 1.0) for n in (1, 2, 3, 7, 10_000)] == [10.0, 20.0, 40.0, 600.0, 600.0]
    assert schedule.pause_s(1, 0.0) == 5.0


def test_a_missing_proxy_is_made_and_a_young_one_is_left_alone(setup: Setup) -> None:
    keeper = setup.keeper()
    before = value("servicex_proxy_renewals_total", outcome="renewed")
    assert keeper.step() == 600.0
    first = setup.place.content
    assert first is not None
    keeper.step()
    assert (setup.place.content, len(setup.maker.passphrases)) == (first, 1)
    assert value("servicex_proxy_renewals_total", outcome="renewed") == before + 1
    proxy = keeper.find()
    assert proxy is not None
    assert value("servicex_proxy_expiry_timestamp_seconds") == proxy.expires_at.timestamp()


def test_half_way_a_proxy_is_renewed(setup: Setup) -> None:
    keeper = setup.keeper()
    keeper.step()
    first = setup.place.content
    setup.ahead = 0.9 * HOUR
    assert keeper.step() < 600.0, "it looks again when the renewal is due"
    assert setup.place.content == first
    setup.ahead = 1.1 * HOUR
    keeper.step()
    assert setup.place.content != first


def test_a_renewal_that_fails_keeps_the_old_proxy_and_tells(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = setup.keeper()
    keeper.step()
    first = setup.place.content
    setup.maker.fault = "no VOMS server answers"
    steps = (
        (1.1 * HOUR, logging.WARNING, "proxy.kept"),
        (1.2 * HOUR, logging.WARNING, "proxy.kept"),
        (1.8 * HOUR, logging.ERROR, "proxy.ending"),
        (2.5 * HOUR, logging.ERROR, "proxy.expired"),
    )
    pauses = []
    for setup.ahead, level, words in steps:
        caplog.clear()
        pauses.append(keeper.step())
        assert [record.levelno for record in caplog.records] == [level]
        assert words in caplog.text
        assert "no VOMS server answers" in caplog.text
        assert setup.place.content == first, "an old proxy is better than none"
    assert pauses == [8.0, 16.0, 32.0, 60.0]
    setup.maker.fault, setup.maker.life_s = None, 20_000.0
    assert keeper.step() == 600.0
    assert setup.place.content != first
    assert keeper.n_failures == 0


def test_without_any_proxy_the_log_says_that_there_is_none(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.maker.fault = "the passphrase is wrong"
    keeper = setup.keeper()
    assert keeper.step() == 8.0
    assert "proxy.missing: none could be made: the passphrase is wrong" in caplog.text
    assert setup.place.content is None
    assert value("servicex_proxy_expiry_timestamp_seconds") == 0


def test_a_proxy_of_another_vo_takes_no_ones_place(
    setup: Setup, authority: TestAuthority, jane: Pair, voms_server: Pair, tmp_path: Path
) -> None:
    require_voms()
    good = tmp_path / "good"
    fake_voms_proxy(authority, jane, voms_server, good, life_s=7200)
    setup.place.content = good.read_bytes()
    setup.ahead = 1.2 * HOUR
    keeper = setup.keeper(wish=ProxyWish(vo="atlas"))
    assert keeper.step() == 8.0, "the maker makes proxies of no VO"
    assert setup.place.content == good.read_bytes()
    with pytest.raises(CredentialError, match="the new proxy is of no VO, not of atlas"):
        keeper.renew()


def test_what_is_no_proxy_is_replaced(setup: Setup) -> None:
    setup.place.content = b"garbage"
    keeper = setup.keeper()
    assert keeper.find() is None
    keeper.step()
    assert keeper.find() is not None


def test_one_place_that_is_away_does_not_hinder_the_other(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    away = BrokenPlace()
    keeper = setup.keeper(away)
    assert keeper.step() == 8.0
    first = setup.place.content
    assert first is not None
    keeper.step()
    assert len(setup.maker.passphrases) == 1, "the proxy that there is will do for the other place"
    assert "proxy.kept" in caplog.text
    away.is_broken = False
    assert keeper.step() == 600.0
    assert away.inner.content == first


async def test_the_loop_ends_when_it_is_told(setup: Setup) -> None:
    stop, written = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    class TellingPlace(MemoryPlace):
        def write(self, proxy: bytes) -> None:
            super().write(proxy)
            loop.call_soon_threadsafe(written.set)

    setup.place = TellingPlace()
    keeping = asyncio.create_task(setup.keeper().run(stop))
    await written.wait()
    stop.set()
    await asyncio.wait_for(keeping, 5)


def test_the_passphrase_is_never_shown(setup: Setup) -> None:
    keeper = setup.keeper()
    keeper.passphrase = b"open sesame"
    assert "sesame" not in repr(keeper)
