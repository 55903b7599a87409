"""Units and reports survive the wire; garbage is refused."""

from __future__ import annotations

from typing import TypeVar, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.compression import Compression
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.replica import ReplicaAttempt
from servicex_server.model.tally import CutStep, StageSeconds, Tally, WeightSum
from servicex_server.model.unit import (
    Failure,
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    TransformUnit,
)
from servicex_server.queue.codec import decode_report, decode_unit, encode_report, encode_unit
from servicex_server.queue.frame import FrameError, pack_frame, unpack_length

PLAIN: dict[object, st.SearchStrategy[object]] = {
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    int: st.integers(-(2**63), 2**63 - 1),
    float: st.floats(allow_nan=False),
}
PLAIN[str | None] = PLAIN[str] | st.none()
PLAIN[int | None] = PLAIN[int] | st.none()
PLAIN[FileId] = PLAIN[int]
PLAIN[RequestId] = PLAIN[str]
PLAIN[tuple[str, ...]] = st.lists(PLAIN[str], max_size=3).map(tuple)
PLAIN[tuple[str | None, ...]] = st.lists(PLAIN[str | None], max_size=3).map(tuple)
PLAIN[tuple[tuple[str, ...], ...]] = st.lists(PLAIN[tuple[str, ...]], max_size=3).map(tuple)
PLAIN[ResultFormat] = st.sampled_from(ResultFormat)
PLAIN[Compression | None] = st.none() | st.builds(Compression, PLAIN[str], PLAIN[int | None], st.booleans())
PLAIN[Tally] = st.builds(
    Tally,
    PLAIN[int],
    st.builds(StageSeconds, *[PLAIN[float]] * 5),
    st.lists(st.builds(CutStep, PLAIN[str], PLAIN[int], PLAIN[str]), max_size=3).map(tuple),
    st.lists(st.builds(WeightSum, PLAIN[str], PLAIN[float], PLAIN[float], PLAIN[str]), max_size=3).map(tuple),
)
PLAIN[tuple[ReplicaAttempt, ...]] = st.lists(
    st.builds(ReplicaAttempt, PLAIN[str], PLAIN[str], PLAIN[float]), max_size=3
).map(tuple)
PLAIN[Failure] = st.builds(Failure, st.sampled_from(Reason), PLAIN[str])

T = TypeVar("T")


def instances(kind: type[T]) -> st.SearchStrategy[T]:
    """Objects of a message class with any values that the wire can carry."""
    return st.builds(kind, **{name: PLAIN[hint] for name, hint in get_type_hints(kind).items()})


@given(instances(TransformUnit) | instances(PreflightUnit))
def test_a_unit_survives(unit: TransformUnit | PreflightUnit) -> None:
    assert decode_unit(encode_unit(unit)) == unit


@given(instances(FileDone) | instances(FileFailed) | instances(PreflightDone))
def test_a_report_survives(report: FileDone | FileFailed | PreflightDone) -> None:
    assert decode_report(encode_report(report)) == report


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    for decode in (decode_unit, decode_report):
        with pytest.raises(FrameError):
            decode(data)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(FrameError, match="unknown kind 'parade'; expected one of transform, preflight"):
        decode_unit(msgspec.msgpack.encode(["parade", {}]))


def test_frames_are_bounded_on_both_sides() -> None:
    assert unpack_length(pack_frame(b"12345", limit=5)[:4], limit=5) == 5
    with pytest.raises(FrameError, match="6 bytes is larger than the allowed 5"):
        pack_frame(b"123456", limit=5)
    with pytest.raises(FrameError, match="announces 4294967295 bytes"):
        unpack_length(b"\xff\xff\xff\xff")
