"""A reader for the few DER structures that the package cryptography does not know."""

from __future__ import annotations

from typing import NamedTuple


class Element(NamedTuple):
    """One value: its tag, class and form bits included, and its content."""

    tag: int
    content: bytes


def parse_elements(data: bytes) -> list[Element]:
    """The values that stand one after the other in `data`.

    >>> parse_elements(bytes.fromhex("020105" "0c026869"))
    [Element(tag=2, content=b'\\x05'), Element(tag=12, content=b'hi')]

    Raises:
        ValueError: the bytes are no DER, or end too early.
    """
    elements = []
    position = 0
    while position < len(data):
        tag = data[position]
        length, start = _parse_length(data, position + 1)
        if tag & 0x1F == 0x1F or start + length > len(data):
            message = "not DER: a value is cut off, or its tag has several bytes"
            raise ValueError(message)
        elements.append(Element(tag, data[start : start + length]))
        position = start + length
    return elements


def _parse_length(data: bytes, position: int) -> tuple[int, int]:
    """The length that stands there, and the place after it."""
    first = data[position] if position < len(data) else 0x80
    if first < 0x80:
        return first, position + 1
    n_bytes = first & 0x7F
    if not 1 <= n_bytes <= 4 or position + 1 + n_bytes > len(data):
        message = "not DER: a length is missing, indefinite or huge"
        raise ValueError(message)
    return int.from_bytes(data[position + 1 : position + 1 + n_bytes]), position + 1 + n_bytes
