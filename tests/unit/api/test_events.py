"""The event stream at the edge: who may read it, what it looks like, where it goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from starlette.types import Message

from edge import CORRUPT, Edge, open_edge
from service_bench import eventually
from servicex_server.api import events
from servicex_server.api.events import EventStream, encode
from servicex_server.api.server import end_waits
from servicex_server.model.ids import RequestId
from servicex_server.model.progress import LAST_ID, NoNews
from servicex_server.service.follow import follow
from sse import parse


async def test_events_tell_all_of_every_file_and_end(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root")
    await edge.finish(request_id)
    answer = await edge.http().get(f"/servicex/transformation/{request_id}/events")
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Content-Length" not in answer.headers
    assert answer.text.startswith("retry: ")
    sent = parse(answer.text)
    files = {Path(each.data["path"]).name: each.data for each in sent if each.name == "file"}
    good, bad = files["a.root"], files["broken.root"]
    assert (good["state"], good["rows_in"], good["rows_out"]) == ("delivered", 100, 10)
    assert (good["bytes_read"], good["bytes_written"], good["seconds"]) == (1000, 18, 0.5)
    assert (good["attempt"], good["reason"], bad["state"], bad["object"]) == (1, None, "failed", None)
    assert bad["reason"] == CORRUPT
    state, progress, end = sent[-3:]
    assert [state.name, progress.name, end.name] == ["state", "progress", "end"]
    assert progress.data["eta_s"] == 0.0
    assert progress.data["events_per_s"] > 0
    assert end.data["state"] == state.data["state"] == "Complete"
    assert (end.data["files"], end.data["delivered"], end.data["failed"]) == (2, 1, 1)
    assert [each.id for each in sent if each.id] == sorted({each.id for each in sent if each.id})


async def test_the_stream_goes_on_where_it_was_cut(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "b.root", "c.root")
    await edge.finish(request_id)
    url = f"/servicex/transformation/{request_id}/events"
    ids = [each.id for each in parse((await edge.http().get(url)).text) if each.id]
    assert len(ids) == 4
    for place, known in enumerate(ids[:-1]):
        for answer in (
            await edge.http(**{"Last-Event-ID": str(known)}).get(url),
            await edge.http().get(url, params={"after": known}),
        ):
            assert [each.id for each in parse(answer.text) if each.id] == ids[place + 1 :]
    answer = await edge.http(**{"Last-Event-ID": str(ids[-1])}).get(url)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("known", ["x", "-1", "1.5", "9" * 18, str(LAST_ID + 1), "\u0661"])
async def test_ids_that_are_none_are_refused(known: str, edge: Edge) -> None:
    request_id = await edge.submit()
    answer = await edge.http().get(f"/servicex/transformation/{request_id}/events", params={"after": known})
    assert answer.status_code == 400
    assert "not the id of an event" in answer.json()["message"]


@pytest.mark.parametrize("what", ["events", "provenance"])
async def test_only_owner_and_admins_may_look(what: str, edge: Edge) -> None:
    request_id = await edge.submit()
    await edge.finish(request_id)
    url = f"/servicex/transformation/{request_id}/{what}"
    statuses = [(await edge.http(name).get(url)).status_code for name in ("ann", "boss", "bob", None)]
    assert statuses == [200, 200, 403, 401]
    assert (await edge.http().get(f"/servicex/transformation/4711/{what}")).status_code == 404
    foreign = edge.http(Origin="https://elsewhere.example")
    assert (await foreign.get(url)).status_code == 403


async def test_nobody_waits_for_the_head_of_a_stream(edge: Edge) -> None:
    request_id = await edge.submit()
    assert (await edge.http().head(f"/servicex/transformation/{request_id}/events")).status_code == 405


async def test_locations_are_told_without_credentials(edge: Edge) -> None:
    body = edge.submission() | {"file-list": ["https://me:secret@example.org/x.root?token=hidden"]}
    request_id = (await edge.http().post("/servicex/transformation", json=body)).json()["request_id"]
    await edge.finish(request_id)
    for what in ("events", "provenance"):
        text = (await edge.http().get(f"/servicex/transformation/{request_id}/{what}")).text
        assert "https://example.org/x.root" in text
        assert "secret" not in text
        assert "hidden" not in text


async def test_rows_in_of_code_that_reads_by_itself_are_not_known(edge: Edge) -> None:
    request_id = await edge.submit(codegen="python", selection="def run_query(file_path): pass")
    await edge.finish(request_id)
    sent = parse((await edge.http().get(f"/servicex/transformation/{request_id}/events")).text)
    assert {each.data["rows_in"] for each in sent if "rows_in" in each.data} == {None}


async def test_too_many_streams_are_told_to_come_later(tmp_path: Path, blank_database: Path) -> None:
    async with open_edge(tmp_path, blank_database) as edge:
        request_id = await edge.submit()
        await edge.finish(request_id)
        streams = edge.services.streams
        places = [streams.open("ann") for _ in range(32)]
        for place in places:
            place.__enter__()
        url = f"/servicex/transformation/{request_id}/events"
        answer = await edge.http().get(url)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        assert "event_streams_per_user" in answer.json()["message"]
        assert (await edge.http("boss").get(url)).status_code == 200
        places.pop().__exit__(None, None, None)
        assert (await edge.http().get(url)).status_code == 200
        assert len(streams) == 31


def test_silence_is_a_comment() -> None:
    assert encode(NoNews()).startswith(b":")
    assert encode(NoNews()).endswith(b"\n\n")


async def test_a_reader_that_takes_nothing_is_cut_off_and_gives_its_place_back(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_SEND_WITHIN_S", 0.01)
    request_id = await edge.submit()
    finished: list[Message] = []

    async def receive() -> Message:
        return await asyncio.Future()  # stays there

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            if not message.get("more_body"):
                finished.append(message)
            await asyncio.Future()  # takes nothing

    stream = EventStream(edge.services.streams, "ann", follow(edge.services, RequestId(request_id)))
    assert len(edge.services.streams) == 1
    async with asyncio.timeout(10):
        await stream({"type": "http"}, receive, send)
    assert len(edge.services.streams) == 0
    assert not finished  # so the connection is broken, and the reader knows that it has not heard all


async def test_streams_end_whole_when_the_server_stops(edge: Edge) -> None:
    request_id = await edge.submit()
    reading = asyncio.create_task(edge.http().get(f"/servicex/transformation/{request_id}/events"))

    async def is_open() -> int:
        await asyncio.sleep(0)
        return len(edge.services.streams)

    await eventually(is_open)
    end_waits(edge.app)
    sent = parse((await reading).text)
    assert "end" not in {each.name for each in sent}
    assert len(edge.services.streams) == 0
