"""What a stored change of a request asks of the world outside the database."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from servicex_server.model.ids import RequestId
from servicex_server.model.lifecycle import (
    DispatchFiles,
    DropWork,
    Effect,
    EnterState,
    ForgetFailures,
    NotifyWaiters,
    SetFinishTime,
    StartPreflight,
)
from servicex_server.service.context import Services
from servicex_server.telemetry.metrics import REQUEST_TRANSITIONS

logger = logging.getLogger(__name__)


async def act(services: Services, request_id: RequestId, effects: Iterable[Effect]) -> None:
    """Carries the effects out; call after the commit. All of it can be lost in a crash and is then redone."""
    for effect in effects:
        logger.debug("%s for request %s because of %s", type(effect).__name__, request_id, effect.cause)
        match effect:
            case StartPreflight():
                services.backlog.add_preflight(request_id)
            case DispatchFiles():
                services.backlog.add_files(request_id)
            case ForgetFailures() | SetFinishTime():
                services.backlog.drop(request_id)
                if isinstance(effect, SetFinishTime):
                    logger.info("request.ended: %s after %s", request_id, effect.cause)
            case DropWork():
                await services.queue.cancel(request_id)
            case EnterState():
                REQUEST_TRANSITIONS.labels(effect.state.value).inc()
            case NotifyWaiters():
                services.notifier.ring(request_id)
            case _:
                pass  # done in the transaction
