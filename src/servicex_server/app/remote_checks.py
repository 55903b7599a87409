"""What a server needs of others (broker, store, Rucio), asked within seconds, as findings for an operator."""

from __future__ import annotations

import asyncio
import shutil

from servicex_server.app.datadir import DataDir
from servicex_server.app.finders import finder_broker_url, rucio_access
from servicex_server.app.finding import Finding, Grade
from servicex_server.app.ports import grid_access, is_deployment
from servicex_server.app.results import probe_results
from servicex_server.app.room import examine_room
from servicex_server.app.settings import Settings
from servicex_server.errors import (
    ConfigurationError,
    FinderError,
    ResourceExhausted,
    StoreUnavailable,
)
from servicex_server.queue.transports.open import require_broker_url
from servicex_server.store.open import find_folder
from servicex_server.telemetry.logs import mute_echoes


def examine_remote(settings: Settings) -> list[Finding]:
    """Asks those that the settings name, all at once; says nothing of what is not configured."""
    # A command configures no logs, and what is not configured goes to stderr.
    mute_echoes()
    return asyncio.run(_ask(settings))


async def _ask(settings: Settings) -> list[Finding]:
    groups = await asyncio.gather(
        _broker(settings), _finder_broker(settings), _store(settings), _rucio(settings)
    )
    return [finding for group in groups for finding in group]


async def _broker(settings: Settings) -> list[Finding]:
    if settings.queue_url is None:
        return []
    return await _look("broker", "queue_url", settings.queue_url.get_secret_value(), settings)


async def _finder_broker(settings: Settings) -> list[Finding]:
    """The one of finders, if it is another one."""
    if settings.finder_broker_url is None or not settings.broker_finders:
        return []
    found = await _look("finder broker", "finder_broker_url", finder_broker_url(settings), settings)
    return found[:1]


async def _look(subject: str, setting: str, url: str, settings: Settings) -> list[Finding]:
    try:
        require_broker_url(url)
        from servicex_server.queue.transports.amqp import probe_broker  # noqa: PLC0415  an optional package

        sight = await probe_broker(url, prefix=settings.queue_prefix)
    except ConfigurationError as error:
        return [Finding(subject, Grade.FAIL, f"{error.message} (SERVICEX_{setting.upper()})")]
    broker = Finding(subject, Grade.OK, f"{sight.name} lets the user {sight.user!r} in")
    if sight.has_workers:
        return [broker, Finding("workers", Grade.OK, f"some wait for files of {settings.queue_prefix!r}")]
    detail = f"none waits for files of {settings.queue_prefix!r}: start `servicex-server worker`"
    return [broker, Finding("workers", Grade.WARNING, detail)]


async def _store(settings: Settings) -> list[Finding]:
    subject, url = "result store", settings.store_url
    if url is None:
        missing = "none: apps, sweepers and workers need SERVICEX_STORE_URL"
        return [Finding(subject, Grade.WARNING, missing)] if is_deployment(settings) else []
    try:
        folder = find_folder(url)
        if folder is not None and not folder.exists() and not is_deployment(settings):
            return [Finding(subject, Grade.NOTE, f"{folder}, made at first start")]
        await probe_results(settings)
    except (ConfigurationError, StoreUnavailable, ResourceExhausted) as error:
        return [Finding(subject, Grade.FAIL, error.message)]
    if folder is None:
        return [Finding(subject, Grade.OK, f"{url} takes and deletes objects")]
    return [
        examine_room(subject, f"{folder} takes and deletes objects", shutil.disk_usage(folder).free, settings)
    ]


async def _rucio(settings: Settings) -> list[Finding]:
    subject = "rucio"
    access = rucio_access(settings, grid_access(settings, DataDir(settings.data_dir)))
    if access is None:
        return []
    from servicex_server.did.rucio.probe import probe_rucio  # noqa: PLC0415  httpx, for few

    try:
        await probe_rucio(access)
    except FinderError as error:
        return [Finding(subject, Grade.WARNING, f"{error.message} (rucio_auth_type {access.kind.value})")]
    return [Finding(subject, Grade.OK, f"{access.host} lets this server in ({access.kind.value})")]
