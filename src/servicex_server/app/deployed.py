"""The roles of a deployment: apps that serve HTTP, and sweepers; one of them at a time leads.

They share a database, a broker and a store; workers (`app.worker`) are processes of their own. Any number of
each may run, and come and go.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

from servicex_server.app import database
from servicex_server.app.datadir import DataDir
from servicex_server.app.embedded import announce_lines, build_api, listen, own_url
from servicex_server.app.finders import build_finders, explain_absent, open_broker_finders
from servicex_server.app.generators import look_for_generators
from servicex_server.app.http import HttpServer
from servicex_server.app.internal import internal_port
from servicex_server.app.oversight import log_oversights
from servicex_server.app.ports import (
    naming_policy,
    require_deployment,
    source_policy,
    store_arguments,
    to_limits,
)
from servicex_server.app.results import require_usable
from servicex_server.app.settings import Settings, to_compressions
from servicex_server.db.session import Database, Transaction
from servicex_server.errors import ConfigurationError, DatabaseUnavailable
from servicex_server.queue.term import TermQueue
from servicex_server.queue.transports.open import require_broker_url
from servicex_server.service.background import run_background
from servicex_server.service.context import Leadership, Services
from servicex_server.service.hint import run_hints
from servicex_server.service.leader import run_while_leader
from servicex_server.service.stream import Streams
from servicex_server.store.measured import MeasuredStore
from servicex_server.store.open import open_store
from servicex_server.telemetry import logs
from servicex_server.telemetry.exposition import serve_metrics

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Deployment:
    """One process of it.

    Attributes:
        lease_db: a connection of its own for the lease, so that renewals stand in no line.
        queue: the broker's, while this process leads.
    """

    settings: Settings
    services: Services
    lease_db: Database
    queue: TermQueue

    async def run(self) -> None:
        """Follows the other servers' hints, and leads when it is elected; until canceled."""
        hints = self.services.hints
        if hints is None:
            message = "a server that may lead needs hints"
            raise RuntimeError(message)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(run_hints(self.services, hints), name="hints")
            tasks.create_task(
                run_while_leader(
                    replace(self.services, db=self.lease_db), database.holder_name(), self._lead
                ),
                name="leader",
            )

    async def _lead(self) -> None:
        from servicex_server.queue.transports.amqp import AmqpQueue  # noqa: PLC0415  an optional package

        url, prefix = _broker(self.settings)
        async with AmqpQueue(url, prefix=prefix) as queue:
            with self.queue.using(queue):
                await run_background(self.services)


def run_app(settings: Settings) -> int:
    """Serves HTTP, and leads if it is its turn, until it is told to stop; returns the exit code.

    Raises:
        ConfigurationError: something stands in the way of starting; the text says what to do.
    """
    data = _prepare(settings)
    log_oversights(settings, is_one_of_several=True)
    with listen(settings) as listener:
        try:
            return asyncio.run(_serve(settings, data, listener))
        except* ConfigurationError as group:
            raise group.exceptions[0] from None


def run_sweeper(settings: Settings) -> int:
    """Leads if it is its turn, without serving HTTP, until it is told to stop; returns the exit code.

    Raises:
        ConfigurationError: as `run_app` does.
    """
    data = _prepare(settings)
    try:
        return asyncio.run(_sweep(settings, data))
    except* ConfigurationError as group:
        raise group.exceptions[0] from None


def _prepare(settings: Settings) -> DataDir:
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    require_deployment(settings, "database_url", "queue_url", "store_url")
    url, _ = _broker(settings)
    require_broker_url(url)
    data = DataDir(settings.data_dir)
    data.create_folder()
    return data


async def _serve(settings: Settings, data: DataDir, listener: socket.socket) -> int:
    async with AsyncExitStack() as stack:
        deployment = await _open(settings, data, stack)
        services = deployment.services

        async def missing() -> Sequence[str]:
            try:
                await services.db.read(_ping)
            except DatabaseUnavailable as error:
                return (error.message,)
            return ()

        await stack.enter_async_context(serve_metrics(settings.metrics_host, settings.metrics_port))
        app = build_api(settings, data, services, ready=missing)
        await stack.enter_async_context(internal_port(settings, services))
        server = HttpServer(
            app,
            on_ready=lambda: announce_lines(_describe(settings, listener)),
            # Others take new requests meanwhile, so that downloads need not be cut off.
            grace_s=settings.drain_grace_s,
        )
        async with asyncio.TaskGroup() as tasks:
            background = tasks.create_task(deployment.run())
            await server.serve(sockets=[listener])
            background.cancel()
    return 0


async def _sweep(settings: Settings, data: DataDir) -> int:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        deployment = await _open(settings, data, stack)
        await stack.enter_async_context(serve_metrics(settings.metrics_host, settings.metrics_port))
        work = asyncio.ensure_future(deployment.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        announce_lines(("ServiceX sweeper is ready",))
        try:
            await work
        except asyncio.CancelledError:
            logger.info("sweeper.stopped")
    return 0


async def _open(settings: Settings, data: DataDir, stack: AsyncExitStack) -> _Deployment:
    from servicex_server.queue.transports.amqp import AmqpHints  # noqa: PLC0415  an optional package

    await require_usable(settings)
    address = await database.prepare_when_up(settings)
    url, prefix = _broker(settings)
    generators = await asyncio.to_thread(look_for_generators, settings)
    queue = TermQueue()
    db = await stack.enter_async_context(Database(address))
    hints = await stack.enter_async_context(AmqpHints(url, prefix=prefix))
    finders = build_finders(settings, source_policy(settings, data), db)
    services = Services(
        db=db,
        queue=queue,
        store=MeasuredStore(open_store(**store_arguments(settings, data))),  # type: ignore[arg-type]  # plain
        policy=naming_policy(settings, data),
        limits=to_limits(settings),
        codegens=generators.offered,
        withheld=generators.withheld,
        compressions=to_compressions(settings.compression),
        result_cache=settings.result_cache,
        streams=Streams(total=settings.event_streams, per_user=settings.event_streams_per_user),
        finders=finders,
        absent_finders=explain_absent(settings, finders),
        remote_finders=await open_broker_finders(settings, stack),
        default_scheme=settings.default_scheme,
        hints=hints,
        crew=hints.crew,
        leadership=Leadership(is_held=False),
    )
    lease_db = await stack.enter_async_context(Database(address, readers=1, writers=1))
    return _Deployment(settings, services, lease_db, queue)


def _broker(settings: Settings) -> tuple[str, str]:
    """URL, and prefix of names."""
    return "" if settings.queue_url is None else settings.queue_url.get_secret_value(), settings.queue_prefix


def _ping(_transaction: Transaction) -> None:
    """Nothing, to see whether the database answers."""


def _describe(settings: Settings, listener: socket.socket) -> tuple[str, ...]:
    access = "users as made by `servicex-server token create`" if settings.auth else "open to everybody"
    return (f"ServiceX server is ready: {own_url(settings, listener)}", f"  access  {access}")
