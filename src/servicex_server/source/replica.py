"""The replicas of one file: which is read, what happened at the others, and how reading goes on elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from servicex_server.errors import (
    ServicexError,
    SiteUnavailable,
    SourceCorrupt,
    SourceMissing,
    SourceRefused,
    SourceUnavailable,
)
from servicex_server.model.naming import show_location
from servicex_server.model.replica import MOST_ATTEMPTS, READ, ReplicaAttempt
from servicex_server.source.checksum import parse_adler32, verify_adler32
from servicex_server.source.health import SiteHealth, sites
from servicex_server.source.open import check_origin, open_source
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import ByteSource, EdgeSource, SourceLimits
from servicex_server.source.race import Contest
from servicex_server.source.reading import Place, Reading, places_of

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES_WITH_OTHERS_LEFT = 2
"""A replica is not worth more of them while another one waits."""
_SLOWER = "not needed: another replica was faster to open"
_SIDE_BY_SIDE = 2
"""Replicas that are being opened at once."""

Fault = SourceUnavailable | SourceRefused | SourceCorrupt
FAULTS = (SourceUnavailable, SourceRefused, SourceCorrupt)
"""What another replica may not have."""


@dataclass(slots=True, eq=False)
class _Try:
    """A replica that was asked for.

    Attributes:
        fault: why it was left.
        outcome: what came of it, where that is no fault.
        seconds: until it was done with; None while it is in use.
    """

    place: Place
    started: float
    source: ByteSource | None = None
    fault: Fault | None = None
    outcome: str = READ
    seconds: float | None = None

    def end(self, fault: Fault | None = None, outcome: str = READ) -> None:
        if self.seconds is None:
            self.fault = fault
            self.outcome = outcome
            self.seconds = time.monotonic() - self.started

    def told_fault(self) -> str:
        location, message = show_location(self.place.location), self.fault.message if self.fault else READ
        return message if location in message else f"{location}: {message}"

    def told(self) -> ReplicaAttempt:
        seconds = time.monotonic() - self.started if self.seconds is None else self.seconds
        location = show_location(self.place.location)
        outcome = self.outcome
        if self.fault is not None:
            # The location stands beside it already.
            outcome = self.fault.message.replace(f" {location}", "")
            outcome = outcome.removeprefix(f"{location}: ").removeprefix(f"{location} ")
        return ReplicaAttempt(location, outcome, round(seconds, 3))


class Replicas:
    """The replicas of a file in the order to try them. For one thread; what it opens is for any number.

    `open` gives the first that can be opened. If its bytes cannot be had later, reading goes on at the next
    one that holds the same file, unnoticed. Where that is not possible, or bytes turn out to be broken, the
    caller says so with `give_up` and begins anew with the next `open`.
    """

    def __init__(
        self,
        locations: Sequence[str],
        policy: SourcePolicy,
        reading: Reading | None = None,
        *,
        adler32: str | None = None,
        health: SiteHealth | None = None,
        opener: Callable[[str], ByteSource] | None = None,
    ) -> None:
        """
        Args:
            locations: as the finder ordered them; those at sick sites are tried last.
            adler32: what the catalogue says of the file's content.
            health: what is known of sites; None for what this process knows.
            opener: opens the locations where they are neither paths nor URLs; may raise what `open` does.
        """
        self._reading = reading or Reading()
        self._adler32 = parse_adler32(adler32) if self._reading.verify_checksums else None
        self._health = health = health or sites
        self._opener = opener
        if opener is None:
            places = places_of(locations, policy, self._reading)
        else:
            places = [Place(location, policy) for location in locations]
        self._waiting = deque(health.sorted(places, lambda place: place.host)[:MOST_ATTEMPTS])
        self._tries: list[_Try] = []
        self._current: _Try | None = None
        self._source: ReplicaSource | None = None
        self._anew: set[Place] = set()
        self._ahead: Future[tuple[_Try, ByteSource]] | None = None

    @property
    def limits(self) -> SourceLimits:
        """Of each source."""
        return self._reading.limits

    @property
    def location(self) -> str:
        """The replica that is read, or was tried last, safe to show."""
        if self._current is not None:
            return show_location(self._current.place.location)
        if self._tries:
            return show_location(self._tries[-1].place.location)
        return show_location(self._waiting[0].location) if self._waiting else ""

    @property
    def given_location(self) -> str:
        """The same as it was given, though a cache reads it for us; may hold a secret."""
        if self._current is None:
            return ""
        return self._current.place.origin or self._current.place.location

    @property
    def attempts(self) -> tuple[ReplicaAttempt, ...]:
        """What happened at each replica, in the order of trying."""
        return tuple(each.told() for each in self._tries)

    def open(self) -> ByteSource:
        """The next replica that can be opened.

        Raises:
            SourceUnavailable, SourceRefused, SourceCorrupt: none is left; the text tells of all of them.
        """
        self._current, source = self._open_next() if self._ahead is None else self._ahead.result()
        self._ahead = None
        # A local file is read as it is: through another layer it would cost more memory.
        self._source = ReplicaSource(self, source) if isinstance(source, EdgeSource) else None
        return source if self._source is None else self._source

    def open_ahead(self) -> None:
        """Begins what `open` then waits for. Nothing else may be asked before, but to `abandon`."""
        if self._ahead is None:
            self._ahead = Future()
            work = partial(_fulfil, self._ahead, self._open_next)
            threading.Thread(target=work, name="replica-ahead", daemon=True).start()

    def abandon(self) -> None:
        """Closes what was opened ahead, as nobody will read it."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.add_done_callback(_close_unread)

    def finish(self) -> None:
        """The replica that is in use was read to the end."""
        if self._current is not None:
            self._current.end()

    def give_up(self, fault: Fault) -> bool:
        """The replica in use is no good, and its source closed; whether another one is left."""
        current, source = self._current, self._source
        self._current = self._source = None
        if current is None:
            return bool(self._waiting)
        place = current.place
        is_mixed = source is not None and source.is_mixed
        if isinstance(fault, SourceCorrupt) and is_mixed and place not in self._anew:
            # The broken bytes may be from the replica before.
            self._anew.add(place)
            self._waiting.appendleft(place)
        self._leave(current, fault)
        return bool(self._waiting)

    def succeed(self, source: ByteSource, fault: SourceUnavailable) -> ByteSource:
        """The source that takes the place of one that failed in the middle of the file.

        Raises:
            SourceUnavailable, SourceRefused, SourceCorrupt: none is left that can be opened, or the next one
                holds another file, so that reading has to begin anew there.
        """
        before, self._current = self._current, None
        if before is not None:
            self._leave(before, fault)
        opened, following = self._open_next()
        if not _is_same(source, following):
            following.close()
            self._tries.remove(opened)
            self._waiting.appendleft(opened.place)
            raise fault
        log.info("reading goes on at %s", following.location)
        self._current = opened
        return following

    def _leave(self, tried: _Try, fault: Fault) -> None:
        log.info("replica failed: %s", fault.message)
        tried.end(fault)
        if isinstance(fault, SiteUnavailable) and tried.place.host:
            self._health.failed(tried.place.host)

    def _open_next(self) -> tuple[_Try, ByteSource]:
        hedge_s = self._reading.limits.hedge_s
        while self._waiting:
            if hedge_s is not None and len(self._waiting) > 1:
                opened = self._open_hedged(hedge_s)
            else:
                opened = self._begin()
                self._try(opened)
            if opened is not None and opened.source is not None:
                return opened, opened.source
        raise self._worst()

    def _begin(self) -> _Try:
        tried = _Try(self._waiting.popleft(), time.monotonic())
        self._tries.append(tried)
        return tried

    def _try(self, tried: _Try) -> None:
        """Opens a replica: afterwards it has a source, or a fault."""
        limits, place = self._reading.limits, tried.place
        if self._waiting:
            limits = replace(limits, n_attempts=min(limits.n_attempts, _TRIES_WITH_OTHERS_LEFT))
        try:
            if place.origin:
                check_origin(place.origin, place.policy)
            if self._opener is not None:
                source = self._opener(place.location)
            else:
                source = open_source(place.location, place.policy, limits)
            if place.host:
                self._health.succeeded(place.host, time.monotonic() - tried.started)
            self._verify(source)
            tried.source = source
        except FAULTS as fault:
            self._leave(tried, fault)

    def _verify(self, source: ByteSource) -> None:
        if self._adler32 is None:
            return
        try:
            verify_adler32(source, self._adler32)
        except BaseException:
            source.close()
            raise

    def _open_hedged(self, hedge_s: float) -> _Try | None:
        """The first of some replicas to open. Each gets a while before the next one is asked beside it."""
        running: list[_Try] = []
        with closing(Contest(self._try, _close)) as contest:
            while running or self._waiting:
                if self._waiting and len(running) < _SIDE_BY_SIDE:
                    running.append(self._begin())
                    contest.enter(running[-1])
                may_enter = bool(self._waiting) and len(running) < _SIDE_BY_SIDE
                # Otherwise there is nothing better to do than to wait; opening has its own bounds.
                done = contest.wait(hedge_s if may_enter else None)
                if done is None:
                    continue
                running.remove(done)
                if done.source is not None:
                    for each in running:
                        # Slow is not sick: it is there for when the faster one fails. What its site is worth
                        # is noted when it has opened.
                        each.end(outcome=_SLOWER)
                        self._waiting.append(each.place)
                    return done
        return None

    def _worst(self) -> ServicexError:
        """One error for all replicas: the kind that lets the file be tried again, if one may help."""
        faults = [each.fault for each in self._tries if each.fault is not None]
        if not faults:
            message = "the file has no location"
            return SourceUnavailable(message)
        if len(faults) == 1:
            return faults[0]
        may_come = [fault for fault in faults if _may_come(fault)]
        kind = type((may_come or faults)[0])
        # A replica that was tried twice with the same result is told of once.
        texts = dict.fromkeys(each.told_fault() for each in self._tries if each.fault is not None)
        message = "no replica can be read: " + "; ".join(texts)
        return kind(message)


