"""Whether anybody takes work, as every app and the leader can tell."""

from __future__ import annotations

import asyncio

from aio_pika.abc import AbstractConnection

from servicex_server.queue.transports.amqp.link import patiently
from servicex_server.queue.transports.amqp.probe import find_workers
from servicex_server.queue.transports.amqp.topology import Topology

_LOOK_EVERY_S = 5.0


class BrokerCrew:
    """Asks the broker now and then whether anybody listens to the queue of units, which costs a call.

    One look without workers says little, as while the only one is started anew; two say that there is none.

    Args:
        topology: the names of queues.
        look_every_s: so often.
    """

    def __init__(self, topology: Topology, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._topology = topology
        self._look_every_s = look_every_s
        self._n_without = 0

    @property
    def is_absent(self) -> bool:
        """No worker is connected; false also while that is not known."""
        return self._n_without > 1

    async def watch(self, connection: AbstractConnection) -> None:
        """Looks as long as this connection lasts; until canceled."""
        try:
            while True:
                has_workers = await self._look(connection)
                self._n_without = self._n_without + 1 if has_workers is False else 0
                await asyncio.sleep(self._look_every_s)
        finally:
            self._n_without = 0

    async def _look(self, connection: AbstractConnection) -> bool | None:
        try:
            return await patiently(find_workers(connection, self._topology))
        except TimeoutError:
            # A queue that does not answer is the leader's business, and no reason to hang up.
            return None


class Absence:
    """The leader's view: work waits, and no worker that was heard takes it. Pure.

    Args:
        patience_s: it has to last so long, so that workers may be started anew.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._lasts_s = 0.0
        self._is_told = False

    def pass_time(self, seconds: float, *, n_waiting: int, n_slots: int) -> bool | None:
        """True once when it has lasted long enough, False once when it is over, None otherwise.

        >>> absence = Absence(10)
        >>> [absence.pass_time(6, n_waiting=3, n_slots=slots) for slots in (0, 0, 0, 2, 2)]
        [None, True, None, False, None]
        """
        if n_slots:
            was_told, self._is_told, self._lasts_s = self._is_told, False, 0.0
            return False if was_told else None
        self._lasts_s = self._lasts_s + seconds if n_waiting else 0.0
        if self._is_told or self._lasts_s < self._patience_s:
            return None
        self._is_told = True
        return True
