"""What waits to be published: order, turns, and what may happen in between."""

from __future__ import annotations

import asyncio

from servicex_server.model.ids import FileId, RequestId
from servicex_server.service.backlog import Backlog, Retry
from servicex_server.service.notify import Notifier

A, B = RequestId("a"), RequestId("b")


def test_requests_take_turns() -> None:
    backlog = Backlog()
    backlog.add_files(A)
    backlog.add_files(B)
    order = []
    for position in range(3):
        for _ in range(2):
            turn = backlog.next_turn()
            assert turn is not None
            order.append(turn.request_id)
            backlog.advance(turn, position, is_last=position == 2)
    assert order == [A, B] * 3
    assert backlog.is_empty
    assert backlog.next_turn() is None


def test_files_added_during_a_turn_are_not_forgotten() -> None:
    backlog = Backlog()
    backlog.add_files(A)
    turn = backlog.next_turn()
    assert turn is not None
    backlog.add_files(A)
    backlog.advance(turn, 7, is_last=True)
    again = backlog.next_turn()
    assert again is turn
    assert again.position == 7


def test_a_request_that_comes_back_starts_anew() -> None:
    backlog = Backlog()
    backlog.add_files(A)
    old = backlog.next_turn()
    assert old is not None
    backlog.drop(A)
    backlog.add_files(A)
    backlog.advance(old, 7, is_last=True)
    backlog.end_turn(old)
    new = backlog.next_turn()
    assert new is not None
    assert new is not old
    assert new.position == -1


def test_retries_come_when_they_are_due() -> None:
    backlog = Backlog()
    late, soon, sooner = (Retry(due, A, FileId(round(due)), 0) for due in (30.0, 20.0, 10.0))
    for retry in (late, soon, sooner):
        backlog.add_retry(retry)
    assert backlog.next_due_s == 10.0
    assert backlog.take_retries(5.0, 10) == []
    assert backlog.take_retries(20.0, 1) == [sooner]
    assert backlog.take_retries(20.0, 10) == [soon]
    assert not backlog.is_empty


def test_a_unit_is_retried_once_at_a_time() -> None:
    backlog = Backlog()
    first, repeat, other = (
        Retry(1.0, A, FileId(1), 0),
        Retry(2.0, A, FileId(1), 0),
        Retry(3.0, B, FileId(1), 0),
    )
    for retry in (first, repeat, other):
        backlog.add_retry(retry)
    assert backlog.take_retries(9.0, 10) == [first, other]
    backlog.add_retry(repeat)
    assert backlog.take_retries(9.0, 10) == [repeat]


async def test_waiting_ends_when_something_comes() -> None:
    backlog = Backlog()
    await backlog.wait(0.0)
    waiting = asyncio.create_task(backlog.wait(None))
    await asyncio.sleep(0)
    backlog.add_preflight(A)
    await waiting
    assert backlog.take_preflight() == A
    assert backlog.take_preflight() is None


async def test_a_bell_rings_for_its_request_alone() -> None:
    notifier = Notifier()
    with notifier.watch(A) as one, notifier.watch(A) as two, notifier.watch(B) as other:
        notifier.ring(A)
        notifier.ring(RequestId("nobody"))
        assert (one.is_set(), two.is_set(), other.is_set()) == (True, True, False)
    assert notifier.watched == 0
    notifier.ring(A)


def test_a_preflight_that_is_asked_for_while_it_is_taken_comes_again() -> None:
    backlog = Backlog()
    request_id = RequestId("a")
    backlog.add_preflight(request_id)
    assert backlog.take_preflight() == request_id
    backlog.add_preflight(request_id)  # its first file was found just after one looked for it in vain
    backlog.drop_preflight(request_id)
    assert backlog.take_preflight() == request_id
    backlog.drop_preflight(request_id)
    assert backlog.take_preflight() is None
