"""`servicex-server worker`: a worker process of a deployment."""

from __future__ import annotations

import asyncio

from servicex_server.app.datadir import DataDir
from servicex_server.app.ports import executor, require_deployment
from servicex_server.app.results import require_folder
from servicex_server.app.settings import Settings
from servicex_server.model.worker import WorkerSettings
from servicex_server.queue.transports.open import require_broker_url
from servicex_server.run.serve import serve
from servicex_server.telemetry import logs


def run(settings: Settings) -> int:
    """Works until it is told to stop: SIGTERM drains it, a second one ends it at once. Returns the exit code.

    Raises:
        ConfigurationError: something stands in the way of starting; the text says what to do.
    """
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    require_deployment(settings, "queue_url", "store_url")
    url = "" if settings.queue_url is None else settings.queue_url.get_secret_value()
    require_broker_url(url)
    data = DataDir(settings.data_dir)
    data.create_folder()
    # A bucket is asked by the children: no connection to it survives a fork.
    require_folder(settings)
    return asyncio.run(
        serve(
            WorkerSettings(
                queue_url=url,
                queue_prefix=settings.queue_prefix,
                slots=settings.workers,
                executor=executor(settings, data),
                memory_limit_bytes=settings.worker_memory_bytes or None,
                drain_grace_s=settings.drain_grace_s,
                log_level=settings.log_level,
                log_json=settings.log_format == "json",
                metrics_host=settings.metrics_host,
                metrics_port=settings.worker_metrics_port,
            )
        )
    )
