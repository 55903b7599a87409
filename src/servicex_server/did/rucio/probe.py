"""Whether a Rucio server answers, and knows us."""

from __future__ import annotations

import asyncio

import httpx

from servicex_server.did.rucio.login import RucioAccess, RucioLogin
from servicex_server.did.rucio.reply import request
from servicex_server.errors import FinderError

WITHIN_S = 10.0
_PAUSE_S = 0.1


async def probe_rucio(access: RucioAccess, *, within_s: float = WITHIN_S) -> None:
    """Returns if the server answers and gives us a token, or we have one to show.

    Raises:
        FinderError: it does not, or not in time; says what the administrator has to look after.
    """
    try:
        async with asyncio.timeout(within_s):
            await _ping(access)
            await RucioLogin(access, pause_s=_PAUSE_S).token()
    except TimeoutError as error:
        message = f"Rucio ({access.host}) does not answer within {within_s:g} s"
        raise FinderError(message) from error


async def _ping(access: RucioAccess) -> None:
    context = await asyncio.to_thread(access.tls)
    async with (
        httpx.AsyncClient(verify=context) as client,
        request(client, "GET", f"{access.host}/ping", headers={}, pause_s=_PAUSE_S) as answer,
    ):
        if not answer.is_success:
            message = f"{access.host}/ping answers {answer.status_code}: is that a Rucio server?"
            raise FinderError(message)
