"""The record of a request as one JSON document that is never whole in memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.responses import Response, StreamingResponse

from servicex_server.model.provenance import FileRecord, HeadRecord
from servicex_server.model.request import Principal, TransformRequest
from servicex_server.service import provenance, read
from servicex_server.service.context import Services

_PIECE_BYTES = 64 * 1024


async def stream_provenance(
    services: Services, principal: Principal, ref: str, *, app_version: str
) -> Response:
    """The answer with the record.

    Raises:
        NotFound, NotAllowed: as `read.get_request`.
    """
    transform = await read.get_request(services, principal, ref)
    head = await provenance.begin(services, transform, app_version)
    name = f"{transform.id}.provenance.json"
    return StreamingResponse(
        _write(services, transform, head),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _write(
    services: Services, transform: TransformRequest, head: HeadRecord
) -> AsyncGenerator[bytes, None]:
    piece = bytearray(msgspec.json.encode(head)[:-1] + b',"files":[')
    is_first = True
    async with aclosing(provenance.trace_files(services, transform)) as records:
        async for record in records:
            if isinstance(record, FileRecord):
                piece += (b"" if is_first else b",") + msgspec.json.encode(record)
                is_first = False
            else:
                piece += b'],"totals":' + msgspec.json.encode(record) + b"}\n"
            if len(piece) >= _PIECE_BYTES:
                yield bytes(piece)
                piece.clear()
    yield bytes(piece)
