"""`servicex-server up`: HTTP app, workers, SQLite, local results and embedded queue in one process tree."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from servicex_server.app.datadir import DataDir, is_inside
from servicex_server.app.oversight import log_oversights
from servicex_server.app.ports import (
    executor,
    naming_policy,
    source_policy,
    store_arguments,
    to_limits,
)
from servicex_server.app.settings import ANY_ADDRESS, LOOPBACK, Settings, to_compressions
from servicex_server.errors import ConfigurationError
from servicex_server.launch.local import LocalWorkers
from servicex_server.queue.transports.embedded import EmbeddedQueue
from servicex_server.store.open import find_folder
from servicex_server.telemetry import logs
from servicex_server.telemetry.exposition import serve_metrics

if TYPE_CHECKING:
    from fastapi import FastAPI

    from servicex_server.app.http import HttpServer
    from servicex_server.service.context import Services

Ready = Callable[[], Awaitable[Sequence[str]]]

BACKLOG = 2048
"""Connections that may wait to be accepted; a burst of clients must not see refusals."""


def run(settings: Settings) -> int:
    """Serves until it is told to stop; returns the process's exit code.

    Raises:
        ConfigurationError: something stands in the way of starting; the text says what to do.
    """
    logs.configure(settings.log_level, as_json=settings.log_format == "json")
    _check_roots(settings)
    log_oversights(settings, is_one_of_several=False)
    _make_store(settings)
    data = DataDir(settings.data_dir)
    data.create(with_database=settings.database_url is None)
    with data.locked(), listen(settings) as listener:
        try:
            return asyncio.run(_serve(settings, data, listener))
        except* ConfigurationError as group:
            raise group.exceptions[0] from None
        finally:
            data.clear_url()


def _make_store(settings: Settings) -> None:
    """The folder of results, wherever it is; in a deployment it may be a volume that is not mounted yet."""
    folder = None if settings.store_url is None else find_folder(settings.store_url)
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the folder of results {folder} cannot be made: {error.strerror} (SERVICEX_STORE_URL)"
        raise ConfigurationError(message) from error


def _check_roots(settings: Settings) -> None:
    for root in settings.local_roots:
        if not root.is_dir() or not os.access(root, os.R_OK | os.X_OK):
            message = f"the local root {root} is not a folder you may read; name others with --local-root"
            raise ConfigurationError(message)
        if is_inside(root, settings.data_dir):
            message = (
                f"the local root {root} lies in the data folder {settings.data_dir}, which inputs are never "
                "read from; name others with --local-root, or another --data-dir"
            )
            raise ConfigurationError(message)


@contextmanager
def listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything is started, so that a taken port stops us at once."""
    with listen_on(settings.host, settings.port, flags="--host, --port") as listener:
        yield listener


@contextmanager
def listen_on(host: str, port: int, *, flags: str) -> Iterator[socket.socket]:
    """A listening socket.

    Args:
        flags: by which another place is chosen.

    Raises:
        ConfigurationError: it cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Told the protocol, asyncio sets TCP_NODELAY on what it accepts; without that the body of an answer
    # waits 40 ms for the acknowledgement of its head.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "another program uses it" if is_taken else str(error)
            message = f"cannot listen on {host} port {port}: {why}; choose with {flags}"
            raise ConfigurationError(message) from error
        listener.listen(BACKLOG)
        yield listener


async def _serve(settings: Settings, data: DataDir, listener: socket.socket) -> int:
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(EmbeddedQueue(data.socket))
        # Workers load the file format libraries while this process loads the web framework.
        await stack.enter_async_context(_workers(settings, data))
        services, token = await _open_services(settings, data, queue, stack)
        url = own_url(settings, listener)

        async def missing() -> Sequence[str]:
            return () if queue.n_slots else ("no worker is connected yet",)

        app = build_api(settings, data, services, ready=missing)
        from servicex_server.app.http import HttpServer  # noqa: PLC0415  see _open_services
        from servicex_server.app.internal import internal_port  # noqa: PLC0415

        await stack.enter_async_context(internal_port(settings, services))
        server = HttpServer(app, on_ready=lambda: _announce(settings, data, url, token))
        await stack.enter_async_context(serve_metrics(settings.metrics_host, settings.metrics_port))
        await _run_beside(server, _background(settings, services), listener)
    return 0


def _workers(settings: Settings, data: DataDir) -> LocalWorkers:
    return LocalWorkers(
        data.socket,
        slots=settings.workers,
        executor=executor(settings, data),
        memory_limit_bytes=settings.worker_memory_bytes or None,
        log_level=settings.log_level,
        log_json=settings.log_format == "json",
        # Unfinished files are done again at the next start; nobody wants to wait long after Ctrl-C.
        drain_grace_s=3.0,
        metrics_host=settings.metrics_host,
        metrics_port=settings.worker_metrics_port,
    )


async def _open_services(
    settings: Settings, data: DataDir, queue: EmbeddedQueue, stack: AsyncExitStack
) -> tuple[Services, str | None]:
    """The services over this folder, and the owner's token if access is controlled."""
    # Imported here, after the workers were started: their start-up and ours run side by side.
    from servicex_server.app import database  # noqa: PLC0415
    from servicex_server.app.finders import build_finders, explain_absent, open_broker_finders  # noqa: PLC0415
    from servicex_server.app.generators import look_for_generators  # noqa: PLC0415
    from servicex_server.app.tokens import ensure_owner_token  # noqa: PLC0415
    from servicex_server.db.session import Database  # noqa: PLC0415
    from servicex_server.queue.transports.memory_hints import HintExchange  # noqa: PLC0415
    from servicex_server.service.context import Services  # noqa: PLC0415
    from servicex_server.service.stream import Streams  # noqa: PLC0415
    from servicex_server.store.measured import MeasuredStore  # noqa: PLC0415
    from servicex_server.store.open import open_store  # noqa: PLC0415

    # A process is started and waited for, while the database is opened.
    looking = asyncio.create_task(asyncio.to_thread(look_for_generators, settings))
    db = await stack.enter_async_context(Database(await database.prepare_when_up(settings)))
    generators = await looking
    finders = build_finders(settings, source_policy(settings, data), db)
    services = Services(
        db=db,
        codegens=generators.offered,
        withheld=generators.withheld,
        queue=queue,
        store=MeasuredStore(open_store(**store_arguments(settings, data))),  # type: ignore[arg-type]  # plain values
        policy=naming_policy(settings, data),
        # The workers are children of this process; but what is named below a mount lies elsewhere.
        sees_inputs=not any(prefix.startswith("/") for prefix in settings.host_mount),
        limits=to_limits(settings),
        compressions=to_compressions(settings.compression),
        streams=Streams(total=settings.event_streams, per_user=settings.event_streams_per_user),
        # Another process may change requests, and nobody tells: waiters and dispatcher look for themselves.
        hints=HintExchange().join() if database.is_external(settings) else None,
        result_cache=settings.result_cache,
        finders=finders,
        absent_finders=explain_absent(settings, finders),
        remote_finders=await open_broker_finders(settings, stack),
        default_scheme=settings.default_scheme,
    )
    token = await ensure_owner_token(db, data) if settings.auth else None
    return services, token


