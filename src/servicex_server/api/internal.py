"""Where DID finders and official sidecars report, on a port of its own: they bring no credentials.

The paths, bodies and answers are those of the official server (its finders' library 3.2, its sidecars).
Whoever reaches the port is believed, so it is for the machines of the deployment alone.

The finders' library takes no notice of a status, and waits as long as it has to: what is not stored when it
has its answer is lost. So an absent database is waited for; what gets lost all the same shows by the number
of files that a finder says to have sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from servicex_server.api.errors import ErrorBoundary, error_response, status_of
from servicex_server.api.middleware import BodyLimit, PlainPaths
from servicex_server.errors import Busy, InvalidRequest, NotFound, ServicexError
from servicex_server.model.did import FoundFile
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import LookupStatus
from servicex_server.model.unit import Failure, FileDone, FileFailed, Reason, Report
from servicex_server.service.context import Services
from servicex_server.service.lookup import add_found, close_lookup, fail_lookup
from servicex_server.service.sidecar import SidecarReports, note_status

logger = logging.getLogger(__name__)

T = TypeVar("T")

PREFIX = "/servicex/internal/transformation"
MAX_FILES = 50_000
"""Files of one call; the library sends 300."""
MAX_REPLICAS = 1_000
MAX_PATH_CHARACTERS = 4_096
_LARGEST = 2**63 - 1
_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0

Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATH_CHARACTERS)]


class SentFile(msgspec.Struct):
    """A file as a finder tells of it. What some finders leave out, or send as null, is not known."""

    paths: Annotated[list[Name], msgspec.Meta(min_length=1, max_length=MAX_REPLICAS)]
    adler32: str | int | None = None
    file_size: Count | float | None = 0
    file_events: Count | float | None = 0

    def to_found(self) -> FoundFile:
        # The official finders that know no checksum send the number 0.
        adler32 = None if self.adler32 is None else str(self.adler32)[:32]
        return FoundFile(tuple(self.paths), adler32, _whole(self.file_size), _whole(self.file_events))


class Summary(msgspec.Struct):
    """What a finder says at its end."""

    files: int | None = None


class FinderFailure(msgspec.Struct, rename="kebab"):
    """Why a finder gives up."""

    message: str = ""
    error_type: str = LookupStatus.INTERNAL_FAILURE.value


class FileComplete(msgspec.Struct, rename="kebab"):
    """How a file ended, as a sidecar says."""

    file_path: str
    file_id: Count
    status: str
    total_time: float = 0.0
    total_events: float = 0
    total_bytes: float = 0
    s3_object_name: str | None = None


class StatusNote(msgspec.Struct):
    """What a transformer of old has to say."""

    source: str
    info: str
    severity: str = "info"


_files = msgspec.json.Decoder(
    Annotated[list[SentFile], msgspec.Meta(max_length=MAX_FILES)] | SentFile, strict=False
)
_summary = msgspec.json.Decoder(Summary)
_failure = msgspec.json.Decoder(FinderFailure)
_file_complete = msgspec.json.Decoder(FileComplete, strict=False)
_note = msgspec.json.Decoder(StatusNote)


def build_internal_app(
    services: Services,
    reports: SidecarReports,
    *,
    max_body_bytes: int = 32 * 2**20,
    patience_s: float = 900.0,
) -> Starlette:
    """The application of the internal port.

    Args:
        reports: records what sidecars say; runs beside this.
        patience_s: how long a call waits for an absent database.
    """
    app = Starlette(
        routes=[
            Route(f"{PREFIX}/{{dataset}}/files", put_files, methods=["PUT"]),
            Route(f"{PREFIX}/{{dataset}}/complete", put_complete, methods=["PUT"]),
            Route(f"{PREFIX}/{{dataset}}/error", put_error, methods=["PUT"]),
            Route(f"{PREFIX}/{{request_id}}/file-complete", put_file_complete, methods=["PUT"]),
            Route(f"{PREFIX}/{{request_id}}/status", post_status, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
        ],
        middleware=[
            Middleware(PlainPaths),
            Middleware(BodyLimit, max_bytes=max_body_bytes),
            Middleware(ErrorBoundary),
        ],
        exception_handlers={
            ServicexError: _on_servicex_error,
            HTTPException: _on_http_exception,
            ClientDisconnect: _on_disconnect,
        },
    )
    app.state.services = services
    app.state.reports = reports
    app.state.patience_s = patience_s
    return app


async def put_files(request: Request) -> Response:
    """A finder has found these files."""
    services, dataset_id = _services(request), _dataset_id(request)
    body = await request.body()
    sent = await _decode_or_fail(request, _files, body)
    files = [file.to_found() for file in (sent if isinstance(sent, list) else [sent])]
    await _check_text(request, files)
    # The library repeats a call with the very same bytes; another batch has other times.
    batch = hashlib.blake2b(body, digest_size=32).hexdigest()
    await _patiently(request, partial(add_found, services, dataset_id, files, batch=batch))
    return JSONResponse({"dataset_id": request.path_params["dataset"]})


async def put_complete(request: Request) -> Response:
    """A finder is through."""
    services, dataset_id = _services(request), _dataset_id(request)
    summary = await _decode_or_fail(request, _summary, await request.body() or b"{}")
    close = partial(close_lookup, services, dataset_id, announced=summary.files)
    await _patiently(request, close)
    return JSONResponse(None)


async def put_error(request: Request) -> Response:
    """A finder gives up."""
    services, dataset_id = _services(request), _dataset_id(request)
    error = await _decode_or_fail(request, _failure, await request.body() or b"{}")
    kinds = (LookupStatus.DOES_NOT_EXIST, LookupStatus.BAD_NAME, LookupStatus.INTERNAL_FAILURE)
    kind = next((kind for kind in kinds if kind == error.error_type), LookupStatus.INTERNAL_FAILURE)
    await _patiently(request, partial(fail_lookup, services, dataset_id, kind, error.message))
    return JSONResponse(None)


async def put_file_complete(request: Request) -> Response:
    """A sidecar is through with a file; the answer comes once that is stored."""
    request_id = RequestId(str(request.path_params["request_id"]).lower()[:64])
    told = _decode(_file_complete, await request.body())
    reports: SidecarReports = request.app.state.reports
    await _patiently(request, partial(reports.record, _to_report(request_id, told)))
    return JSONResponse("Ok")


async def post_status(request: Request) -> Response:
    """A transformer has something to say; with the severity `fatal` its request ends."""
    request_id = RequestId(str(request.path_params["request_id"]).lower()[:64])
    note = _decode(_note, await request.body())
    note_it = partial(
        note_status, _services(request), request_id, note.source, note.info, is_fatal=_is_fatal(note)
    )
    await _patiently(request, note_it)
    return JSONResponse(None)


async def healthz(_request: Request) -> Response:
    """Alive."""
    return PlainTextResponse("ok\n")


def _is_fatal(note: StatusNote) -> bool:
    return note.severity.lower() == "fatal"


def _to_report(request_id: RequestId, told: FileComplete) -> Report:
    file_id, path = FileId(told.file_id), told.file_path[:MAX_PATH_CHARACTERS]
    if told.status != "success":
        message = "the transformer failed on this file; see its log"
        failure = Failure(Reason.INTERNAL, message)
        return FileFailed(request_id, file_id, path, failure, told.total_time)
    name = told.s3_object_name or path.replace("/", ":")
    return FileDone(
        request_id=request_id,
        file_id=file_id,
        path=path,
        store_key=f"{request_id}/{name}",
        n_events_in=_whole(told.total_events),
        n_events_out=_whole(told.total_events),
        bytes_read=0,
        size_bytes=_whole(told.total_bytes),
        seconds=told.total_time,
    )


def _whole(number: float | None) -> int:
    """A count, whatever a finder that divides has sent."""
    if number is None or not 0 <= number <= _LARGEST:
        return 0
    return int(number)


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


def _dataset_id(request: Request) -> DatasetId:
    number = str(request.path_params["dataset"])
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        message = f"no data set {number[:40]!r}"
        raise NotFound(message)
    return DatasetId(int(number))


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message = f"the body is malformed: {error}"
        raise InvalidRequest(message) from error


async def _decode_or_fail(request: Request, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """What the finder says. If that cannot be read, nothing else it says would be the whole data set."""
    try:
        return _decode(decoder, body)
    except InvalidRequest as error:
        await _give_up(request, error)
        raise


async def _check_text(request: Request, files: list[FoundFile]) -> None:
    """Refuses what no database takes."""
    if any("\0" in text for file in files for text in (*file.paths, file.adler32 or "")):
        error = InvalidRequest("a path holds a NUL character")
        await _give_up(request, error)
        raise error


async def _give_up(request: Request, error: InvalidRequest) -> None:
    message = f"the finder's answer cannot be read: {error.message}"
    fail = partial(
        fail_lookup, _services(request), _dataset_id(request), LookupStatus.INTERNAL_FAILURE, message
    )
    await _patiently(request, fail)


async def _patiently(request: Request, action: Callable[[], Awaitable[object]]) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + request.app.state.patience_s
    pause_s = _PAUSE_S
    while True:
        try:
            await action()
            return
        except Busy as error:
            if loop.time() + pause_s > end_s:
                logger.warning("callback.lost: %s: %s", request.url.path, error)
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


async def _on_servicex_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServicexError)  # noqa: S101  registered for this class only
    # As newer official servers answer about a data set that they do not know.
    is_finder = "dataset" in request.path_params
    status = 422 if is_finder and isinstance(error, NotFound) else status_of(error)
    logger.warning("callback.refused: %s: %s", request.url.path, error)
    return error_response(status, error.message)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    return error_response(error.status_code, str(error.detail), error.headers)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    # Nobody reads this answer.
    logger.debug("caller of %s left before its body was read", request.url.path, exc_info=error)
    return error_response(400, "the request ended early")
