"""Whether a replica holds what the catalogue says."""

from __future__ import annotations

import zlib

from servicex_server.errors import SourceCorrupt
from servicex_server.source.protocol import ByteSource

_PIECE_BYTES = 8 * 1024 * 1024


def parse_adler32(text: str | None) -> int | None:
    """The checksum that a catalogue spells out in hexadecimal; None for what is none.

    >>> parse_adler32("0A1b2c3d") == 0x0A1B2C3D, parse_adler32("xxx")
    (True, None)
    """
    digits = (text or "").strip().lower()
    if not 0 < len(digits) <= 8 or set(digits) - set("0123456789abcdef") or not int(digits, 16):
        return None
    return int(digits, 16)


def verify_adler32(source: ByteSource, expected: int) -> None:
    """Reads all of the source, a piece at a time.

    Raises:
        SourceCorrupt: it holds other bytes.
        SourceUnavailable: it cannot be read.
    """
    value = 1
    for start in range(0, source.size_bytes, _PIECE_BYTES):
        (piece,) = source.read_ranges([(start, min(start + _PIECE_BYTES, source.size_bytes))])
        value = zlib.adler32(piece, value)
    if value != expected:
        message = f"{source.location}: its adler32 is {value:08x}, the catalogue says {expected:08x}"
        raise SourceCorrupt(message)
