"""Clients that send one request after another over kept connections, in a process of their own.

Raw asyncio: a client library would take more of the machine than the server that is measured. The process
prints one JSON object with what it saw; `run` starts it and reads that.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Task:
    """What the clients do.

    Attributes:
        urls: of servers, `http://host:port`, that the clients share out among themselves.
        method: of every request.
        targets, bodies: asked for and sent in turn.
        headers: further ones.
        n_clients: how many at once.
        n_requests: of all clients together.
        warm: requests before those that count.
        keep: how many answers to give back.
    """

    urls: Sequence[str]
    method: str
    targets: Sequence[str]
    headers: dict[str, str]
    bodies: Sequence[str] = ("",)
    n_clients: int = 16
    n_requests: int = 1000
    warm: int = 50
    keep: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients saw; times in seconds, sizes in bytes."""

    per_s: float
    p50_s: float
    p99_s: float
    worst_s: float
    body_bytes: int
    answers: Sequence[str]


def run(task: Task) -> Seen:
    """What a process of its own sees that does this task.

    Raises:
        RuntimeError: an answer was not a success; the text quotes it.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.service.load"],
        input=json.dumps(asdict(task)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Seen(**json.loads(done.stdout))


class _Client:
    """One connection, opened again when the server closes it."""

    def __init__(self, host: str) -> None:
        name, _, port = host.partition(":")
        self._address = (name, int(port))
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> bytes:
        """The body of the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address, limit=2**22)
        reader, writer = self._streams
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        _, _, rest = head.partition(b"content-length: ")
        length = int(rest.partition(b"\r\n")[0])
        body = await reader.readexactly(length) if length else b""
        if not head.startswith(b"http/1.1 200"):
            message = f"{head!r} {body[:500]!r}"
            raise RuntimeError(message)
        if b"connection: close" in head:
            writer.close()
            self._streams = None
        return body


async def _work(task: Task) -> Seen:
    head = "".join(f"{name}: {value}\r\n" for name, value in task.headers.items())
    seconds: list[float] = []
    answers: list[str] = []
    size = 0
    total = task.warm + task.n_requests
    numbers = iter(range(total))
    begun_s = 0.0

    async def client(url: str) -> None:
        nonlocal size, begun_s
        host = urlsplit(url).netloc
        connection = _Client(host)
        for number in numbers:
            body = task.bodies[number % len(task.bodies)].encode()
            start = f"{task.method} {task.targets[number % len(task.targets)]} HTTP/1.1\r\nHost: {host}\r\n"
            length = f"Content-Length: {len(body)}\r\n" if body else ""
            asked = f"{start}{head}{length}\r\n".encode() + body
            before_s = time.perf_counter()
            if number == task.warm:
                begun_s = before_s
            answer = await connection.ask(asked)
            if number >= task.warm:
                seconds.append(time.perf_counter() - before_s)
                size += len(answer)
            if len(answers) < task.keep:
                answers.append(answer.decode())

    await asyncio.gather(*(client(task.urls[n % len(task.urls)]) for n in range(task.n_clients)))
    spent_s = time.perf_counter() - begun_s
    ordered = sorted(seconds)
    return Seen(
        per_s=len(ordered) / spent_s,
        p50_s=statistics.median(ordered),
        p99_s=ordered[math.ceil(0.99 * len(ordered)) - 1],
        worst_s=ordered[-1],
        body_bytes=size,
        answers=answers,
    )


def main() -> None:
    """Reads a task from the standard input, writes what was seen to the standard output."""
    told: dict[str, Any] = json.load(sys.stdin)
    sys.stdout.write(json.dumps(asdict(asyncio.run(_work(Task(**told))))))


if __name__ == "__main__":
    main()
