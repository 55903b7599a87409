"""Connects a worker to the queue that a URL names."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from servicex_server.errors import ConfigurationError
from servicex_server.queue.protocol import WorkSource

BROKER_SCHEMES = ("amqp", "amqps")


def units_beside(url: str) -> int:
    """Units that come at once beyond the slots: preflights of a broker stand in a line of their own."""
    return 0 if urlsplit(url).scheme == "unix" else 1


def open_work_source(url: str, *, slots: int, prefix: str) -> AbstractAsyncContextManager[WorkSource]:
    """Where units come from, open while the context lasts.

    Args:
        url: `unix:///path/of/socket` of an embedded queue, or `amqp://…` of a broker.
        slots: units at once.
        prefix: of the names of a broker's queues.

    Raises:
        ConfigurationError: there is no such kind of queue, or a package is missing.
    """
    scheme, place = urlsplit(url).scheme, unquote(urlsplit(url).path)
    if scheme == "unix":
        from servicex_server.queue.transports.embedded import connect  # noqa: PLC0415  one of two

        return connect(Path(place), slots)
    require_broker_url(url)
    from servicex_server.queue.transports.amqp import AmqpWorkSource  # noqa: PLC0415  an optional package

    return AmqpWorkSource(url, slots=slots, prefix=prefix)


def require_broker_url(url: str) -> None:
    """Raises ConfigurationError unless the URL is that of a message broker, and its package is there."""
    # Nothing of the URL itself: it may hold a password.
    scheme = urlsplit(url).scheme
    if scheme not in BROKER_SCHEMES:
        message = f"there is no queue of the kind {scheme[:20]!r}; use amqp://user:password@host/vhost"
        raise ConfigurationError(message)
    if importlib.util.find_spec("aio_pika") is None:
        message = "RabbitMQ needs a package more: pip install 'servicex-server[production]'"
        raise ConfigurationError(message)
