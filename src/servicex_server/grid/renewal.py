"""Keeping a proxy fresh: when it is due, what happens if it fails, and the loop that does it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from servicex_server.errors import CredentialError
from servicex_server.grid.maker import ProxyWish, checked
from servicex_server.grid.protocol import ProxyMaker, ProxyPlace
from servicex_server.grid.proxy import Proxy, parse_proxy
from servicex_server.telemetry.metrics import PROXY_EXPIRY, PROXY_RENEWALS

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a proxy is renewed, and when its end is close enough to warn of.

    Attributes:
        renew_fraction: of its life, after which it is renewed.
        warn_s: time before the end; for short proxies a quarter of their life.
        first_pause_s: after a renewal that failed; it doubles with each that fails in a row.
        longest_pause_s: where that ends.
        look_s: how often it is looked whether the proxy is still in place.
    """

    renew_fraction: float = 0.5
    warn_s: float = 86400.0
    first_pause_s: float = 10.0
    longest_pause_s: float = 600.0
    look_s: float = 600.0

    def due_at(self, proxy: Proxy) -> datetime:
        """When the proxy is to be renewed."""
        life = proxy.expires_at - proxy.begins_at
        return proxy.begins_at + self.renew_fraction * life

    def is_ending(self, proxy: Proxy, now: datetime) -> bool:
        """Whether the proxy ends so soon that somebody has to know."""
        life_s = (proxy.expires_at - proxy.begins_at).total_seconds()
        return (proxy.expires_at - now).total_seconds() < min(self.warn_s, 0.25 * life_s)

    def pause_s(self, n_failures: int, spread: float) -> float:
        """How long to wait after so many failures in a row; `spread`, from 0 to 1, keeps sites apart."""
        pause_s = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(n_failures - 1, 30))
        return pause_s * (0.5 + 0.5 * spread)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Held:
    proxy: Proxy
    pem: bytes = field(repr=False)


@dataclass(slots=True)
class ProxyKeeper:
    """Puts a fresh proxy into its places in time. What is there is replaced by something better only.

    Attributes:
        places: where the proxy goes; one that lacks it gets the best of the others.
        passphrase: of the user's key; None for a key without one.
        n_failures: renewals that failed in a row.
    """

    maker: ProxyMaker
    places: Sequence[ProxyPlace]
    wish: ProxyWish
    schedule: Schedule = field(default_factory=Schedule)
    passphrase: bytes | None = field(default=None, repr=False)
    clock: Callable[[], datetime] = _utc_now
    spread: Callable[[], float] = random.random
    n_failures: int = 0

    def find(self) -> Proxy | None:
        """The best proxy in any place that is what is wished for; tells its end to the metrics."""
        held = self._best(self._look())
        return None if held is None else held.proxy

    def renew(self) -> Proxy:
        """Makes a proxy and puts it into all places.

        Raises:
            CredentialError: it cannot be made, or not be put into a place; nothing is worse than before.
        """
        try:
            pem = self.maker.make(self.passphrase)
            proxy = checked(pem, self.wish)
            _write(pem, self.places)
        except CredentialError:
            PROXY_RENEWALS.labels("failed").inc()
            raise
        PROXY_RENEWALS.labels("renewed").inc()
        PROXY_EXPIRY.set(proxy.expires_at.timestamp())
        log.info("proxy.renewed: %s", proxy)
        return proxy

    def step(self) -> float:
        """Does what is due now; returns the seconds until the next call. A failure is logged, not raised."""
        held = self._look()
        best = self._best(held)
        proxy = None if best is None else best.proxy
        try:
            if best is None or self.schedule.due_at(best.proxy) <= self.clock():
                proxy = self.renew()
            else:
                lacking = [place for place, has in zip(self.places, held, strict=True) if has is None]
                _write(best.pem, lacking)
        except CredentialError as error:
            self.n_failures += 1
            return self._fail(proxy, error.message)
        self.n_failures = 0
        due_s = (self.schedule.due_at(proxy) - self.clock()).total_seconds() if proxy else 0.0
        return min(self.schedule.look_s, max(due_s, 0.1 * self.schedule.first_pause_s))

    def _look(self) -> list[_Held | None]:
        return [self._look_into(place) for place in self.places]

    def _look_into(self, place: ProxyPlace) -> _Held | None:
        try:
            pem = place.read()
            if pem is None:
                return None
            proxy = parse_proxy(pem)
            self.wish.require_granted(proxy)
        except CredentialError as error:
            log.warning("proxy.unusable: what is there now: %s", error.message)
            return None
        return _Held(proxy, pem)

    def _best(self, held: Sequence[_Held | None]) -> _Held | None:
        best = max(
            (each for each in held if each is not None), key=lambda each: each.proxy.expires_at, default=None
        )
        PROXY_EXPIRY.set(0 if best is None else best.proxy.expires_at.timestamp())
        return best

    def _fail(self, proxy: Proxy | None, reason: str) -> float:
        now = self.clock()
        pause_s = self.schedule.pause_s(self.n_failures, self.spread())
        again = f"attempt {self.n_failures}; the next one in {pause_s:.0f} s"
        if proxy is None:
            log.error("proxy.missing: none could be made: %s (%s)", reason, again)
        elif proxy.expires_at <= now:
            log.error("proxy.expired: at %s and not renewed: %s (%s)", _show(proxy), reason, again)
        elif self.schedule.is_ending(proxy, now):
            log.error("proxy.ending: at %s and not renewed: %s (%s)", _show(proxy), reason, again)
        else:
            log.warning(
                "proxy.kept: the old one lives until %s; not renewed: %s (%s)", _show(proxy), reason, again
            )
        return pause_s

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps the proxy fresh until `stop` is set."""
        while not stop.is_set():
            pause_s = await asyncio.to_thread(self.step)
            try:
                async with asyncio.timeout(pause_s):
                    await stop.wait()
            except TimeoutError:
                continue


def _write(pem: bytes, places: Sequence[ProxyPlace]) -> None:
    """One place that cannot be written to does not keep the proxy from the others."""
    failures = []
    for place in places:
        try:
            place.write(pem)
        except CredentialError as error:
            failures.append(error.message)
    if failures:
        raise CredentialError("; ".join(failures))


def _show(proxy: Proxy) -> str:
    return f"{proxy.expires_at:%Y-%m-%d %H:%M:%S} UTC"