def build_api(settings: Settings, data: DataDir, services: Services, *, ready: Ready) -> FastAPI:
    """The HTTP application over these services.

    Args:
        ready: what is not ready yet, in words.
    """
    from servicex_server.api.config import ApiConfig  # noqa: PLC0415  see _open_services
    from servicex_server.api.server import build_app  # noqa: PLC0415
    from servicex_server.auth import AccessTokens  # noqa: PLC0415
    from servicex_server.web import install_pages  # noqa: PLC0415

    given = settings.signing_secret
    secret = data.signing_secret() if given is None else given.get_secret_value().encode()
    config = ApiConfig(
        app_version=version("servicex-server"),
        access_tokens=AccessTokens(secret, settings.token_lifetime_s),
        auth_enabled=settings.auth,
        allowed_hosts=(*settings.allowed_hosts, *_own_names(settings)),
        public_url=settings.public_url,
        max_body_bytes=settings.max_body_bytes,
        ready=ready,
    )
    return build_app(services, config, install_pages=install_pages)


def _own_names(settings: Settings) -> tuple[str, ...]:
    """Listening on one address allows requests addressed to it; on all of them, none in particular."""
    return () if settings.host in ANY_ADDRESS else (settings.host,)


def own_url(settings: Settings, listener: socket.socket) -> str:
    if settings.public_url is not None:
        return settings.public_url
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host and not host.startswith("[") else f"http://{host}:{port}"


async def _background(settings: Settings, services: Services) -> None:
    """The background tasks; on a database that others may use, too, those of them that lead."""
    from servicex_server.app import database  # noqa: PLC0415  see _open_services
    from servicex_server.db.session import Database  # noqa: PLC0415
    from servicex_server.service.background import run_background  # noqa: PLC0415
    from servicex_server.service.leader import run_while_leader  # noqa: PLC0415

    if not database.is_external(settings):
        await run_background(services)
        return
    async with Database(database.database_url(settings), readers=1, writers=1) as db:
        campaign = replace(services, db=db)
        await run_while_leader(campaign, database.holder_name(), partial(run_background, services))


async def _run_beside(server: HttpServer, work: Coroutine[None, None, None], listener: socket.socket) -> None:
    """Serves HTTP with the background tasks beside it; any of them ending stops all, lest requests hang."""
    async with asyncio.TaskGroup() as tasks:
        background = tasks.create_task(work)
        await server.serve(sockets=[listener])
        background.cancel()


def _announce(settings: Settings, data: DataDir, url: str, token: str | None) -> None:
    """Writes down and prints where the server is."""
    data.write_client_config(url, token)
    data.write_url(url)
    workers = f"{settings.workers} worker{'s' if settings.workers > 1 else ''}"
    access = "token in servicex.yaml" if settings.auth else "open to everybody who can connect"
    lines = (
        f"ServiceX server {version('servicex-server')} is ready: {url}",
        f"  client configuration  {data.client_config}",
        f"  reads files below     {', '.join(map(str, settings.local_roots)) or 'no local folder'}",
        f"  results and database  {data.path}",
        f"  {workers}, {access}; Ctrl-C stops, a second start resumes",
    )
    announce_lines(lines)
    if not settings.auth and settings.host not in LOOPBACK:
        sys.stderr.write(
            f"WARNING: open to the network: everybody who reaches {settings.host} may run queries on the "
            "files named above and read and delete all results; drop --no-auth, or listen on 127.0.0.1\n"
        )


def announce_lines(lines: Sequence[str]) -> None:
    """Tells whoever started this process that it is ready."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
