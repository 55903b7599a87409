"""Ranges that are fetched before they are asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from root_bytes import MemorySource
from servicex_server.errors import SourceUnavailable
from servicex_server.source.ahead import AheadSource

DATA = bytes(range(250)) * 4
NEAR = [(0, 10), (500, 600)]


@pytest.fixture
def memory() -> MemorySource:
    return MemorySource(DATA)


@pytest.fixture
def source(memory: MemorySource) -> Iterator[AheadSource]:
    source = AheadSource(memory, 200)
    yield source
    source.close()


def pieces(wanted: Sequence[tuple[int, int]]) -> list[bytes]:
    return [DATA[start:stop] for start, stop in wanted]


def test_what_was_fetched_is_not_fetched_again(source: AheadSource, memory: MemorySource) -> None:
    source.fetch_ahead(NEAR)
    assert source.read_ranges([*NEAR, (700, 800)]) == pieces([*NEAR, (700, 800)])
    assert memory.asked == [*NEAR, (700, 800)]
    assert source.read_ranges(NEAR) == pieces(NEAR)
    assert memory.asked[3:] == NEAR


def test_what_there_is_no_room_for_is_fetched_when_it_is_asked_for(
    source: AheadSource, memory: MemorySource
) -> None:
    source.fetch_ahead([(0, 201)])
    assert memory.asked == []
    source.fetch_ahead(NEAR)
    source.fetch_ahead([(800, 900)])
    assert source.read_ranges(NEAR) == pieces(NEAR)
    source.fetch_ahead([(800, 900)])
    assert source.read_ranges([(800, 900)]) == pieces([(800, 900)])
    assert memory.asked == [*NEAR, (800, 900)]


def test_a_fault_shows_where_the_bytes_are_needed(
    source: AheadSource, memory: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_wanted: object) -> list[bytes]:
        raise SourceUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(memory, "read_ranges", fail)
        source.fetch_ahead(NEAR)
        with pytest.raises(SourceUnavailable):
            source.read_ranges(NEAR)
    assert source.read_ranges(NEAR) == pieces(NEAR)


def test_a_source_is_closed_when_nobody_reads_from_it_any_more(
    source: AheadSource, memory: MemorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_reading, may_answer, is_closed = threading.Event(), threading.Event(), threading.Event()

    def answer_late(_wanted: object) -> list[bytes]:
        is_reading.set()
        assert may_answer.wait(60)
        assert not is_closed.is_set()
        return [b""]

    monkeypatch.setattr(memory, "read_ranges", answer_late)
    monkeypatch.setattr(memory, "close", is_closed.set)
    source.fetch_ahead(NEAR[:1])
    assert is_reading.wait(60)
    source.close()
    assert not is_closed.is_set()
    may_answer.set()
    assert is_closed.wait(60)
