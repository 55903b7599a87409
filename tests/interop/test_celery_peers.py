"""Our Celery messages against stock Celery, in both directions, over a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from rabbitmq_server import RabbitServer, running_rabbitmq
from servicex_server.errors import Busy, ConfigurationError
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.queue.celery_wire import (
    CeleryQueue,
    finder_queue,
    lookup_task,
    sidecar_queue,
    sidecar_task,
    stop_sidecars,
)
from servicex_server.queue.transports.amqp.celery import CeleryConsumer, CeleryPublisher

DRIVER = Path(__file__).parent / "drivers" / "celery_peer.py"
ENDPOINT = "http://servicex/servicex/internal/transformation/"
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


@contextmanager
def peer(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(DRIVER), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)


async def heard(process: subprocess.Popen[str]) -> Any:
    """The next document that the peer says."""
    assert process.stdout is not None
    async with asyncio.timeout(TIMEOUT_S):
        while line := await asyncio.to_thread(process.stdout.readline):
            if line.startswith("@"):
                return json.loads(line[1:])
    raise AssertionError(process.stderr.read()[-3000:] if process.stderr else "")


def fresh_scheme() -> str:
    return f"test{uuid4().hex[:8]}"


async def test_a_stock_finder_takes_our_lookup(broker: RabbitServer) -> None:
    scheme = fresh_scheme()
    did = "cms:/Single µ/x?files=3&get=all"
    async with CeleryPublisher(broker.url) as publisher:
        # The first waits in the queue that we declared, the second comes while the worker listens.
        await publisher.send(finder_queue(scheme), lookup_task(scheme, did, DatasetId(7), ENDPOINT))
        with peer("finder", broker.url, scheme) as process:
            said = [await heard(process), await heard(process)]
            assert "ready" in said
            assert [did, 7, ENDPOINT] in said
            await publisher.send(finder_queue(scheme), lookup_task(scheme, "b", DatasetId(8), ENDPOINT))
            assert await heard(process) == ["b", 8, ENDPOINT]


@pytest.mark.parametrize("timeout_ms", [None, 2_629_746_000], ids=["v1.5.2", "newer"])
async def test_a_stock_sidecar_takes_our_file_until_it_is_stopped(
    broker: RabbitServer, timeout_ms: int | None
) -> None:
    request_id = RequestId(str(uuid4()))
    queue = sidecar_queue(request_id, consumer_timeout_ms=timeout_ms)
    task = sidecar_task(
        request_id,
        FileId(3),
        ["root://a//b", "https://c/d"],
        endpoint=f"{ENDPOINT}{request_id}",
        destination="object-store",
        result_format="parquet",
    )
    async with CeleryPublisher(broker.url) as publisher:
        with peer("sidecar", broker.url, request_id, json.dumps(queue.arguments)) as process:
            assert await heard(process) == "ready"
            await publisher.send(queue, task)
            assert await heard(process) == task.kwargs
            await publisher.broadcast(stop_sidecars(request_id))
            await until_gone(broker, queue)


async def test_we_take_what_stock_clients_send(broker: RabbitServer) -> None:
    scheme, request_id = fresh_scheme(), str(uuid4())
    calls: list[tuple[CeleryQueue, dict[str, Any]]] = [
        (
            finder_queue(scheme),
            {
                "queue": f"did_finder_{scheme}",
                "task": f"did_finder_{scheme}.lookup_dataset",
                "args": ["a:µ", 5, ENDPOINT],
                "kwargs": {},
            },
        ),
        (
            sidecar_queue(RequestId(request_id)),
            {
                "queue": f"transformer-{request_id}",
                "task": "transformer_sidecar.transform_file",
                "args": [],
                "kwargs": {"request_id": request_id, "file_id": 1, "paths": ["root://x"]},
            },
        ),
    ]
    for queue, call in calls:
        async with CeleryConsumer(broker.url, queue) as consumer:
            with peer("send", broker.url, json.dumps(call)) as process:
                task_id = await heard(process)
            async with asyncio.timeout(TIMEOUT_S):
                delivery = await anext(consumer.tasks())
            assert delivery.task.id == task_id
            assert delivery.task.name == call["task"]
            assert list(delivery.task.args) == call["args"]
            assert delivery.task.kwargs == call["kwargs"]
            await delivery.ack()


async def test_our_own_consumer_takes_one_at_a_time_and_drops_garbage(broker: RabbitServer) -> None:
    scheme = fresh_scheme()
    queue = finder_queue(scheme)
    async with (
        CeleryPublisher(broker.url) as publisher,
        CeleryConsumer(broker.url, queue) as consumer,
        await aio_pika.connect(broker.url) as connection,
    ):
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(b"garbage"), queue.name)
        for number in (1, 2):
            await publisher.send(queue, lookup_task(scheme, "d", DatasetId(number), ENDPOINT))
        tasks = consumer.tasks()
        async with asyncio.timeout(TIMEOUT_S):
            first = await anext(tasks)
            declared = await channel.declare_queue(queue.name, passive=True)
            assert declared.declaration_result.message_count == 1
            await first.ack()
            second = await anext(tasks)
            await second.ack()
        assert [it.task.args[1] for it in (first, second)] == [1, 2]


async def test_a_queue_that_others_declared_otherwise_is_named(broker: RabbitServer) -> None:
    name = f"did_finder_{fresh_scheme()}"
    async with await aio_pika.connect(broker.url) as connection:
        channel = await connection.channel()
        await channel.declare_queue(name, durable=False)
        async with CeleryPublisher(broker.url) as publisher:
            wrong = CeleryQueue(name, durable=True, auto_delete=False)
            task = lookup_task("x", "d", DatasetId(1), ENDPOINT)
            with pytest.raises(ConfigurationError, match=f"rabbitmqctl delete_queue {name}"):
                await publisher.send(wrong, task)
            # The channel was lost with it; the next one is served all the same.
            other = finder_queue(fresh_scheme())
            async with asyncio.timeout(TIMEOUT_S):
                while True:
                    try:
                        await publisher.send(other, task)
                        break
                    except Busy:
                        continue


async def until_gone(broker: RabbitServer, queue: CeleryQueue) -> None:
    """Returns when the queue was deleted, which it is when the last consumer leaves."""
    async with await aio_pika.connect(broker.url) as connection, asyncio.timeout(TIMEOUT_S):
        while True:
            channel = await connection.channel()
            try:
                await channel.declare_queue(queue.name, passive=True)
            except ChannelNotFoundEntity:
                return
