"""`servicex-server finder SCHEME`: one of our finders as a program of its own, as the official ones are.

It speaks to the broker and to the internal routes alone, so that it serves any ServiceX server.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from functools import partial

import httpx

from servicex_server.app.datadir import DataDir
from servicex_server.app.embedded import announce_lines
from servicex_server.app.finders import build_finder, finder_broker_url
from servicex_server.app.ports import source_policy
from servicex_server.app.settings import Settings
from servicex_server.did.answer import answer, refuse
from servicex_server.did.protocol import Finder
from servicex_server.errors import InvalidRequest
from servicex_server.model.did import parse_did
from servicex_server.queue.celery_wire import CeleryTask, finder_queue
from servicex_server.telemetry import logs

logger = logging.getLogger(__name__)

_AT_ONCE = 4
_IN_HAND = 16
"""Tasks taken from the broker: those that wait for a server to come back leave room for others."""
_PAUSES_S = (5.0, 15.0, 30.0, 60.0, 120.0, 240.0)
"""Between two tries to tell of a look-up: minutes in all, less than a server waits for a silent finder."""
_ENDPOINT_CHARACTERS = 2_000


def run_finder(settings: Settings, scheme: str) -> int:
    """Looks data sets up until it is told to stop; returns the exit code.

    Raises:
        ConfigurationError: something stands in the way of starting; the text says what to do.
    """
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    finder = build_finder(settings, source_policy(settings, DataDir(settings.data_dir)), scheme)
    url = finder_broker_url(settings)
    try:
        return asyncio.run(_serve(finder, scheme, url))
    except asyncio.CancelledError:
        return 0


async def _serve(finder: Finder, scheme: str, url: str) -> int:
    from servicex_server.queue.transports.amqp.celery import CeleryConsumer, CeleryDelivery  # noqa: PLC0415

    working = asyncio.current_task()
    assert working is not None  # noqa: S101  this is a coroutine
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, working.cancel)
    under_way: set[asyncio.Task[None]] = set()

    slots = asyncio.Semaphore(_AT_ONCE)

    async def look_up(delivery: CeleryDelivery) -> None:
        try:
            await _until_told(finder, scheme, delivery.task, slots)
            await delivery.ack()
        except ConnectionError as error:
            logger.warning("a look-up will be offered again: %s", error)

    async with CeleryConsumer(url, finder_queue(scheme), at_once=_IN_HAND) as consumer:
        announce_lines((f"ServiceX finder of {scheme}:// data sets is ready",))
        async for delivery in consumer.tasks():
            task = asyncio.ensure_future(look_up(delivery))
            under_way.add(task)
            task.add_done_callback(partial(_forget, under_way))
    return 0


def _forget(under_way: set[asyncio.Task[None]], task: asyncio.Task[None]) -> None:
    under_way.discard(task)


async def _until_told(finder: Finder, scheme: str, task: CeleryTask, slots: asyncio.Semaphore) -> None:
    """Looks up, and again later if nobody was there to be told; the server bounds how long it waits."""
    for pause_s in (*_PAUSES_S, None):
        try:
            async with slots:
                await _look_up(finder, scheme, task)
        except httpx.HTTPError as error:
            logger.warning("a look-up ended without being told: %s", error)
        except Exception:
            logger.exception("a look-up failed")
            return
        else:
            return
        if pause_s is not None:
            await asyncio.sleep(pause_s)
    logger.error("lookup.untold: the server that asked did not come back")


async def _look_up(finder: Finder, scheme: str, task: CeleryTask) -> None:
    if len(task.args) != 3:
        logger.warning("task.garbled: %s has %d arguments instead of 3", task.name, len(task.args))
        return
    name, dataset_id, endpoint = task.args
    if not (isinstance(name, str) and isinstance(dataset_id, int) and isinstance(endpoint, str)):
        logger.warning("task.garbled: the arguments of %s are none of a look-up", task.name)
        return
    if not endpoint.startswith(("http://", "https://")) or len(endpoint) > _ENDPOINT_CHARACTERS:
        logger.warning("task.garbled: the endpoint is no URL")
        return
    dataset_url = f"{endpoint}{dataset_id}"
    try:
        did = parse_did(f"{scheme}://{name}")
    except InvalidRequest as error:
        await refuse(dataset_url, error)
        return
    await answer(finder, did, dataset_url)
