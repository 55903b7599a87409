"""Units and reports as bytes, for every transport that crosses a process boundary.

An envelope is the pair (kind, body) in msgpack; kinds are words, so that a log of bytes can be read.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from servicex_server.model.unit import (
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Report,
    TransformUnit,
    Unit,
)
from servicex_server.queue.frame import Decoder, FrameError, decode

T = TypeVar("T")


class _Envelope(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    kind: str
    body: msgspec.Raw


_encoder = msgspec.msgpack.Encoder()
_envelopes = msgspec.msgpack.Decoder(_Envelope)
_UNITS: dict[str, Decoder[Unit]] = {
    "transform": msgspec.msgpack.Decoder(TransformUnit),
    "preflight": msgspec.msgpack.Decoder(PreflightUnit),
}
_REPORTS: dict[str, Decoder[Report]] = {
    "done": msgspec.msgpack.Decoder(FileDone),
    "failed": msgspec.msgpack.Decoder(FileFailed),
    "preflight": msgspec.msgpack.Decoder(PreflightDone),
}


def encode_unit(unit: Unit) -> bytes:
    """The unit as bytes; raises FrameError for what the wire cannot carry (text that is no Unicode)."""
    return _encode("transform" if isinstance(unit, TransformUnit) else "preflight", unit)


def decode_unit(data: bytes) -> Unit:
    """The unit in `data`.

    Raises:
        FrameError: the bytes are not a unit.
    """
    envelope = decode(_envelopes, data)
    return decode(_decoder(_UNITS, envelope.kind), bytes(envelope.body))


def encode_report(report: Report) -> bytes:
    """The report as bytes; raises FrameError for what the wire cannot carry (text that is no Unicode)."""
    match report:
        case FileDone():
            return _encode("done", report)
        case FileFailed():
            return _encode("failed", report)
        case PreflightDone():
            return _encode("preflight", report)


def decode_report(data: bytes) -> Report:
    """The report in `data`.

    Raises:
        FrameError: the bytes are not a report.
    """
    envelope = decode(_envelopes, data)
    return decode(_decoder(_REPORTS, envelope.kind), bytes(envelope.body))


def _encode(kind: str, body: Unit | Report) -> bytes:
    try:
        return _encoder.encode(_Envelope(kind, msgspec.Raw(_encoder.encode(body))))
    except (UnicodeEncodeError, OverflowError, msgspec.MsgspecError) as error:
        message = f"the {kind} message cannot be encoded: {error}"
        raise FrameError(message) from error


def _decoder(decoders: dict[str, T], kind: str) -> T:
    decoder = decoders.get(kind)
    if decoder is None:
        message = f"unknown kind {kind[:40]!r}; expected one of {', '.join(decoders)}"
        raise FrameError(message)
    return decoder
