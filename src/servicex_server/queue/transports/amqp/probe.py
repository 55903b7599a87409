"""Whether a broker lets us in, and whether workers listen to it. Declares nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelClosed

from servicex_server.errors import ConfigurationError
from servicex_server.queue.transports.amqp.address import BrokerAddress
from servicex_server.queue.transports.amqp.link import LOST, broker_errors, connect, hang_up, patiently, say
from servicex_server.queue.transports.amqp.topology import Topology

WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class BrokerSight:
    """What was seen of a broker.

    Attributes:
        name: host, port and virtual host.
        user: as whom we were let in.
        has_workers: whether anybody takes units; None if they have no queue yet.
    """

    name: str
    user: str
    has_workers: bool | None


async def probe_broker(url: str, *, prefix: str, within_s: float = WITHIN_S) -> BrokerSight:
    """What the broker at `url` shows to those who may log in.

    Args:
        prefix: of the names of queues.
        within_s: for all of it.

    Raises:
        ConfigurationError: the broker refuses, or cannot be reached in time; says nothing secret.
    """
    address = BrokerAddress.parse(url)
    try:
        async with asyncio.timeout(within_s):
            connection = await connect(address, "check")
            try:
                with broker_errors():
                    has_workers = await find_workers(connection, Topology(prefix))
            finally:
                await hang_up(connection)
    except TimeoutError as error:
        message = f"the broker at {address.name} does not answer within {within_s:g} s"
        raise ConfigurationError(message) from error
    except LOST as error:
        message = f"the broker at {address.name} cannot be reached: {say(error)}"
        raise ConfigurationError(message) from error
    return BrokerSight(address.name, address.user, has_workers)


async def find_workers(connection: AbstractConnection, topology: Topology) -> bool | None:
    """Whether anybody takes units; None if there is no such queue, or it may not be looked at."""
    channel = await connection.channel(publisher_confirms=False)
    try:
        queue = await channel.declare_queue(topology.units, passive=True)
    except ChannelClosed:
        return None
    finally:
        if not channel.is_closed:
            with suppress(*LOST):
                await patiently(channel.close())
    return bool(queue.declaration_result.consumer_count)
