"""How the files of a request become known: with the submit, or from a finder that takes its time."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

import httpx

from chaos.fleet import APPS, Fleet

SCHEME = "chaos"
_BATCH = 25
_PAUSE_S = 0.4
_PATIENCE_S = 90.0


class Arrival(Protocol):
    """One way."""

    def body(self, paths: Sequence[str]) -> dict[str, object]:
        """The part of the submit that names the files."""
        ...

    def tell(self, fleet: Fleet, dataset_id: int, paths: Sequence[str]) -> None:
        """What happens after the submit; returns when all files are known."""
        ...


class FileList:
    """All at once, with the submit."""

    def body(self, paths: Sequence[str]) -> dict[str, object]:
        return {"file-list": list(paths)}

    def tell(self, fleet: Fleet, dataset_id: int, paths: Sequence[str]) -> None:
        """Nothing: all is said."""


class Finder:
    """In batches, from a finder that tells whichever app hears it, and repeats what was perhaps not heard."""

    def body(self, paths: Sequence[str]) -> dict[str, object]:
        return {"did": f"{SCHEME}://{uuid.uuid4().hex}"}

    def tell(self, fleet: Fleet, dataset_id: int, paths: Sequence[str]) -> None:
        for start in range(0, len(paths), _BATCH):
            batch = [
                {"paths": [path], "adler32": "0", "file_size": 0, "file_events": 0}
                for path in paths[start : start + _BATCH]
            ]
            _put(fleet, f"{dataset_id}/files", batch)
            time.sleep(_PAUSE_S)
        _put(fleet, f"{dataset_id}/complete", {"files": len(paths)})


def _put(fleet: Fleet, path: str, body: Any) -> None:
    end = time.monotonic() + _PATIENCE_S
    for app in itertools.cycle(APPS):
        with suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{fleet.internal_ports[app]}/servicex/internal/transformation/{path}"
            answer = httpx.put(url, json=body, timeout=30)
            if answer.status_code == 200:
                return
            if answer.status_code < 500:
                message = f"{app} answered {path} with {answer.status_code}: {answer.text[:300]}"
                raise RuntimeError(message)
        if time.monotonic() > end:
            message = f"no app takes {path}"
            raise TimeoutError(message)
        time.sleep(0.1)
