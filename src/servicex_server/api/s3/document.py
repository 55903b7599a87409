"""S3's XML documents."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from xml.sax.saxutils import escape

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

Element = tuple[str, "str | list[Element]"]
"""Name, and text or children."""


def render(name: str, content: str | list[Element], *, namespace: str | None = NAMESPACE) -> bytes:
    """The document with the root element `name`."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return "".join(
        ['<?xml version="1.0" encoding="UTF-8"?>\n', f"<{name}{attribute}>", *_fill(content), f"</{name}>"]
    ).encode()


def format_time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000Z"


def _fill(content: str | list[Element]) -> Iterator[str]:
    if isinstance(content, str):
        yield escape(content, _ESCAPES)
        return
    for name, inner in content:
        yield f"<{name}>"
        yield from _fill(inner)
        yield f"</{name}>"


# Control characters have no place in XML 1.0; S3 writes them as references too, and offers
# `encoding-type=url` to clients that want to read such keys.
_ESCAPES = {'"': "&quot;", **{chr(code): f"&#x{code:x};" for code in range(1, 32)}}
