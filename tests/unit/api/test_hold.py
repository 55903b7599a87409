"""The status of a young request waits for its end, and for nobody who has left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from edge import Edge, open_edge
from servicex_server.api.server import end_waits
from servicex_server.service.limits import Limits


async def until_watched(edge: Edge) -> None:
    """Returns once a poll waits for a request to change."""
    while not edge.services.notifier.watched:  # noqa: ASYNC110  nothing rings when somebody begins to wait
        await asyncio.sleep(0)


@pytest.mark.parametrize("suffix", ["", "/status"])
async def test_status_of_a_young_request_is_held_until_it_ends(edge: Edge, suffix: str) -> None:
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}{suffix}"
    poll = asyncio.create_task(edge.http().get(url))
    await until_watched(edge)
    assert not poll.done()
    async with edge.working():
        answer = (await poll).json()
    assert answer["status"] == "Complete"
    assert answer["files-completed"] == 1


async def test_request_that_reaches_the_age_is_shown_as_it_is(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database, hold_s=0.05) as edge:
        request_id = await edge.submit()
        first = (await edge.http().get(f"/servicex/transformation/{request_id}")).json()
        second = (await edge.http().get(f"/servicex/transformation/{request_id}")).json()
    assert first["status"] == second["status"] == "Running"
    assert first["finish-time"] == "None"


async def test_deletion_ends_the_wait_with_a_404(edge: Edge) -> None:
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}"
    poll = asyncio.create_task(edge.http().get(url))
    await until_watched(edge)
    assert (await edge.http().get(f"{url}/cancel")).status_code == 200
    answer = await poll
    assert answer.json()["status"] == "Canceled"


async def test_a_server_that_stops_answers_polls_that_it_holds(edge: Edge) -> None:
    request_id = await edge.submit()
    url = f"/servicex/transformation/{request_id}"
    poll = asyncio.create_task(edge.http().get(url))
    await until_watched(edge)
    end_waits(edge.app)
    for answer in (await poll, await edge.http().get(url)):
        assert (answer.status_code, answer.json()["status"]) == (200, "Running")


async def test_a_server_that_stops_answers_submits_that_wait_for_their_preflight(
    tmp_path: Path, blank_database: Path
) -> None:
    async with open_edge(tmp_path, blank_database, limits=Limits(preflight_wait_s=200.0)) as edge:
        submit = asyncio.create_task(edge.submit())
        await until_watched(edge)
        end_waits(edge.app)
        answer = await edge.http().get(f"/servicex/transformation/{await submit}")
        assert answer.json()["status"] == "Submitted"


async def test_caller_who_leaves_is_not_waited_for(edge: Edge) -> None:
    request_id = await edge.submit()
    sent: list[Message] = []
    leave = asyncio.Event()
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    path = f"/servicex/transformation/{request_id}"
    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {edge.tokens['ann']}".encode())]
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5000),
    }
    answering = asyncio.create_task(edge.app(scope, receive, send))
    await until_watched(edge)
    leave.set()
    await answering
    assert edge.services.notifier.watched == 0