def _fulfil(future: Future[T], work: Callable[[], T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001  it belongs to whoever asks for the result
        future.set_exception(error)


def _close_unread(ahead: Future[tuple[_Try, ByteSource]]) -> None:
    if ahead.exception() is None:
        ahead.result()[1].close()


def _may_come(fault: Fault) -> bool:
    return isinstance(fault, SourceUnavailable) and not isinstance(fault, SourceMissing)


def _close(tried: _Try) -> None:
    if tried.source is not None:
        tried.source.close()


def _is_same(one: ByteSource, other: ByteSource) -> bool:
    """Whether two replicas hold the same file, as far as their beginnings and ends tell.

    At the beginning of a ROOT file is its unique number, at the end the places of all that is in it.
    """
    if one.size_bytes != other.size_bytes or not isinstance(one, EdgeSource):
        return False
    known = one.edges()
    try:
        found = other.read_ranges(list(known))
    except FAULTS:
        return False
    return bool(known) and found == list(known.values())


class ReplicaSource:
    """The bytes of a file from one replica, and from the next one when that fails. Any thread may read."""

    def __init__(self, replicas: Replicas, source: ByteSource) -> None:
        self._replicas = replicas
        self._source = source
        self._left: list[ByteSource] = []
        self._lock = threading.Lock()
        self._fault: ServicexError | None = None
        self._is_closed = False
        self.identity = source.identity
        self.fingerprint = source.fingerprint
        self.size_bytes = source.size_bytes

    @property
    def location(self) -> str:
        return self._source.location

    @property
    def bytes_read(self) -> int:
        return self._source.bytes_read + sum(source.bytes_read for source in self._left)

    @property
    def is_mixed(self) -> bool:
        """Whether some bytes are from an earlier replica."""
        return bool(self._left)

    def read_ranges(self, wanted: Sequence[tuple[int, int]]) -> list[bytes]:
        while True:
            source = self._source
            try:
                return source.read_ranges(wanted)
            except SourceUnavailable as fault:
                self._change(source, fault)

    def _change(self, failed: ByteSource, fault: SourceUnavailable) -> None:
        """Lets another replica take the place of one that failed, if no other thread has done so."""
        with self._lock:
            if self._fault is not None:
                raise self._fault
            if failed is not self._source:
                return
            if self._is_closed:
                # A fetch ahead that ends late; others may be reading from the next replica by now.
                raise fault
            try:
                following = self._replicas.succeed(failed, fault)
            except FAULTS as error:
                self._fault = error
                raise
            # Not closed: other threads may be reading from it.
            self._left.append(failed)
            self._source = following

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
        for source in (*self._left, self._source):
            source.close()
