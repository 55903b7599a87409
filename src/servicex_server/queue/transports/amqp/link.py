"""A connection to the broker that comes back.

aio-pika's own "robust" connection restores objects one by one behind their users' backs. Here a lost
connection ends a whole session, and the next one declares and consumes again from the beginning.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, InvalidFrameError, ProbableAuthenticationError

from servicex_server.errors import ConfigurationError
from servicex_server.queue.transports.amqp.address import BrokerAddress

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 15.0
"""How long one answer of the broker may take before the connection counts as dead."""

_CLOSE_S = 3.0

LOST = (*CONNECTION_EXCEPTIONS, TimeoutError)
"""What aio-pika raises when the connection or a channel is gone."""


class Serve(Protocol):
    """One session: declares, calls `up`, and works until it is canceled or something fails."""

    async def __call__(self, connection: AbstractConnection, up: Callable[[], None]) -> None: ...


class Link:
    """Runs a session after the other, with pauses that grow and vary.

    Args:
        what: who connects, for logs and the broker's list of connections.
        longest_pause_s: between two attempts.
    """

    def __init__(
        self, address: BrokerAddress, serve: Serve, *, what: str, longest_pause_s: float = 10.0
    ) -> None:
        self._address = address
        self._serve = serve
        self._what = what
        self._longest_pause_s = longest_pause_s
        self._attempted = asyncio.Event()
        self._refusal: ConfigurationError | None = None
        self._down_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def down_s(self) -> float:
        """For how long there has been no session; 0 when there is one."""
        return 0.0 if self._down_since is None else asyncio.get_running_loop().time() - self._down_since

    async def open(self) -> None:
        """Returns after the first attempt, also when the broker cannot be reached: attempts go on.

        Raises:
            ConfigurationError: the broker is there but refuses.
        """
        self._down_since = asyncio.get_running_loop().time()
        self._task = asyncio.create_task(self._run(), name=f"amqp {self._what}")
        try:
            await self._attempted.wait()
        except BaseException:
            await self.close()
            raise
        if self._refusal is not None:
            refusal = self._refusal
            await self.close()
            raise refusal

    async def close(self) -> None:
        """Hangs up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _up(self) -> None:
        if self._down_since is not None:
            logger.info("broker.connected: %s to %s", self._what, self._address.name)
        self._down_since = None
        self._attempted.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            refusal: ConfigurationError | None = None
            try:
                await self._session()
            except ConfigurationError as error:
                refusal = error
                logger.error("broker.refused: %s", error)  # noqa: TRY400  # no defect of ours
            except LOST as error:
                logger.warning("broker.lost: %s, at %s: %s", self._what, self._address.name, say(error))
            except Exception:
                logger.exception("broker.lost: %s, by a defect", self._what)
            if self._down_since is None:
                failures = 0
                self._down_since = asyncio.get_running_loop().time()
            if not self._attempted.is_set():
                self._refusal = refusal
                self._attempted.set()
            longest_s = min(self._longest_pause_s, 0.1 * 2.0 ** min(failures, 10))
            failures += 1
            # Jitter, so that a broker that returns is not met by everybody at once. No secret.
            await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311

    async def _session(self) -> None:
        connection = await connect(self._address, self._what)
        lost = asyncio.Event()
        connection.close_callbacks.add(lambda *_: lost.set())
        serving = asyncio.create_task(self._serve_connection(connection))
        watching = asyncio.create_task(lost.wait())
        try:
            await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                await serving
            message = "the connection was closed"
            raise ConnectionError(message)
        finally:
            serving.cancel()
            watching.cancel()
            await asyncio.gather(serving, watching, return_exceptions=True)
            await hang_up(connection)

    async def _serve_connection(self, connection: AbstractConnection) -> None:
        with broker_errors():
            await self._serve(connection, self._up)


async def connect(address: BrokerAddress, what: str) -> AbstractConnection:
    """A connection, to be closed by `hang_up`.

    Args:
        what: who connects, for the broker's list of connections.

    Raises:
        ConfigurationError: the broker is there but refuses.
        TimeoutError, ConnectionError or another of `LOST`: it cannot be reached.
    """
    try:
        async with asyncio.timeout(PATIENCE_S):
            with broker_errors():
                return await aio_pika.connect(
                    address.url,
                    client_properties={"connection_name": f"servicex {what}"},
                    connection_class=_Connection,
                )
    except ProbableAuthenticationError as error:
        message = (
            f"the broker at {address.name} refuses the user {address.user!r}: check name and "
            "password in its URL, and whether that user may log in from here"
        )
        raise ConfigurationError(message) from error
    except InvalidFrameError as error:
        # aiormq's way to tell that the broker hung up instead of opening the virtual host.
        message = (
            f"the broker at {address.name} does not let the user {address.user!r} in: check "
            "the virtual host in its URL, and the user's permissions"
        )
        raise ConfigurationError(message) from error


class _Connection(aio_pika.Connection):
    """One that is left alone when it is collected: by then it was closed, or was never open.

    aio-pika's own begins to close itself, in whatever thread that happens, and leaves a coroutine behind.
    """

    def __del__(self) -> None:
        pass


class Alarm:
    """Tells when one of a session's channels is gone, or a consumer because its queue was deleted."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()
        self._why = ""

    async def guard(self, channel: AbstractChannel) -> None:
        """Listens to that channel."""
        channel.close_callbacks.add(lambda _, error: self.ring(f"a channel was closed: {error}"))
        inner = await channel.get_underlay_channel()
        inner.on_consumer_cancel_callbacks.add(lambda _: self.ring("a queue was deleted"))

    def ring(self, why: str) -> None:
        """The session is to end."""
        self._why = self._why or why
        self._rung.set()

    async def wait(self) -> None:
        """Raises ConnectionError when the alarm rings."""
        await self._rung.wait()
        raise ConnectionError(self._why)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Turns aiormq's way to end those who wait for it (a CancelledError out of nowhere) into an error."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        message = "the connection to the broker was closed"
        raise ConnectionError(message) from error


async def patiently(answer: Awaitable[T]) -> T:
    """The broker's answer, but not waited for for ever.

    Raises:
        TimeoutError, ConnectionError or another of `LOST`.
    """
    async with asyncio.timeout(PATIENCE_S):
        with broker_errors():
            return await answer


async def together(*works: Coroutine[object, object, object]) -> None:
    """Runs all until one ends or fails; then cancels the others, and raises what it raised."""
    tasks = [asyncio.create_task(_firmly(work)) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(works: Iterable[Coroutine[object, object, object]]) -> None:
    """Runs all at once to their ends; raises what the first of them raised."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, asyncio.CancelledError):
            message = "the connection to the broker was closed"
            raise ConnectionError(message)
        if isinstance(result, BaseException):
            raise result


async def _firmly(work: Coroutine[object, object, object]) -> None:
    with broker_errors():
        await work


async def hang_up(connection: AbstractConnection) -> None:
    """Closes a connection, whether or not the broker still answers."""
    with suppress(*LOST):
        async with asyncio.timeout(_CLOSE_S):
            with broker_errors():
                await connection.close()


def say(error: BaseException) -> str:
    """Its words, or its kind if it has none."""
    return str(error) or type(error).__name__
