"""One call over HTTP, tried again while that may help, and its answer line by line within bounds."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from servicex_server.errors import BadDatasetName, FinderError, UnknownDataset

logger = logging.getLogger(__name__)

ATTEMPTS = 5
LONGEST_PAUSE_S = 30.0
_LINE_BYTES = 4 * 2**20
_ERROR_BYTES = 4_096
_TRANSIENT = frozenset({429, 500, 502, 503, 504})


class Interrupted(FinderError):
    """Rucio stopped in the middle of an answer."""


@asynccontextmanager
async def request(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str],
    content: bytes | None = None,
    pause_s: float,
) -> AsyncIterator[httpx.Response]:
    """The head of an answer, its body still to be read. All our calls only read, so they may be repeated.

    Raises:
        FinderError: no answer after several attempts; to ask once more is not worth it.
    """
    answer = await _begin(
        client, client.build_request(method, url, headers=headers, content=content), pause_s
    )
    try:
        yield answer
    finally:
        await answer.aclose()


async def _begin(client: httpx.AsyncClient, asked: httpx.Request, pause_s: float) -> httpx.Response:
    reason = ""
    for attempt in range(ATTEMPTS):
        wished_s = 0.0
        try:
            # Redirects are not followed: they would take the token along.
            answer = await client.send(asked, stream=True, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            if not isinstance(error, httpx.TransportError):
                break
        else:
            if answer.status_code not in _TRANSIENT:
                return answer
            reason = await _read_reason(answer)
            wished_s = _retry_after_s(answer)
            await answer.aclose()
        if attempt + 1 < ATTEMPTS:
            logger.info("rucio.retry: %s %s: %s", asked.method, asked.url.path, reason)
            await pause(attempt, pause_s, wished_s)
    message = f"Rucio ({asked.url.host}) does not answer after {attempt + 1} attempts: {reason}"
    raise FinderError(message)


async def pause(attempt: int, pause_s: float, wished_s: float = 0.0) -> None:
    """Waits longer with each attempt, in part at random: not all come again at the same time."""
    longest_s = min(LONGEST_PAUSE_S, pause_s * 2**attempt)
    await asyncio.sleep(min(LONGEST_PAUSE_S, max(wished_s, random.uniform(0.5, 1.0) * longest_s)))  # noqa: S311


async def check_reply(answer: httpx.Response) -> None:
    """Returns if the call did what was asked.

    Raises:
        UnknownDataset: Rucio knows no such name.
        BadDatasetName: Rucio takes it for none.
        FinderError: anything else, in Rucio's words.
    """
    if answer.is_success:
        return
    kind = answer.headers.get("ExceptionClass", "")
    reason = await _read_reason(answer)
    if answer.status_code == httpx.codes.NOT_FOUND and kind in {"DataIdentifierNotFound", "ScopeNotFound"}:
        raise UnknownDataset(reason)
    if answer.status_code == httpx.codes.BAD_REQUEST and kind in {
        "InvalidObject",
        "ValueError",
        "InputValidationError",
    }:
        raise BadDatasetName(reason)
    if answer.is_redirect:
        message = f"Rucio ({answer.url.host}) sends elsewhere; is `rucio_host` right?"
        raise FinderError(message)
    message = f"Rucio ({answer.url.host}) refuses {answer.url.path}: {reason}"
    raise FinderError(message)


async def iter_lines(answer: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of the answer, one a line, as they arrive.

    Raises:
        Interrupted: it ended in the middle.
        FinderError: it is something else.
    """
    rest = b""
    try:
        async for part in answer.aiter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _parse(line)
            if len(rest) > _LINE_BYTES:
                message = f"Rucio answers with a line of more than {_LINE_BYTES:,} bytes"
                raise FinderError(message)
    except httpx.HTTPError as error:
        message = f"Rucio's answer broke off: {str(error) or type(error).__name__}"
        raise Interrupted(message) from error
    if rest.strip():
        try:
            last = _parse(rest)
        except FinderError as error:
            message = "Rucio's answer broke off in the middle of a line"
            raise Interrupted(message) from error
        yield last


def _parse(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        message = "Rucio answered no JSON; is `rucio_host` right?"
        raise FinderError(message) from error
    if not isinstance(entry, dict):
        message = "Rucio answered a line that is no JSON object"
        raise FinderError(message)
    return entry


async def _read_reason(answer: httpx.Response) -> str:
    """Rucio's own words, bounded; never those of a page of HTML."""
    if "/auth/" in answer.url.path:
        return f"HTTP {answer.status_code}"  # what it says may repeat a name and a password
    said = answer.headers.get("ExceptionMessage", "")
    if not said:
        content = b""
        try:
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > _ERROR_BYTES:
                    break
            document = json.loads(content)
            said = str(document.get("ExceptionMessage", "")) if isinstance(document, dict) else ""
        except (httpx.HTTPError, ValueError, RecursionError):
            said = ""
    words = "".join(letter for letter in said if letter.isprintable())[:500]
    return words or f"HTTP {answer.status_code}"


def _retry_after_s(answer: httpx.Response) -> float:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else 0.0
