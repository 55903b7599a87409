"""A look-up that somebody else asked for: the files go to their internal routes, as official finders do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import httpx

from servicex_server.did.limit import iter_found
from servicex_server.did.protocol import Finder, kind_of
from servicex_server.errors import BadDatasetName, FinderError, ServicexError
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.naming import show_location

logger = logging.getLogger(__name__)

_AT_ONCE = 300
"""Files of one call: what the official server is used to."""
_ATTEMPTS = 6
_MAX_FILES = 10_000_000
_PAUSE_S = 0.5
_TIMEOUT = httpx.Timeout(connect=10.0, read=None, write=60.0, pool=None)
"""The server answers when it has stored what it heard, which takes as long as its database is away."""


async def answer(finder: Finder, did: Did, dataset_url: str) -> None:
    """Looks the data set up, and tells files, and end or failure.

    Args:
        dataset_url: without `/files` and so on.

    Raises:
        httpx.HTTPError: the server could not be told, after several attempts.
    """
    begun_s = time.monotonic()
    n_files = size_bytes = n_events = 0
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
        try:
            async with aclosing(_iter_batches(finder, did)) as batches:
                async for batch in batches:
                    # An empty one is told, too: it is a sign of life.
                    for start in range(0, max(1, len(batch)), _AT_ONCE):
                        part = batch[start : start + _AT_ONCE]
                        await _put(client, f"{dataset_url}/files", [_entry(file) for file in part])
                    n_files += len(batch)
                    size_bytes += sum(file.size_bytes for file in batch)
                    n_events += sum(file.n_events for file in batch)
        except ServicexError as error:
            failure = {
                "elapsed-time": int(time.monotonic() - begun_s),
                "message": error.message,
                "error-type": kind_of(_as_failure(error)).value,
            }
            await _put(client, f"{dataset_url}/error", failure)
            logger.info("lookup.failed: %s: %s", did.text, failure["message"])
            return
        summary = {
            "files": n_files,
            "files-skipped": 0,
            "total-events": n_events,
            "total-bytes": size_bytes,
            "elapsed-time": int(time.monotonic() - begun_s),
        }
        await _put(client, f"{dataset_url}/complete", summary)
    logger.info("lookup.done: %s, %d files", did.text, n_files)


async def _iter_batches(finder: Finder, did: Did) -> AsyncGenerator[Sequence[FoundFile], None]:
    """What is found; whatever goes wrong inside the finder is one of our errors, and so reaches its user."""
    try:
        finder.check(did)
        async for batch in iter_found(finder, did, most_files=_MAX_FILES):
            yield batch
    except ServicexError:
        raise
    except Exception as error:
        logger.exception("the look-up of %s failed", did.text)
        message = f"the finder failed ({type(error).__name__}); see its log"
        raise FinderError(message) from error


async def refuse(dataset_url: str, error: ServicexError) -> None:
    """Tells that a look-up cannot even be begun."""
    async with httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False) as client:
        failure = {"elapsed-time": 0, "message": error.message, "error-type": "bad_name"}
        await _put(client, f"{dataset_url}/error", failure)


def _as_failure(error: ServicexError) -> FinderError:
    return error if isinstance(error, FinderError) else BadDatasetName(error.message)


def _entry(file: FoundFile) -> dict[str, object]:
    return {
        "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        "paths": list(file.paths),
        "adler32": file.adler32,
        "file_size": file.size_bytes,
        "file_events": file.n_events,
    }


async def _put(client: httpx.AsyncClient, url: str, body: Sequence[object] | Mapping[str, object]) -> None:
    """Says it until it is heard: a repetition with the same bytes counts once."""
    content = httpx.Request("PUT", url, json=body).content
    pause_s = _PAUSE_S
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            told = await client.put(url, content=content, headers={"Content-Type": "application/json"})
            if told.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                if told.is_error:
                    logger.warning("the server does not take %s: %s", show_location(url), told.text[:500])
                return
            told.raise_for_status()
        except httpx.HTTPError as error:
            logger.warning("attempt %d to tell %s failed: %s", attempt, show_location(url), error)
            if attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(pause_s)
        pause_s *= 2
