"""The answer to a request for several ranges: pieces of the file with a header each. Pure.

https://www.rfc-editor.org/rfc/rfc9110#section-14.6
"""

from __future__ import annotations

import re
from email.message import Message

CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_HEADER = re.compile(
    rb"^content-range:[ \t]*bytes[ \t]+(\d+)-(\d+)/(\d+)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_MOST_HEADER_BYTES = 4096


def boundary_of(content_type: str) -> bytes | None:
    """What the pieces are told apart by; None if the answer is not in pieces.

    >>> boundary_of('multipart/byteranges; boundary="x y"')
    b'x y'
    """
    header = Message()
    header["content-type"] = content_type
    if header.get_content_type() != "multipart/byteranges":
        return None
    boundary = header.get_param("boundary")
    return boundary.encode() if isinstance(boundary, str) and boundary else None


def parse_parts(body: bytes, boundary: bytes, size_bytes: int) -> dict[tuple[int, int], bytes]:
    """The pieces by their place in the file, which has `size_bytes`.

    Raises:
        ValueError: the answer is not what it should be.
    """
    found: dict[tuple[int, int], bytes] = {}
    position = body.find(b"--" + boundary)
    while position >= 0:
        position += len(boundary) + 2
        if body.startswith(b"--", position):
            return found
        end = body.find(b"\r\n\r\n", position, position + _MOST_HEADER_BYTES)
        match = _HEADER.search(body, position, max(position, end))
        if match is None:
            message = "a piece of the answer does not say which bytes it holds"
            raise ValueError(message)
        start, last, total = map(int, match.groups())
        content = end + 4
        stop = content + last + 1 - start
        if total != size_bytes or not start <= last or stop > len(body):
            message = "a piece of the answer does not hold the bytes that it says"
            raise ValueError(message)
        found[start, last + 1] = body[content:stop]
        position = body.find(b"--" + boundary, stop)
    message = "the answer has no end"
    raise ValueError(message)
