"""The books of both sides of the AMQP queue: what goes where, and what was lost. No broker, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from unittest import mock

import pytest
from aio_pika import IncomingMessage
from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic
from pamqp.header import ContentHeader

from servicex_server.errors import ConfigurationError
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileFailed, PreflightUnit, TransformUnit, Unit
from servicex_server.queue.codec import encode_unit
from servicex_server.queue.outbox import Outbox
from servicex_server.queue.transports.amqp.acks import Acks
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.crew import Absence
from servicex_server.queue.transports.amqp.flight import Flight
from servicex_server.queue.transports.amqp.hands import Answer, Hand, Hands
from servicex_server.queue.transports.amqp.inflow import Inflow
from servicex_server.queue.transports.amqp.message import Heartbeat, Work, key_of, pack
from servicex_server.queue.transports.amqp.pace import Pace
from servicex_server.queue.transports.amqp.topology import Topology

GRACE_S, SILENCE_S = 5.0, 10.0


def transform(file: int, request: str = "r", attempt: int = 1, deadline_s: float = 60.0) -> TransformUnit:
    return TransformUnit(
        request_id=RequestId(request),
        file_id=FileId(file),
        paths=("/data/a.root",),
        codegen="uproot",
        selection="",
        result_format=ResultFormat.PARQUET,
        store_key=f"{request}/{file}",
        attempt=attempt,
        deadline_s=deadline_s,
    )


def preflight(request: str) -> PreflightUnit:
    return PreflightUnit(RequestId(request), (("/data/a.root",),), "uproot", "", ResultFormat.PARQUET)


@dataclass
class Leader:
    """A flight with a clock that tests move, and units that were published and confirmed."""

    now_s: float = 1000.0
    flight: Flight = field(init=False)

    def __post_init__(self) -> None:
        self.flight = Flight(silence_s=SILENCE_S, grace_s=GRACE_S, overdue_s=7.0, clock=lambda: self.now_s)

    def publish(self, *units: Unit) -> list[Unit]:
        """The units that went to the broker."""
        self.flight.expect(units)
        published = []
        for unit in units:
            flying = self.flight.admit(unit)
            if flying is not None:
                flying.is_confirmed = True
                published.append(flying.unit)
        return published

    def beat(self, name: str, slots: int, *units: Unit, stamp: int = 2**62) -> None:
        hands = tuple((str(key_of(unit)), stamp) for unit in units)
        self.flight.heard(Heartbeat(name, slots, hands))

    def wait(self, seconds: float, *beating: tuple[str, int, tuple[Unit, ...]]) -> None:
        """Lets time pass in steps, with heartbeats."""
        for _ in range(round(seconds)):
            self.flight.pass_time(1.0)
            for name, slots, units in beating:
                self.beat(name, slots, *units)


def test_without_workers_no_transform_goes_to_the_broker() -> None:
    leader = Leader()
    before = leader.flight.has_room_for_transform, leader.flight.has_room_for_preflight
    leader.beat("w", 2)
    assert before == (False, True)
    assert leader.flight.has_room_for_transform
    assert leader.flight.n_slots == 2


def test_one_unit_per_slot_and_one_to_spare_when_units_are_long() -> None:
    leader = Leader()
    leader.beat("w", 2)
    leader.beat("v", 1)
    n = 0
    while leader.flight.has_room_for_transform:
        n += 1
        leader.publish(transform(n))
    assert n == 4


def test_a_draining_worker_keeps_what_it_has_and_gets_nothing() -> None:
    leader = Leader()
    units = [transform(1), transform(2)]
    leader.publish(*units)
    leader.beat("w", 0, *units)
    leader.publish(transform(3))
    assert leader.flight.n_slots == 0
    assert not leader.flight.has_room_for_transform


def test_tiny_units_lie_ready_for_a_quarter_of_a_second() -> None:
    pace = Pace(ahead_s=0.25, most=300)
    for n in range(3000):
        pace.ended(n / 400)
    assert 90 <= pace.ahead(3000 / 400) <= 110
    assert pace.ahead(3000 / 400 + 60) == 1
    for n in range(100_000):
        pace.ended(100 + n / 50_000)
    assert pace.ahead(102) == 300


def test_what_a_worker_said_before_it_reported_does_not_delay_a_retry() -> None:
    leader = Leader()
    unit = transform(1)
    leader.publish(unit)
    leader.beat("w", 1, unit, stamp=5)
    leader.flight.landed(key_of(unit), 5)
    # The user retries the file within the interval between two heartbeats, and a late one comes, too.
    assert leader.publish(unit) == [unit]
    leader.flight.landed(key_of(unit), 5)
    leader.beat("w", 1, unit, stamp=5)
    assert leader.publish(unit) == [unit]
    leader.flight.landed(key_of(unit), 5)
    leader.beat("v", 1, unit, stamp=6)
    assert leader.publish(unit) == []


def message_of(body: bytes, tag: int) -> IncomingMessage:
    """A message as the broker's library hands it over."""
    header = ContentHeader(properties=Basic.Properties())
    return IncomingMessage(DeliveredMessage(Basic.Deliver(delivery_tag=tag), header, body, mock.Mock()))


