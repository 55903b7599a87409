"""A reader of server-sent events over httpx that can be cut off anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Sent:
    """One event as it came."""

    name: str
    id: int | None
    data: dict[str, Any]


def parse(text: str) -> list[Sent]:
    """The events of a stream that has ended; comments are left out."""
    return [sent for block in text.split("\n\n") if (sent := _parse(block)) is not None]


def read(client: httpx.Client, request_id: str, after: int | None = None) -> Iterator[Sent]:
    """Events as they come; closing the iterator breaks the connection."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    with client.stream("GET", f"/servicex/transformation/{request_id}/events", headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        rest = ""
        for chunk in answer.iter_text():
            *blocks, rest = (rest + chunk).split("\n\n")
            yield from (sent for block in blocks if (sent := _parse(block)) is not None)


def read_some(client: httpx.Client, request_id: str, after: int | None, count: int) -> list[Sent]:
    """At most so many events of the sequence after one of them, then the connection is broken."""
    heard: list[Sent] = []
    with closing(read(client, request_id, after)) as events:  # type: ignore[type-var]  # a generator
        for sent in events:
            if sent.id is not None:
                heard.append(sent)
            if len(heard) == count:
                break
    return heard


def _parse(block: str) -> Sent | None:
    lines = [line.partition(": ") for line in block.split("\n")]
    fields = {name: value for name, _, value in lines if name}
    if "data" not in fields:
        assert not fields or set(fields) == {"retry"}, block
        return None
    place = fields.get("id")
    return Sent(fields["event"], None if place is None else int(place), json.loads(fields["data"]))
