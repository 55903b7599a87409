"""Celery's message format, without Celery."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.queue.celery_wire import (
    MAX_BODY_BYTES,
    CeleryMessage,
    CeleryTask,
    build_task,
    finder_queue,
    lookup_task,
    parse_task,
    sidecar_queue,
    sidecar_task,
    stop_sidecars,
)
from servicex_server.queue.frame import FrameError

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=10,
)


@given(st.lists(values, max_size=3), st.dictionaries(words, values, max_size=3))
def test_a_task_survives_the_way(args: list[None], kwargs: dict[str, None]) -> None:
    task = CeleryTask("a.b", tuple(args), kwargs)
    assert parse_task(build_task(task)) == task


@given(st.binary(max_size=60))
def test_any_bytes_are_a_task_or_refused(body: bytes) -> None:
    with suppress(FrameError):
        parse_task(CeleryMessage({"task": "t", "id": "i"}, body))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"headers": {}}, "the headers 'task' and 'id'"),
        ({"headers": {"task": "t", "id": 5}}, "the headers 'task' and 'id'"),
        ({"headers": {"task": "", "id": "i"}}, "empty or too long"),
        ({"content_type": "application/x-python-serialize"}, "only application/json"),
        ({"body": b"[" * 100_000}, "unexpected bytes"),
        ({"body": b" " * (MAX_BODY_BYTES + 1)}, "more than the allowed"),
        ({"body": b'{"task": 1}'}, "unexpected bytes"),
    ],
)
def test_what_is_no_task_is_refused(changes: dict[str, object], text: str) -> None:
    message = build_task(CeleryTask("t"))
    with pytest.raises(FrameError, match=text):
        parse_task(replace(message, **changes))  # type: ignore[arg-type]  # tests name the fields


def test_what_is_too_long_is_not_built() -> None:
    with pytest.raises(FrameError, match="larger than the allowed"):
        build_task(CeleryTask("t", ("x" * (MAX_BODY_BYTES + 1),)))


def test_a_lookup_is_what_finders_expect() -> None:
    task = lookup_task("rucio", "a:b?files=2", DatasetId(5), "http://s/t/")
    message = build_task(task)
    assert finder_queue("rucio").name == "did_finder_rucio"
    assert message.headers["task"] == "did_finder_rucio.lookup_dataset"
    assert message.correlation_id == message.headers["id"] == message.headers["root_id"] == task.id
    assert json.loads(message.body) == [
        ["a:b?files=2", 5, "http://s/t/"],
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]


def test_a_file_is_what_sidecars_expect() -> None:
    task = sidecar_task(
        RequestId("r"),
        FileId(1),
        ["p"],
        endpoint="http://s",
        destination="volume",
        result_format="parquet",
    )
    assert task.name == "transformer_sidecar.transform_file"
    assert json.loads(build_task(task).body)[:2] == [
        [],
        {
            "request_id": "r",
            "file_id": 1,
            "paths": ["p"],
            "service_endpoint": "http://s",
            "result_destination": "volume",
            "result_format": "parquet",
        },
    ]
    queue = sidecar_queue(RequestId("r"))
    assert (queue.name, queue.durable, queue.auto_delete) == ("transformer-r", False, True)
    assert queue.arguments == {}
    assert json.loads(stop_sidecars(RequestId("r")).body) == {
        "method": "cancel_consumer",
        "arguments": {"queue": "transformer-r"},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
