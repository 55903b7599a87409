"""Celery's messages (protocol 2, JSON), as the ecosystem's DID finders and official sidecars speak it. Pure.

A task message has its name and id in headers and `[args, kwargs, embed]` as its body; see
https://docs.celeryq.dev/en/stable/internals/protocol.html. Celery itself is not needed to speak it.

The wire names of ServiceX (task names, keyword arguments) are those of servicex-did-finder-lib 3.2 and of the
official transformer sidecar.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import msgspec

from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.queue.frame import FrameError, decode

JsonValue = None | bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"]

MAX_BODY_BYTES = 1024 * 1024
"""Of a task: a look-up has a DID, a file its replicas. Anything longer is refused on both sides."""

_MAX_NAME = 255
_MAX_REPR = 1024

SIDECAR_TASK = "transformer_sidecar.transform_file"
BROADCAST_EXCHANGE = "celery.pidbox"


@dataclass(frozen=True, slots=True)
class CeleryMessage:
    """What goes into a message: its headers, its `correlation_id`, its body (JSON in UTF-8)."""

    headers: Mapping[str, JsonValue]
    body: bytes
    correlation_id: str = ""
    content_type: str = "application/json"
    content_encoding: str = "utf-8"


@dataclass(frozen=True, slots=True)
class CeleryTask:
    """A call of a task that somebody else runs."""

    name: str
    args: tuple[JsonValue, ...] = ()
    kwargs: Mapping[str, JsonValue] = field(default_factory=dict)
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True)
class CeleryQueue:
    """How a queue of the ecosystem is declared: exactly so, or the broker refuses one of the two sides.

    Attributes:
        consumer_timeout_ms: argument `x-consumer-timeout`, which newer sidecars have.
    """

    name: str
    durable: bool
    auto_delete: bool
    consumer_timeout_ms: int | None = None

    @property
    def arguments(self) -> dict[str, int]:
        return {} if self.consumer_timeout_ms is None else {"x-consumer-timeout": self.consumer_timeout_ms}


def build_task(task: CeleryTask, *, origin: str = "servicex") -> CeleryMessage:
    """The task as a message, with all headers that Celery's own clients set.

    Raises:
        FrameError: it is too long, or not JSON.
    """
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    body = _encode([task.args, task.kwargs, embed])
    if len(body) > MAX_BODY_BYTES or not 0 < len(task.name) <= _MAX_NAME:
        message = (
            f"the task {task.name[:40]!r} with {len(body)} bytes is larger than the allowed {MAX_BODY_BYTES}"
        )
        raise FrameError(message)
    headers: dict[str, JsonValue] = {
        "lang": "py",
        "task": task.name,
        "id": task.id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task.id,
        "parent_id": None,
        "argsrepr": repr(task.args)[:_MAX_REPR],
        "kwargsrepr": repr(dict(task.kwargs))[:_MAX_REPR],
        "origin": origin,
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    return CeleryMessage(headers, body, correlation_id=task.id)


def parse_task(message: CeleryMessage) -> CeleryTask:
    """The task in a message of whatever client.

    Raises:
        FrameError: it is no task message of protocol 2, not JSON, or too long.
    """
    name, task_id = message.headers.get("task"), message.headers.get("id")
    if not (isinstance(name, str) and isinstance(task_id, str)):
        text = "no task message of Celery's protocol 2: it needs the headers 'task' and 'id'"
        raise FrameError(text)
    if not (0 < len(name) <= _MAX_NAME and 0 < len(task_id) <= _MAX_NAME):
        text = "the task's name or id is empty or too long"
        raise FrameError(text)
    if message.content_type != "application/json":
        text = f"the content type is {message.content_type[:40]!r}; only application/json is read"
        raise FrameError(text)
    if len(message.body) > MAX_BODY_BYTES:
        text = f"the task's {len(message.body)} bytes are more than the allowed {MAX_BODY_BYTES}"
        raise FrameError(text)
    args, kwargs, _ = decode(_bodies, message.body)
    # The decoder gives nothing but JSON's own values; msgspec has no words for a recursive type.
    return CeleryTask(
        name, cast("tuple[JsonValue, ...]", args), cast("dict[str, JsonValue]", kwargs), task_id
    )


def build_broadcast(method: str, arguments: Mapping[str, JsonValue]) -> CeleryMessage:
    """A remote-control command to all Celery workers that listen to `BROADCAST_EXCHANGE`."""
    body = {
        "method": method,
        "arguments": arguments,
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
    return CeleryMessage({"clock": 1, "expires": 0}, _encode(body))


# What ServiceX says


def finder_queue(scheme: str) -> CeleryQueue:
    """Where the finder of that scheme listens: a plain durable queue."""
    return CeleryQueue(f"did_finder_{scheme}", durable=True, auto_delete=False)


def lookup_task(scheme: str, did: str, dataset_id: DatasetId, endpoint: str) -> CeleryTask:
    """Asks the finder for the files of a dataset.

    Args:
        did: without its scheme, with its query.
        endpoint: the finder appends `<dataset_id>/files` and others; ends with a slash.
    """
    return CeleryTask(f"did_finder_{scheme}.lookup_dataset", (did, int(dataset_id), endpoint))


def sidecar_queue(request_id: RequestId, *, consumer_timeout_ms: int | None = None) -> CeleryQueue:
    """Where the official sidecars of a request listen; with the last of them it goes, and what it holds."""
    return CeleryQueue(
        f"transformer-{request_id}",
        durable=False,
        auto_delete=True,
        consumer_timeout_ms=consumer_timeout_ms,
    )


def sidecar_task(
    request_id: RequestId,
    file_id: FileId,
    paths: Sequence[str],
    *,
    endpoint: str,
    destination: str,
    result_format: str,
) -> CeleryTask:
    """Asks an official sidecar for one file.

    Args:
        endpoint: the sidecar appends `/file-complete`; ends without a slash.
    """
    kwargs: dict[str, JsonValue] = {
        "request_id": request_id,
        "file_id": int(file_id),
        "paths": list(paths),
        "service_endpoint": endpoint,
        "result_destination": destination,
        "result_format": result_format,
    }
    return CeleryTask(SIDECAR_TASK, (), kwargs)


def stop_sidecars(request_id: RequestId) -> CeleryMessage:
    """Tells the sidecars of a request to take no further files (a broadcast)."""
    return build_broadcast("cancel_consumer", {"queue": sidecar_queue(request_id).name})


_bodies = msgspec.json.Decoder(tuple[tuple[object, ...], dict[str, object], object])
_encoder = msgspec.json.Encoder()


def _encode(body: object) -> bytes:
    try:
        return _encoder.encode(body)
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        message = f"the task cannot be encoded: {error}"
        raise FrameError(message) from error
