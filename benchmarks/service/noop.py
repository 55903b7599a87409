"""A server whose transforms read nothing: what is left of a request is the service's own work.

    python -m benchmarks.service.noop up …      as `servicex-server up …`
    python -m benchmarks.service.noop worker …  as `servicex-server worker …`

Each file's result is 100 bytes, put into the store as any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from servicex_server.app import embedded, ports, worker
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings
from servicex_server.cli import main
from servicex_server.model.unit import FileDone, PreflightDone, PreflightUnit, Report, Unit
from servicex_server.model.worker import ExecutorSpec
from servicex_server.store.open import open_store

MODULE = "benchmarks.service.noop"
_CONTENT = bytes(100)


def build(
    *, store: dict[str, Any], put: Callable[[str, bytes], None] | None = None, **_: object
) -> Callable[[Unit], Report]:
    """What takes the place of `app.executor.build`.

    Args:
        put: lays an object into the store; None for the way of workers.
    """
    results = open_store(**store)

    def put_durably(key: str, content: bytes) -> None:
        made = results.scratch_folder() / key.replace("/", "-")
        made.write_bytes(content)
        results.put_file(key, made)

    put = put or put_durably

    def execute(unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return PreflightDone(unit.request_id)
        put(unit.store_key, _CONTENT)
        return FileDone(
            request_id=unit.request_id,
            file_id=unit.file_id,
            path=unit.paths[0],
            store_key=unit.store_key,
            n_events_in=1000,
            n_events_out=10,
            bytes_read=10**6,
            size_bytes=len(_CONTENT),
            seconds=0.0,
            attempt=unit.attempt,
        )

    return execute


def _executor(settings: Settings, data: DataDir) -> ExecutorSpec:
    return replace(ports.executor(settings, data), factory=f"{MODULE}:build")


if __name__ == "__main__":
    for each in (embedded, worker):
        each.executor = _executor  # type: ignore[attr-defined]  # the one seam that settings do not have
    main()
