"""Whether a store does all that servers and workers ask of it."""

from __future__ import annotations

import asyncio

from servicex_server.errors import StoreRefused, StoreUnavailable
from servicex_server.store.protocol import Store

WITHIN_S = 10.0
_KEY = "probe/note"
"""One for all, so that those whom the store lets put but not delete leave no more than one. It has no id of a
request: no sweep takes it for results."""


async def probe(store: Store, *, within_s: float = WITHIN_S) -> None:
    """Returns if a tiny object could be listed, put, looked for and deleted again.

    Raises:
        StoreRefused: the store answers, but does not do that.
        StoreUnavailable: it cannot be reached, or not in time.
        ResourceExhausted: it is full.
    """
    try:
        async with asyncio.timeout(within_s):
            # First what can be given up; the blocking calls are for a store that has answered.
            _ = [key async for key in store.iter_keys("probe/")]
            await asyncio.to_thread(store.put_note, _KEY, b"probe")
            # Its answer does not matter: another server that starts may have deleted it.
            await asyncio.to_thread(store.has, _KEY)
            await store.delete(_KEY)
    except TimeoutError as error:
        message = f"the result store does not answer within {within_s:g} s"
        raise StoreUnavailable(message) from error
    except OSError as error:
        message = f"the result store's folder cannot be used: {error.strerror}"
        raise StoreRefused(message) from error
