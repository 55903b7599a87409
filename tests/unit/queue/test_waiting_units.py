"""Whose unit is next: users in turn, and the requests of each."""

from __future__ import annotations

from dataclasses import replace

from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import PreflightUnit, TransformUnit
from servicex_server.queue.waiting import WaitingUnits


def unit(owner: str, request: str, file: int = 1) -> TransformUnit:
    return TransformUnit(
        RequestId(request), FileId(file), (), "uproot", "", ResultFormat.PARQUET, store_key="", owner=owner
    )


def take_all(waiting: WaitingUnits) -> list[str]:
    order: list[str] = []
    while (taken := waiting.take()) is not None:
        order.append(taken.request_id)
    return order


def test_one_file_of_another_user_comes_next() -> None:
    waiting = WaitingUnits(20_000)
    waiting.add([unit("marie", "m1", file) for file in range(10_000)])
    for _ in range(10):
        assert waiting.take() is not None
    waiting.add([unit("niels", "n1")])
    assert take_all(waiting)[:3] == ["n1", "m1", "m1"]


def test_many_requests_are_worth_no_more_than_one() -> None:
    waiting = WaitingUnits(100)
    for number in range(4):
        waiting.add([unit("marie", f"m{number}", file) for file in range(3)])
    waiting.add([unit("niels", "n", file) for file in range(6)])
    order = take_all(waiting)
    assert order[:12:2] == ["m0", "m1", "m2", "m3", "m0", "m1"]
    assert order[1:12:2] == ["n"] * 6
    assert order[12:] == ["m2", "m3", "m0", "m1", "m2", "m3"]


def test_preflights_take_turns_by_user_too() -> None:
    waiting = WaitingUnits(100)
    for owner, request in (("marie", "m1"), ("marie", "m2"), ("marie", "m3"), ("niels", "n")):
        waiting.add([PreflightUnit(RequestId(request), (), "uproot", "", ResultFormat.PARQUET, owner=owner)])
    assert take_all(waiting) == ["m1", "n", "m2", "m3"]


def test_what_is_given_back_comes_first() -> None:
    waiting = WaitingUnits(100)
    waiting.add([unit("marie", "m"), unit("niels", "n", 1), unit("niels", "n", 2), unit("niels", "o")])
    first = waiting.take()
    second = waiting.take()
    assert first is not None
    assert second is not None
    waiting.give_back(second)
    waiting.give_back(first)
    assert take_all(waiting) == ["m", "n", "o", "n"]


def test_a_dropped_request_leaves_its_user_the_others() -> None:
    waiting = WaitingUnits(100)
    waiting.add([unit("marie", "m1"), unit("marie", "m2"), unit("niels", "n")])
    assert waiting.drop(RequestId("m1")) == 1
    assert waiting.drop(RequestId("m1")) == 0
    assert len(waiting) == 2
    waiting.add([unit("marie", "m1")])
    assert take_all(waiting) == ["m2", "n", "m1"]


def test_who_comes_back_at_once_keeps_nobody_waiting() -> None:
    waiting = WaitingUnits(100)
    waiting.add([unit("marie", "m", file) for file in range(3)])
    order = []
    for round_ in range(3):
        for owner in ("niels", "olga"):
            waiting.add([unit(owner, f"{owner}{round_}")])
            taken = waiting.take()
            assert taken is not None
            order.append(taken.owner)
    assert order == ["marie", "niels", "olga", "marie", "niels", "olga"]


def test_requests_that_come_and_go_leave_nothing_behind() -> None:
    waiting = WaitingUnits(100)
    waiting.add([unit("marie", "m")])
    for number in range(10_000):
        waiting.add([unit("niels", f"n{number}")])
        waiting.drop(RequestId(f"n{number}"))
    assert len(waiting._transform._line) < 200
    assert take_all(waiting) == ["m"]


def test_a_request_belongs_to_one_user_whatever_its_units_say() -> None:
    waiting = WaitingUnits(100)
    waiting.add([unit("marie", "m"), replace(unit("marie", "m", 2), owner="")])
    assert waiting.drop(RequestId("m")) == 2
    assert len(waiting) == 0
