"""Streams a range of an object, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from servicex_server.errors import NotFound, StoreRefused, StoreUnavailable
from servicex_server.store.backends.s3.fault import is_absent, is_outside, is_replaced, to_fault
from servicex_server.store.backends.s3.patience import S3Patience, pauses
from servicex_server.store.backends.s3.place import S3Place

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult

PIECE_BYTES = 1024 * 1024
_GATHERED_BYTES = 256 * 1024
"""Frames of the network are gathered to so much, and overshoot by one frame: mostly one piece each."""
_LARGEST_STOP = 2**53


@dataclass(slots=True)
class _Place:
    """How far reading has come, and which version of the object it is."""

    start: int
    stop: int
    etag: str | None = None


async def read_range(
    bucket: Bucket, key: str, start: int, stop: int, *, place: S3Place, patience: S3Patience
) -> AsyncGenerator[bytes, None]:
    """Bytes `[start, stop)` of the object in pieces, fetched no faster than they are taken.

    A slow reader may lose its connection, or the store restart: reading then goes on where it was, if
    the object is still the same.

    Raises:
        NotFound: there is no such object (any more).
        StoreUnavailable: nothing moved for as long as patience lasts.
    """
    at = _Place(start, stop)
    waits = pauses()
    give_up_s = time.monotonic() + patience.read_s
    while True:
        try:
            result = await obstore.get_async(bucket, key, options=_options(at))
            at.etag = result.meta["e_tag"]
            at.stop = min(at.stop, result.range[1])
            async for piece in _pieces(result):
                yield piece
                at.start += len(piece)
                waits, give_up_s = pauses(), time.monotonic() + patience.read_s
            if at.start >= at.stop:
                return
            fault = StoreUnavailable(f"the result store {place} ended an answer early")
        except (BaseError, OSError) as error:
            if is_outside(error):
                return
            if is_absent(error) or is_replaced(error):
                message = f"no object {key!r} in the store" + (" any more" if at.etag else "")
                raise NotFound(message) from error
            fault = _to_unavailable(error, place)
        pause_s = next(waits)
        if isinstance(fault, StoreRefused) or time.monotonic() + pause_s > give_up_s:
            raise fault
        await asyncio.sleep(pause_s)


def _options(at: _Place) -> GetOptions:
    options: GetOptions = {"range": {"offset": at.start} if at.stop > _LARGEST_STOP else (at.start, at.stop)}
    if at.etag is not None:
        options["if_match"] = at.etag
    return options


async def _pieces(result: GetResult) -> AsyncGenerator[bytes, None]:
    async for gathered in result.stream(min_chunk_size=_GATHERED_BYTES):
        for piece in _split(memoryview(gathered)):
            yield piece


def _split(view: memoryview) -> Iterator[bytes]:
    for offset in range(0, len(view), PIECE_BYTES):
        yield bytes(view[offset : offset + PIECE_BYTES])


def _to_unavailable(error: Exception, place: S3Place) -> StoreUnavailable:
    fault = to_fault(error, place)
    if not isinstance(fault, StoreUnavailable):
        fault = StoreUnavailable(fault.message)
    fault.__cause__ = error
    return fault