async def test_every_unit_that_the_broker_gives_up_is_reported() -> None:
    outbox, acks = Outbox(), Acks()
    inflow = Inflow(Flight(silence_s=SILENCE_S, grace_s=GRACE_S), outbox, lambda: None)
    letters = [message_of(pack(Work(tag, encode_unit(transform(tag)))), tag) for tag in (1, 2, 3)]
    reports = outbox.deliveries()
    for letter in letters[:2]:
        inflow.receive_failed(letter, acks)
    heard = [await anext(reports), await anext(reports)]
    for delivery in heard:
        await delivery.ack()
    inflow.receive_failed(letters[0], acks)  # it comes again, and is not told again
    inflow.receive_failed(letters[2], acks)
    heard.append(await anext(reports))
    assert [it.report.file_id for it in heard if isinstance(it.report, FileFailed)] == [1, 2, 3]


def test_preflights_are_bounded_apart_from_transforms() -> None:
    flight = Flight(silence_s=1, grace_s=1, max_preflights=2)
    for name in ("a", "b"):
        assert flight.has_room_for_preflight
        flight.admit(preflight(name))
    assert not flight.has_room_for_preflight
    flight.landed(key_of(preflight("a")), 1)
    assert flight.has_room_for_preflight


def test_a_unit_that_ended_while_it_waited_is_not_published() -> None:
    leader = Leader()
    unit = transform(1)
    leader.flight.expect([unit])
    leader.flight.landed(key_of(unit), 2**62)  # its report had been under way
    assert leader.flight.admit(unit) is None
    assert leader.publish(unit) == [unit], "but it is when it is wanted again"
    assert leader.publish(unit) == [], "once"


def test_a_new_leader_adopts_what_is_in_hand() -> None:
    leader = Leader()
    leader.beat("w", 2, transform(1))
    assert leader.publish(transform(1), transform(2)) == [transform(2)]
    assert len(leader.flight) == 2


def test_after_an_outage_what_is_in_no_hand_goes_out_again() -> None:
    leader = Leader()
    leader.publish(transform(1), transform(2))
    leader.beat("w", 1, transform(1))
    leader.flight.interrupted()
    leader.publish(preflight("p"))  # it does not wait until all workers were heard
    assert leader.flight.take_unheld() == [transform(2)]


def test_a_unit_nowhere_is_missing_after_a_grace() -> None:
    leader = Leader()
    held, lost, ready = units = [transform(1), transform(2), transform(3)]
    leader.publish(*units)
    workers = ("w", 1, (held,))
    for _ in range(2):
        leader.wait(GRACE_S, workers)
        assert leader.flight.take_missing(2) == [], "the broker has two of them"
    leader.wait(GRACE_S, workers)
    assert leader.flight.take_missing(1) == []
    leader.wait(1, workers)
    assert leader.flight.take_missing(1) == [lost], "queues are served in order"
    assert leader.publish(lost) == [lost]
    leader.wait(1, workers)
    assert leader.flight.take_missing(2) == []
    assert ready not in leader.flight.take_missing(2)


def test_what_was_never_confirmed_is_not_called_missing() -> None:
    leader = Leader()
    leader.flight.admit(transform(1))
    leader.wait(100)
    assert leader.flight.take_missing(0) == []


def test_a_silent_worker_loses_its_units_at_once() -> None:
    leader = Leader()
    leader.publish(transform(1))
    leader.beat("w", 1, transform(1))
    leader.wait(SILENCE_S)
    assert leader.flight.take_missing(0) == []
    leader.wait(1)
    assert leader.flight.n_slots == 0
    assert leader.flight.take_missing(0) == [transform(1)]


def test_an_outage_is_no_silence() -> None:
    leader = Leader()
    leader.publish(transform(1))
    leader.beat("w", 1, transform(1))
    leader.now_s += 10_000  # but no time passed in which anything could be heard
    assert leader.flight.n_slots == 1
    assert leader.flight.take_missing(0) == []


def test_a_worker_that_sits_on_a_unit_loses_it() -> None:
    leader = Leader()
    unit = transform(1, deadline_s=3.0)
    leader.publish(unit)
    leader.beat("w", 1, unit)
    leader.wait(9, ("w", 1, (unit,)))
    assert leader.flight.take_missing(0) == []
    leader.wait(GRACE_S + 2, ("w", 1, (unit,)))
    assert leader.flight.take_missing(0) == [unit]


