"""A request, its results and their objects go away."""

from __future__ import annotations

from servicex_server.db import dataset as datasets
from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db.session import Transaction
from servicex_server.db.transition import lock_request
from servicex_server.errors import Conflict
from servicex_server.model.ids import RequestId
from servicex_server.model.request import Principal
from servicex_server.service.context import Services
from servicex_server.service.effect import announce
from servicex_server.service.read import get_request, missing
from servicex_server.service.remove import remove_doomed

_ROWS_AT_ONCE = 2_000
"""Rows removed in one transaction, so that other changes do not wait for a large request to go."""


async def delete(services: Services, principal: Principal, ref: str) -> None:
    """Hides the request at once; the sweeper removes rows and objects, also after a restart.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
        Conflict: it has not ended yet; cancel it first.
    """
    request = await get_request(services, principal, ref)
    was_hidden = False

    def hide(transaction: Transaction) -> None:
        nonlocal was_hidden
        locked = lock_request(transaction, request.id)
        if locked is None:
            if was_hidden:
                return  # by a first run of this change, whose commit went unheard
            raise missing(ref)
        if not locked.life.state.is_terminal:
            message = f"request {request.id} is {locked.life.state}; cancel it before you delete it"
            raise Conflict(message)
        requests.mark_deleted(transaction, locked.number, services.clock())
        was_hidden = True

    await services.db.write(hide)
    services.backlog.purge_asked.set()
    await announce(services, request.id)


async def purge(services: Services) -> int:
    """Removes every hidden request for good, objects first; returns how many.

    Objects that it shares with others stay until the last request goes.
    """
    gone = 0
    for request_id, number in await services.db.read(requests.list_deleted):
        await _purge_one(services, request_id, number)
        gone += 1
    await remove_doomed(services)
    return gone


async def _purge_one(services: Services, request_id: RequestId, number: int) -> None:
    await services.store.delete_prefix(f"{request_id}/")
    while await services.db.write(results.delete_some, number, _ROWS_AT_ONCE, services.clock()):
        pass
    while await services.db.write(datasets.delete_some_files, number, _ROWS_AT_ONCE):
        pass
    await services.db.write(requests.delete_request, number)
