"""The process of one slot: takes units one after the other from a pipe, answers each with a report.

Both directions carry frames of `queue.frame`. The first answer is empty when the executor is ready, else
the text why it is not. Each further one is a byte that tells whether the child goes on, then the report.
"""

from __future__ import annotations

import importlib
import logging
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from servicex_server.errors import ConfigurationError
from servicex_server.model.unit import (
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    Report,
    Unit,
)
from servicex_server.model.worker import ExecutorSpec
from servicex_server.queue.codec import decode_unit, encode_report
from servicex_server.queue.frame import FrameError, pack_frame, unpack_length
from servicex_server.queue.outcome import ended_early

logger = logging.getLogger(__name__)

Executor = Callable[[Unit], Report]

STAYS, LEAVES = b"+", b"-"

_MAX_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What every child of a worker is told."""

    executor: ExecutorSpec
    memory_limit_bytes: int | None


def serve_units(connection: socket.socket, settings: ChildSettings) -> int:
    """Works until the other end of `connection` is closed; returns the exit code."""
    try:
        executor = load_executor(settings.executor)
    except BaseException as error:  # whatever it is, the parent must hear it
        logger.exception("child.unfit: the executor cannot start")
        connection.sendall(pack_frame(f"{type(error).__name__}: {error}".encode()))
        return 1
    connection.sendall(pack_frame(b""))
    while (data := _receive(connection)) is not None:
        unit = decode_unit(data)
        report, is_exhausted = _attempt(executor, unit, settings.memory_limit_bytes)
        connection.sendall(_pack(unit, report, LEAVES if is_exhausted else STAYS))
        if is_exhausted:
            return 0  # what is left of the heap is not worth keeping; the parent starts a fresh child
    return 0


def load_executor(spec: ExecutorSpec) -> Executor:
    """The function that the spec's factory returns.

    Raises:
        ConfigurationError: there is no such factory, or what it returns cannot be called.
    """
    executor: object = load_factory(spec.factory)(**spec.kwargs)
    if not callable(executor):
        message = f"the executor factory {spec.factory!r} returned {type(executor).__name__}, not a function"
        raise ConfigurationError(message)
    return executor


def load_factory(name: str) -> Callable[..., object]:
    """The callable named 'module:callable'."""
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        message = f"cannot import the executor factory {name!r} (allowed: 'module:callable'): {error}"
        raise ConfigurationError(message) from error
    if not callable(factory):
        message = f"the executor factory {name!r} is not callable"
        raise ConfigurationError(message)
    return factory  # type: ignore[no-any-return]  # checked above


def _attempt(executor: Executor, unit: Unit, memory_limit_bytes: int | None) -> tuple[Report, bool]:
    """The executor's report, or one about its failure; and whether memory ran out."""
    started = time.monotonic()
    try:
        report = executor(unit)
        _require_report(unit, report)
        return report, False
    except MemoryError:
        logger.warning("unit.exhausted: request %s ran out of memory", unit.request_id)
        message = "the machine is out of memory"
        if memory_limit_bytes is not None:
            message = f"needs more memory than the allowed {memory_limit_bytes} bytes"
        return ended_early(unit, Reason.RESOURCES, message, time.monotonic() - started), True
    except BaseException as error:  # panics of compiled packages too: one file must not end the slot
        logger.exception("unit.defect: request %s", unit.request_id)
        message = f"{type(error).__name__}: {error}"[:_MAX_MESSAGE_CHARACTERS]
        return ended_early(unit, Reason.INTERNAL, message, time.monotonic() - started), False


def _require_report(unit: Unit, report: object) -> None:
    """Raises TypeError unless `report` is about `unit`: a mix-up would credit the wrong file."""
    if isinstance(unit, PreflightUnit):
        fits = isinstance(report, PreflightDone) and report.request_id == unit.request_id
    else:
        fits = isinstance(report, FileDone | FileFailed) and (
            (report.request_id, report.file_id, report.entry_start)
            == (unit.request_id, unit.file_id, unit.entry_start)
        )
    if not fits:
        message = f"the executor returned {type(report).__name__}, which is no report of its unit"
        raise TypeError(message)


def _pack(unit: Unit, report: Report, stays: bytes) -> bytes:
    try:
        return pack_frame(stays + encode_report(report))
    except FrameError as error:
        substitute = ended_early(unit, Reason.INTERNAL, f"the report: {error}", 0.0)
        return pack_frame(stays + encode_report(substitute))


def _receive(connection: socket.socket) -> bytes | None:
    prefix = _receive_exactly(connection, 4)
    return _receive_exactly(connection, unpack_length(prefix)) if prefix is not None else None


def _receive_exactly(connection: socket.socket, n_bytes: int) -> bytes | None:
    received = bytearray()
    while len(received) < n_bytes:
        piece = connection.recv(min(n_bytes - len(received), 1 << 20))
        if not piece:
            return None
        received += piece
    return bytes(received)


def flush_streams() -> None:
    """For use before `os._exit`, which flushes nothing."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
