"""What a client sees while things break: it submits, asks again and again, and notes what cannot be."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from chaos.arrival import Arrival
from chaos.fleet import APPS, Fleet
from chaos.inputs import select

TERMINAL = frozenset({"Complete", "Canceled", "Fatal", "Bad Dataset"})
_PATH = "/servicex/transformation"
_POLL_S = 0.25
_TRY_AGAIN = frozenset({429, 502, 503, 504})
"""What clients take for passing."""


@dataclass
class Watch:
    """The view of one user on one request.

    Attributes:
        complaints: answers that no fault excuses.
        status: the last one heard.
    """

    fleet: Fleet
    token: str | None = None
    complaints: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    _turn: Iterator[str] = field(default_factory=lambda: itertools.cycle(APPS))

    def submit(
        self, title: str, paths: Sequence[str], arrival: Arrival, *, give_up_s: float, question: int = 0
    ) -> str:
        """The request's id, however often it takes; a submit whose answer was lost is looked for first."""
        body = {
            "title": title,
            "selection": select(question),
            "codegen": "uproot-raw",
            "result-destination": "object-store",
            "result-format": "parquet",
            **arrival.body(paths),
        }
        end = time.monotonic() + give_up_s
        while time.monotonic() < end:
            answer = self.ask("POST", _PATH, json=body)
            if answer is not None:
                return str(answer["request_id"])
            listed = self.persist("GET", _PATH, end=end)
            for request in listed["requests"]:
                if request["title"] == title:
                    return str(request["request_id"])
        message = f"no app took the request {title!r} within {give_up_s:g} s"
        raise TimeoutError(message)

    def follow(self, request_id: str, end: threading.Event) -> None:
        """Polls until `end`; counters may only grow, and an end is an end."""
        while not end.is_set():
            now = self.ask("GET", f"{_PATH}/{request_id}")
            if now is not None:
                self._compare(now)
                self.status = now
            time.sleep(_POLL_S)

    def wait(self, request_id: str, give_up_s: float) -> dict[str, Any] | None:
        """The status in a terminal state; None if there was none in time."""
        end = time.monotonic() + give_up_s
        while time.monotonic() < end:
            now = self.ask("GET", f"{_PATH}/{request_id}")
            if now is not None:
                self._compare(now)
                self.status = now
                if now["status"] in TERMINAL:
                    return now
            time.sleep(_POLL_S)
        return None

    def results(self, request_id: str, give_up_s: float = 30.0) -> list[dict[str, Any]]:
        """What is listed of the request's files."""
        end = time.monotonic() + give_up_s
        listed: list[dict[str, Any]] = self.persist("GET", f"{_PATH}/{request_id}/results", end=end)[
            "results"
        ]
        return listed

    def persist(self, method: str, path: str, *, end: float) -> dict[str, Any]:
        """The answer, asked for until then."""
        while time.monotonic() < end:
            answer = self.ask(method, path)
            if answer is not None:
                return answer
            time.sleep(_POLL_S)
        message = f"no app answers {method} {path}"
        raise TimeoutError(message)

    def ask(
        self, method: str, path: str, *, excused: Collection[int] = (), **more: Any
    ) -> dict[str, Any] | None:
        """One try, at each app in turn; None if it may be tried again, or for an answer that is excused."""
        app = next(self._turn)
        with suppress(httpx.TransportError), self.fleet.client(app, self.token) as client:
            answer = client.request(method, path, **more)
            if answer.status_code == 200:
                document: dict[str, Any] = answer.json()
                return document
            if answer.status_code not in {*_TRY_AGAIN, *excused}:
                self.complaints.append(
                    f"{app} answered {method} {path} with {answer.status_code}: {answer.text[:300]}"
                )
        return None

    def _compare(self, now: dict[str, Any]) -> None:
        before = self.status
        if not before:
            return
        if before["status"] in TERMINAL and now["status"] != before["status"]:
            self.complaints.append(f"{before['status']} became {now['status']}")
        for name in ("files-completed", "files-failed"):
            if now[name] < before[name]:
                self.complaints.append(f"{name} fell from {before[name]} to {now[name]}")
