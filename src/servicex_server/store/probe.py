"""Whether a store does all that servers and workers ask of it."""

from __future__ import annotations

import asyncio
import uuid

from servicex_server.errors import StoreRefused, StoreUnavailable
from servicex_server.store.protocol import Store

WITHIN_S = 10.0


async def probe(store: Store, *, within_s: float = WITHIN_S) -> None:
    """Returns if a tiny object could be listed, put, found and deleted again.

    Raises:
        StoreRefused: the store answers, but does not do that.
        StoreUnavailable: it cannot be reached, or not in time.
        ResourceExhausted: it is full.
    """
    # No id of a request, so that no sweep of another server takes it for results.
    prefix = f"probe-{uuid.uuid4()}/"
    try:
        async with asyncio.timeout(within_s):
            # First what can be given up; the blocking calls are for a store that has answered.
            _ = [key async for key in store.iter_keys(prefix)]
            await asyncio.to_thread(store.put_note, f"{prefix}note", b"probe")
            is_there = await asyncio.to_thread(store.has, f"{prefix}note")
            await store.delete(f"{prefix}note")
    except TimeoutError as error:
        message = f"the result store does not answer within {within_s:g} s"
        raise StoreUnavailable(message) from error
    except OSError as error:
        message = f"the result store's folder cannot be used: {error.strerror}"
        raise StoreRefused(message) from error
    if not is_there:
        message = "the result store does not have what was just put there"
        raise StoreRefused(message)
