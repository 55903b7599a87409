"""Another server changed a request: the one that leads acts on it, and every one wakes its own waiters."""

from __future__ import annotations

import logging

from servicex_server.db import unit as units
from servicex_server.errors import ServicexError
from servicex_server.model.ids import RequestId
from servicex_server.queue.protocol import Hints
from servicex_server.service.context import Services
from servicex_server.service.dispatch import add

logger = logging.getLogger(__name__)


async def run_hints(services: Services, hints: Hints) -> None:
    """Follows the hints of other servers; every server runs it, whether it leads or not. Until canceled."""
    async for request_id in hints.hints():
        try:
            await on_hint(services, request_id)
        except ServicexError as error:
            # The leader looks at every request now and then without being told to.
            logger.warning("a hint at request %s is dropped: %s", request_id, error)
        except Exception:
            logger.exception("a hint at request %s is dropped", request_id)


async def on_hint(services: Services, request_id: RequestId) -> None:
    """The request changed somewhere: its row says what is to be done.

    Raises:
        DatabaseUnavailable: the row cannot be read now; waiters are woken all the same.
    """
    services.notifier.ring(request_id)
    if services.leadership.is_held:
        await _act_on_row(services, request_id)


async def _act_on_row(services: Services, request_id: RequestId) -> None:
    question = await services.db.read(units.find_question, request_id)
    if question is None:
        services.backlog.drop(request_id)
        services.backlog.purge_asked.set()
    elif question.state.is_terminal:
        services.backlog.drop(request_id)
        await services.queue.cancel(request_id)
    else:
        add(services, question)