def test_a_worker_that_says_good_bye_has_nothing() -> None:
    leader = Leader()
    leader.publish(transform(1))
    leader.beat("w", 4, transform(1))
    leader.flight.heard(Heartbeat("w", 0, is_last=True))
    assert leader.flight.n_slots == 0
    leader.flight.interrupted()
    assert leader.flight.take_unheld() == [transform(1)]


def test_a_cancellation_counts_for_what_was_published_before() -> None:
    leader = Leader()
    before = leader.flight.admit(transform(1))
    leader.flight.admit(transform(1, "other"))
    assert before is not None
    cancel = leader.flight.cancel(RequestId("r"))
    assert len(leader.flight) == 1
    after = leader.flight.admit(transform(1))
    assert after is not None
    key = key_of(transform(1))
    assert before.stamp < cancel.stamp < after.stamp
    assert leader.flight.is_canceled(key, before.stamp)
    assert not leader.flight.is_canceled(key, after.stamp)
    missed = Heartbeat("w", 1, ((str(key), before.stamp), (str(key_of(transform(1, "other"))), 1)))
    assert leader.flight.heard(missed) == [cancel]


def hand(unit: Unit, stamp: int = 1, message: object = "message") -> Hand:
    return Hand(unit, key_of(unit), stamp, message)  # type: ignore[arg-type]  # any object will do


def test_a_unit_in_hand_is_not_begun_twice() -> None:
    hands = Hands()
    first, again = hand(transform(1)), hand(transform(1), 2, "other")
    assert hands.consider(first) == (Answer.TAKE, first)
    assert hands.consider(again) == (Answer.DROP, first)
    first.message = None
    assert hands.consider(again) == (Answer.ADOPTED, first)
    assert (first.message, first.stamp) == (again.message, 2)
    assert [it.key for it in hands] == [first.key]


def test_a_reported_unit_that_comes_again_is_dropped_unless_it_was_published_later() -> None:
    hands = Hands()
    first = hand(transform(1), 5)
    hands.consider(first)
    hands.ended(first)
    assert len(hands) == 0
    assert hands.consider(hand(transform(1), 5))[0] is Answer.DROP
    assert hands.consider(hand(transform(1), 6))[0] is Answer.TAKE


def test_a_canceled_unit_is_dropped_unless_it_was_published_later() -> None:
    hands = Hands()
    running, other = hand(transform(1), 5), hand(transform(1, "other"), 5)
    hands.consider(running)
    hands.consider(other)
    assert hands.cancel(RequestId("r"), 5) == [running]
    assert running.is_canceled
    assert not other.is_canceled
    assert hands.consider(hand(transform(2), 4))[0] is Answer.DROP
    later = hand(transform(1), 6)
    assert hands.consider(later) == (Answer.TAKE, later), "also while the canceled one still ends"
    hands.let_go(running)
    assert list(hands) == [other, later]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("amqp://u:p@host", "host:5672 (virtual host /)"),
        ("amqps://u:p@host/%2F", "host:5671 (virtual host /)"),
        ("amqp://u:p%2Fq%40@10.0.0.1:5673/a%2Fb?heartbeat=9000", "10.0.0.1:5673 (virtual host a/b)"),
        ("amqp://[::1]/x", "[::1]:5672 (virtual host x)"),
    ],
)
def test_an_address_shows_no_password(url: str, name: str) -> None:
    address = BrokerAddress.parse(url)
    assert address.name == name
    assert "p@" not in repr(address)
    assert "p%2F" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "secret",
        "http://u:secret@host/",
        "amqp://u:secret/x@host/",
        "amqp://u:secret#x@host/",
        "amqp://u:12#secret@host/",
        "amqp://u:1/secret@host/",
        "amqp://u:12?secret@host/",
        "amqp:///secret",
    ],
)
def test_a_wrong_address_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="percent-encoded") as caught:
        BrokerAddress.parse(url)
    assert "secret" not in str(caught.value)


def test_a_missing_authority_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"cafile that is no file: /no/ca\.pem"):
        BrokerAddress.parse("amqps://u:p@host/?cafile=/no/ca.pem")


@pytest.mark.parametrize("prefix", ["", "a b", "a/b", "x" * 101])
def test_a_prefix_is_a_plain_word(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        Topology(prefix)


def test_the_lack_of_workers_is_told_once_it_lasts_and_work_waits() -> None:
    absence = Absence(10)
    steps = [(0, 0), (3, 0), (0, 0), (3, 0), (3, 0), (3, 0), (0, 0), (3, 2), (3, 2)]
    told = [absence.pass_time(6, n_waiting=waiting, n_slots=slots) for waiting, slots in steps]
    assert told == [None, None, None, None, True, None, None, False, None]
