"""How the files of a request become known: with the submit, or from a finder that takes its time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from typing import Protocol

from chaos.fleet import APPS, Fleet

SCHEME = "chaos"
_MOST_STARTS = 10


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
    """In batches, from a process of its own, which is started again when it is killed."""

    def body(self, paths: Sequence[str]) -> dict[str, object]:
        return {"did": f"{SCHEME}://{uuid.uuid4().hex}"}

    def tell(self, fleet: Fleet, dataset_id: int, paths: Sequence[str]) -> None:
        route = f"servicex/internal/transformation/{dataset_id}"
        routes = [f"http://127.0.0.1:{fleet.internal_ports[app]}/{route}" for app in APPS]
        job = json.dumps({"routes": routes, "paths": list(paths)})
        for _ in range(_MOST_STARTS):
            with subprocess.Popen(
                [sys.executable, "-m", "chaos.finder"],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                fleet.finder = process
                _, said = process.communicate(job)
            if process.returncode == 0:
                return
            if process.returncode != -signal.SIGKILL:
                raise RuntimeError(said)
            fleet.restarts["finder"] += 1
        message = f"the finder was killed {_MOST_STARTS} times"
        raise RuntimeError(message)
