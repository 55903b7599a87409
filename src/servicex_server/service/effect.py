"""What a stored change of a request asks of the world outside the database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Concatenate, ParamSpec

from servicex_server.db.session import Transaction
from servicex_server.model.ids import RequestId
from servicex_server.model.lifecycle import (
    AskFinder,
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

P = ParamSpec("P")
Change = Callable[Concatenate[Transaction, P], tuple[Effect, ...] | None]


def keep_effects(change: Change[P]) -> Change[P]:
    """The change, fit to be run again after a commit whose word was lost.

    The second run finds nothing left to change and returns no effects, but those of the first are still to be
    carried out. That is harmless also if the first run was not committed and somebody else did the same.
    """
    earlier: tuple[Effect, ...] = ()

    def run(transaction: Transaction, /, *args: P.args, **kwargs: P.kwargs) -> tuple[Effect, ...] | None:
        nonlocal earlier
        effects = change(transaction, *args, **kwargs)
        if effects is None:
            return None
        earlier = effects or earlier
        return earlier

    return run


async def act(services: Services, request_id: RequestId, effects: Iterable[Effect]) -> None:
    """Carries the effects out; call after the commit. All of it can be lost in a crash and is then redone.

    A server that does not lead tells the one that does.
    """
    is_leader = services.leadership.is_held
    has_changed = False
    for effect in effects:
        logger.debug("%s for request %s because of %s", type(effect).__name__, request_id, effect.cause)
        # What concerns the work alone is no news to those who do not lead.
        has_changed |= isinstance(effect, NotifyWaiters) or not is_leader
        if isinstance(effect, EnterState):
            REQUEST_TRANSITIONS.labels(effect.state.value).inc()
        if isinstance(effect, SetFinishTime):
            _log_end(request_id, effect)
        if is_leader:
            await _work_off(services, request_id, effect)
    if has_changed:
        await announce(services, request_id)


def _log_end(request_id: RequestId, effect: SetFinishTime) -> None:
    life = effect.life
    if life is None:
        logger.info("request.ended: %s after %s", request_id, effect.cause)
        return
    counts = life.counts
    logger.info(
        "request.ended: %s %s after %s, %d of %d files delivered, %d failed",
        *(request_id, life.state.value, effect.cause, counts.completed, counts.files, counts.failed),
    )


async def announce(services: Services, request_id: RequestId) -> None:
    """Wakes those who wait for the request, here and on the other servers."""
    services.notifier.ring(request_id)
    if services.hints is not None:
        await services.hints.send(request_id)


async def _work_off(services: Services, request_id: RequestId, effect: Effect) -> None:
    match effect:
        case AskFinder():
            services.backlog.lookups_asked.set()
        case StartPreflight():
            services.backlog.add_preflight(request_id)
        case DispatchFiles():
            services.backlog.add_files(request_id)
        case ForgetFailures() | SetFinishTime():
            services.backlog.drop(request_id)
        case DropWork():
            await services.queue.cancel(request_id)
        case _:
            pass  # done in the transaction
