"""A finder that takes its time: `python -m chaos.finder`, with its job as JSON on standard input.

It tells its files to whichever app hears it, in batches, and begins anew when it is started again, as finders
do whose message Celery delivers once more.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import httpx

_BATCH = 25
_PAUSE_S = 0.4
_PATIENCE_S = 90.0


def tell(routes: Sequence[str], paths: Sequence[str]) -> None:
    """Tells the files of one data set, whose routes these are at the apps.

    Raises:
        RuntimeError: an app refuses what it is told.
        TimeoutError: no app hears it.
    """
    for start in range(0, len(paths), _BATCH):
        batch = [
            {"paths": [path], "adler32": "0", "file_size": 0, "file_events": 0}
            for path in paths[start : start + _BATCH]
        ]
        _put(routes, "files", batch)
        time.sleep(_PAUSE_S)
    _put(routes, "complete", {"files": len(paths)})


def _put(routes: Sequence[str], what: str, body: Any) -> None:
    end = time.monotonic() + _PATIENCE_S
    for route in itertools.cycle(routes):
        with suppress(httpx.TransportError):
            answer = httpx.put(f"{route}/{what}", json=body, timeout=30)
            if answer.status_code == 200:
                return
            if answer.status_code < 500:
                message = f"{route} answered {what} with {answer.status_code}: {answer.text[:300]}"
                raise RuntimeError(message)
        if time.monotonic() > end:
            message = f"no app takes {what}"
            raise TimeoutError(message)
        time.sleep(0.1)


if __name__ == "__main__":
    tell(**json.load(sys.stdin))
