"""The worker as a process: settings in, signals, exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec

from servicex_server.errors import ConfigurationError
from servicex_server.model.worker import WorkerSettings
from servicex_server.queue.transports.open import open_work_source, units_beside
from servicex_server.run.children import NurseryLost, open_children
from servicex_server.run.lifeline import die_with_parent
from servicex_server.run.worker import run_worker
from servicex_server.telemetry import logs
from servicex_server.telemetry.exposition import serve_metrics
from servicex_server.telemetry.metrics import WORKER_SLOTS

logger = logging.getLogger(__name__)

_MAX_SETTINGS_BYTES = 1024 * 1024


def main() -> None:
    """Reads the settings (msgpack) from the standard input and works until stopped or the server goes."""
    data = sys.stdin.buffer.read(_MAX_SETTINGS_BYTES)
    try:
        settings = msgspec.msgpack.decode(data, type=WorkerSettings)
    except msgspec.MsgspecError as error:
        sys.exit(f"servicex worker: the settings on the standard input cannot be read: {error}")
    if settings.parent_pid is not None:
        die_with_parent(settings.parent_pid)
    logs.configure(settings.log_level, as_json=settings.log_json)
    sys.exit(asyncio.run(serve(settings)))


async def serve(settings: WorkerSettings) -> int:
    """Runs one worker; returns the exit code: 0 when it was stopped or the server went.

    SIGTERM and SIGINT drain it; the second one ends it at once.
    """
    stop = asyncio.Event()
    is_serving = asyncio.Event()
    working = asyncio.ensure_future(_work(settings, is_serving, stop))

    def on_signal() -> None:
        if stop.is_set() or not is_serving.is_set():
            working.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await working
    except asyncio.CancelledError:
        logger.info("worker.stopped: at once")
    except (ConfigurationError, NurseryLost, ConnectionError, TimeoutError) as error:
        logger.error("worker.failed: %s: %s", type(error).__name__, error)  # noqa: TRY400  # no defect of ours
        return 1
    return 0


async def _work(settings: WorkerSettings, is_serving: asyncio.Event, stop: asyncio.Event) -> None:
    children_ready = open_children(
        settings.slots + units_beside(settings.queue_url),
        settings.executor,
        preload=settings.preload,
        memory_limit_bytes=settings.memory_limit_bytes,
        log_level=settings.log_level,
        log_json=settings.log_json,
    )
    # Connected only when children are ready: leases that nobody can begin would wait past their deadlines.
    async with (
        _tell_metrics(settings),
        children_ready as children,
        open_work_source(settings.queue_url, slots=settings.slots, prefix=settings.queue_prefix) as source,
    ):
        is_serving.set()
        logger.info("worker.ready: %d slots, process %d", settings.slots, os.getpid())
        await run_worker(source, children, stop=stop, drain_grace_s=settings.drain_grace_s)
    logger.info("worker.ended")


@asynccontextmanager
async def _tell_metrics(settings: WorkerSettings) -> AsyncIterator[None]:
    """Metrics while the context lasts; work goes on without them if their port is taken."""
    WORKER_SLOTS.set(settings.slots)
    async with AsyncExitStack() as stack:
        try:
            serving = serve_metrics(
                settings.metrics_host, settings.metrics_port, setting="worker_metrics_port"
            )
            await stack.enter_async_context(serving)
        except ConfigurationError as error:
            logger.error("worker.unmeasured: %s", error)  # noqa: TRY400  # no defect of ours
        yield
