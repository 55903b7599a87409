"""A worker process on this machine, started with the server, restarted when it dies, stopped with it."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec

from servicex_server.model.worker import HEAVY_MODULES, ExecutorSpec, WorkerSettings
from servicex_server.telemetry.metrics import WORKER_PROCESS_RESTARTS

logger = logging.getLogger(__name__)

# -P: nothing is imported from the folder the server was started in.
WORKER_COMMAND = (sys.executable, "-P", "-m", "servicex_server.run")

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 30.0
_HEALTHY_AFTER_S = 60.0
_STOP_MARGIN_S = 5.0


class LocalWorkers:
    """One worker process with `slots` children, kept alive while the context is open.

    A worker that dies is replaced after a delay that doubles with each early death, up to 30 s. On leaving
    the context it is asked to drain (SIGTERM), and killed if it takes longer than its grace.

    Args:
        socket_path: where the server's embedded queue listens.
        slots: how many units are worked on at once.
        executor: what the children run.
        preload: modules that children find imported.
        memory_limit_bytes: bound on a child's address space.
        drain_grace_s: how long running units may go on after a stop.
        log_level: of the worker, which writes to this process's stderr.
        log_json: whether it writes JSON lines.
        command: starts a worker that reads `WorkerSettings` (msgpack) from its standard input.
        environment: additions to this process's environment.
        metrics_host: where the worker tells its metrics.
        metrics_port: the same; 0 for nowhere.
    """

    def __init__(
        self,
        socket_path: Path,
        slots: int,
        executor: ExecutorSpec,
        *,
        preload: tuple[str, ...] = HEAVY_MODULES,
        memory_limit_bytes: int | None = None,
        drain_grace_s: float = 20.0,
        log_level: str = "INFO",
        log_json: bool = False,
        command: Sequence[str] = WORKER_COMMAND,
        environment: Mapping[str, str] | None = None,
        metrics_host: str = "127.0.0.1",
        metrics_port: int = 0,
    ) -> None:
        self._settings = WorkerSettings(
            queue_url=f"unix://{quote(str(socket_path.absolute()))}",
            slots=slots,
            executor=executor,
            preload=preload,
            memory_limit_bytes=memory_limit_bytes,
            drain_grace_s=drain_grace_s,
            parent_pid=os.getpid(),
            log_level=log_level,
            log_json=log_json,
            metrics_host=metrics_host,
            metrics_port=metrics_port,
        )
        self._command = command
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.n_restarts = 0

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None between two of them."""
        return self._process.pid if self._process is not None else None

    async def __aenter__(self) -> Self:
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])

    async def _supervise(self) -> None:
        """Runs workers one after the other until it is cancelled; then the last one is stopped."""
        delay_s = _FIRST_DELAY_S
        while True:
            started = time.monotonic()
            code = await self._run_one()
            lived_s = time.monotonic() - started
            delay_s = _FIRST_DELAY_S if lived_s > _HEALTHY_AFTER_S else delay_s
            logger.warning("worker.died: exit code %s; the next one starts in %.1f s", code, delay_s)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
            self.n_restarts += 1
            WORKER_PROCESS_RESTARTS.inc()

    async def _run_one(self) -> int | None:
        """Exit code of a worker from start to end; None if it cannot be started."""
        try:
            # A process group of its own: Ctrl-C in the terminal is for this process, which stops the worker.
            process = await asyncio.create_subprocess_exec(
                *self._command, stdin=asyncio.subprocess.PIPE, env=self._environment, process_group=0
            )
        except OSError as error:
            logger.error("worker.unstartable: %s: %s", self._command[0], error)  # noqa: TRY400  # no defect of ours
            return None
        self._process = process
        try:
            # Through the pipe, not as arguments: settings may hold secrets, and other users see arguments.
            await process.communicate(msgspec.msgpack.encode(self._settings))
        finally:
            await self._stop(process)
            self._process = None
        return process.returncode

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(self._settings.drain_grace_s + _STOP_MARGIN_S):
                await process.wait()
        except TimeoutError:
            logger.warning("worker.stuck: did not end within its grace; killed")
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
