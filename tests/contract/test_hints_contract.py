"""What every transport of hints does, whatever lies between the servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from servicex_server.model.ids import RequestId
from servicex_server.queue.protocol import Hints
from servicex_server.queue.transports.memory_hints import HintExchange

A, B, C = RequestId("a"), RequestId("b"), RequestId("c")

Deployment = Callable[[int], AbstractAsyncContextManager[list[Hints]]]
"""Opens the hints of that many servers of one deployment."""


@asynccontextmanager
async def in_memory(n_servers: int) -> AsyncIterator[list[Hints]]:
    exchange = HintExchange()
    yield [exchange.join() for _ in range(n_servers)]


@pytest.fixture(params=[pytest.param(in_memory, id="memory")])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    opened: Deployment = request.param
    return opened


async def hear(listening: AsyncIterator[RequestId], last: RequestId) -> list[RequestId]:
    """What comes up to the last hint."""
    heard: list[RequestId] = []
    async with asyncio.timeout(20):
        async for request_id in listening:
            heard.append(request_id)
            if request_id == last:
                break
    return heard


async def test_all_others_hear_in_order(deployment: Deployment) -> None:
    async with deployment(3) as (one, two, three):
        listening = [two.hints(), three.hints()]
        for request_id in (A, B, C):
            await one.send(request_id)
        assert [await hear(each, C) for each in listening] == [[A, B, C]] * 2


async def test_everybody_may_send(deployment: Deployment) -> None:
    async with deployment(2) as (one, two):
        first, second = one.hints(), two.hints()
        await one.send(A)
        await two.send(B)
        assert (await hear(second, A))[-1] == A
        assert (await hear(first, B))[-1] == B


async def test_nobody_need_listen(deployment: Deployment) -> None:
    async with deployment(2) as (one, two):
        for _ in range(100):
            await one.send(A)
        listening = two.hints()
        await one.send(B)
        assert (await hear(listening, B))[-1] == B


async def test_hints_come_after_they_were_waited_for(deployment: Deployment) -> None:
    async with deployment(2) as (one, two):
        waiting = asyncio.create_task(hear(two.hints(), B))
        await asyncio.sleep(0)
        await one.send(A)
        await one.send(B)
        assert await waiting == [A, B]


async def test_the_memory_is_bounded() -> None:
    exchange = HintExchange(max_hints=2)
    one, two = exchange.join(), exchange.join()
    listening = two.hints()
    for request_id in (A, B, A, C, B):
        await one.send(request_id)
    assert await hear(listening, C) == [B, C]
