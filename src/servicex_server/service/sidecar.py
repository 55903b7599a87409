"""What official sidecars and transformers of old say becomes outcomes of files, many at a time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from servicex_server.db import request as requests
from servicex_server.db.transition import transition
from servicex_server.errors import Busy, NotFound
from servicex_server.model.ids import RequestId
from servicex_server.model.lifecycle import Fail
from servicex_server.model.unit import Failure, FileDone, FileFailed, Reason, Report
from servicex_server.service.context import Services
from servicex_server.service.effect import act, keep_effects
from servicex_server.service.report import record_batch

logger = logging.getLogger(__name__)

_WAITING = 1_000
"""Reports that wait to be recorded; whoever brings one more waits."""
_NOTE_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class _Told:
    """A report, and who waits for it to be stored."""

    report: Report
    is_stored: asyncio.Event = field(default_factory=asyncio.Event)

    async def ack(self) -> None:
        self.is_stored.set()


class SidecarReports:
    """Gathers reports that come one by one, and records them in batches."""

    def __init__(self, services: Services, *, patience_s: float = 60.0) -> None:
        self._services = services
        self._patience_s = patience_s
        self._waiting: asyncio.Queue[_Told] = asyncio.Queue(_WAITING)

    async def record(self, report: Report) -> None:
        """Returns once the outcome is stored; a repeated one changes nothing.

        Raises:
            NotFound: there is no such request.
            Busy: it is not stored yet; it may be later.
        """
        number = await self._services.db.read(requests.find_number, report.request_id)
        if number is None:
            raise _unknown(report.request_id)
        if isinstance(report, FileDone):
            report = await self._check_object(report)
        told = _Told(report)
        try:
            async with asyncio.timeout(self._patience_s):
                await self._waiting.put(told)
                await told.is_stored.wait()
        except TimeoutError:
            message = "the outcome could not be stored in time; try again later"
            raise Busy(message) from None

    async def run(self) -> None:
        """Records what comes, until canceled."""
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._services.limits.report_batch and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            await record_batch(self._services, batch)

    async def _check_object(self, report: FileDone) -> Report:
        """A result without an object is a failure for good: sidecars say so also after a failed upload."""
        try:
            stored = await self._services.store.head(report.store_key)
        except ValueError:  # a key that no store takes
            stored = None
        if stored is not None:
            return report
        return FileFailed(
            request_id=report.request_id,
            file_id=report.file_id,
            path=report.path,
            failure=Failure(
                Reason.INTERNAL, "the transformer reported a result, but it is not in the result store"
            ),
            seconds=report.seconds,
        )


async def note_status(
    services: Services, request_id: RequestId, source: str, info: str, *, is_fatal: bool
) -> None:
    """Logs what a transformer says; if it is fatal, the request ends with it.

    Raises:
        NotFound: there is no such request.
    """
    text = info[:_NOTE_CHARACTERS].replace("\0", "�").encode(errors="replace").decode()
    logger.info("transformer.said: of request %s: %r", request_id, text)
    if await services.db.read(requests.find_number, request_id) is None:
        raise _unknown(request_id)
    if is_fatal:
        event = Fail(f"fatal report of {source[:100]!r}", text)
        effects = await services.db.write(keep_effects(transition), request_id, event, services.clock())
        await act(services, request_id, effects or ())


def _unknown(request_id: RequestId) -> NotFound:
    return NotFound(f"Request not found: {request_id}")
