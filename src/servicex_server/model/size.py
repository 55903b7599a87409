"""Sizes as people write them."""

from __future__ import annotations

import math
import re
from decimal import Decimal

_UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")
PATTERN = r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtT][iI]?)?[bB]$|^[0-9]+$"
ALLOWED = (
    "allowed are bytes, or a number with one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB, such as 50GB or 20 GiB"
)
_MOST_CHARACTERS = 40


def parse_size(text: str) -> int:
    """Bytes. Fractions of a byte are rounded up: nothing but 0 is 0, which may stand for "no bound".

    >>> parse_size("50GB"), parse_size("20 GiB"), parse_size("1.5 kb"), parse_size("1000000")
    (50000000000, 21474836480, 1500, 1000000)

    Raises:
        ValueError: it is no size; says what is allowed.
    """
    text = text.strip()
    match = _SIZE.fullmatch(text) if len(text) <= _MOST_CHARACTERS else None
    unit = _UNITS.get(match[2].lower()) if match is not None else None
    if match is not None and unit is not None:
        return math.ceil(Decimal(match[1]) * unit)
    try:
        return int(text)
    except ValueError:
        message = f"{text[:_MOST_CHARACTERS]!r} is no size; {ALLOWED}"
        raise ValueError(message) from None
