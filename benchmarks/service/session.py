"""A signed-in user of a server: submits, waits, and hands tasks to `load`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.service.load import Seen, Task, run

TRANSFORM = "/servicex/transformation"
_COLUMNS = ["Muon_pt", "MET_pt"]
_BAD_ENDS = frozenset({"Fatal", "Canceled", "Bad Dataset"})


def body(files: Sequence[Path | str], title: str, *, cut: str = "nMuon >= 1", **changes: object) -> str:
    """A submit of a small query."""
    selection = [{"treename": "Events", "expressions": _COLUMNS, "cut": cut}]
    return json.dumps(
        {
            "title": title,
            "file-list": [str(file) for file in files],
            "selection": json.dumps(selection),
            "codegen": "uproot-raw",
            "result-destination": "object-store",
            "result-format": "parquet",
            **changes,
        }
    )


class Session:
    """One user, who asks as the official client does: with a short token."""

    def __init__(self, http: httpx.Client, urls: Sequence[str], token: str) -> None:
        self._http = http
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}

    def submit(self, text: str) -> str:
        """The id of a new request."""
        answer = self._http.post(TRANSFORM, content=text, headers=self._headers)
        if answer.is_error:
            raise RuntimeError(answer.text)
        return str(answer.json()["request_id"])

    def status(self, request_id: str) -> dict[str, Any]:
        answer = self._http.get(f"{TRANSFORM}/{request_id}", headers=self._headers).raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def peek(self, request_id: str) -> dict[str, Any]:
        """The status at once, which the server does not hold back: it is asked for by the list."""
        listed = self._http.get(TRANSFORM, headers=self._headers).raise_for_status().json()["requests"]
        return next(each for each in listed if each["request_id"] == request_id)

    def cancel(self, request_id: str) -> None:
        self._http.get(f"{TRANSFORM}/{request_id}/cancel", headers=self._headers).raise_for_status()

    def wait(self, request_id: str, *, pause_s: float = 0.0) -> dict[str, Any]:
        """The status at the end; the server holds the polls of a young request back."""
        while (status := self.status(request_id))["status"] != "Complete":
            if status["status"] in _BAD_ENDS:
                message = f"request {request_id} ended {status['status']}"
                raise RuntimeError(message)
            time.sleep(pause_s)
        if status["files-failed"]:
            message = f"request {request_id}: {status['files-failed']} files failed"
            raise RuntimeError(message)
        return status

    def seconds_of(self, text: str) -> float:
        """From a submit to its end."""
        started_s = time.perf_counter()
        self.wait(self.submit(text))
        return time.perf_counter() - started_s

    def post_many(self, bodies: Sequence[str], n_requests: int, *, n_clients: int = 16) -> Seen:
        """So many submits by several clients."""
        return run(
            Task(
                self._urls,
                "POST",
                [TRANSFORM],
                self._headers,
                bodies,
                n_clients=n_clients,
                n_requests=n_requests,
                warm=min(50, n_requests // 2),
                keep=n_requests * 2,
            )
        )

    def get_many(self, targets: Sequence[str], n_requests: int, *, n_clients: int = 16) -> Seen:
        """So many GETs by several clients."""
        headers = self._headers
        return run(Task(self._urls, "GET", targets, headers, n_clients=n_clients, n_requests=n_requests))


@contextmanager
def signed_in(urls: Sequence[str], long_token: str | None) -> Iterator[Session]:
    """A session at servers of one deployment."""
    with httpx.Client(base_url=urls[0], timeout=120.0) as http:
        headers = {"Authorization": f"Bearer {long_token}"}
        answer = http.post("/token/refresh", headers=headers).raise_for_status()
        yield Session(http, urls, str(answer.json()["access_token"]))
