"""Which keys and prefixes a store takes: the same everywhere, so that a folder can hold them as they are."""

from __future__ import annotations

import re

MAX_KEY_BYTES = 1024
MAX_SEGMENT_BYTES = 255
_USUAL = re.compile(r"[0-9a-z-]{1,100}(/[0-9a-z-]{1,100}){1,5}")
"""What the server's own keys look like: there are many."""
RULE = (
    "a key is one or more segments joined by '/', each of 1 to 255 bytes, 1,024 in all, "
    "without control characters and backslashes, and none of them '.' or '..'"
)


def check_key(key: str) -> str:
    """Returns `key` if a store takes it.

    Keys are made by the server, so a wrong one is a defect, not somebody's input.

    Raises:
        ValueError: the key breaks the rule.
    """
    if not is_key(key):
        message = f"the store takes no key {key[:100]!r}: {RULE}"
        raise ValueError(message)
    return key


def is_key(key: str) -> bool:
    """Whether a store takes it."""
    if _USUAL.fullmatch(key):
        return True
    return _is_encodable(key) and len(key.encode()) <= MAX_KEY_BYTES and all(map(_is_segment, key.split("/")))


def check_prefix(prefix: str) -> str:
    """Returns `prefix` if it is a key followed by '/'.

    Raises:
        ValueError: it is not.
    """
    if not prefix.endswith("/"):
        message = f"the store takes no prefix {prefix[:100]!r}: it has to end with '/'"
        raise ValueError(message)
    check_key(prefix[:-1])
    return prefix


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_segment(segment: str) -> bool:
    return (
        0 < len(segment.encode()) <= MAX_SEGMENT_BYTES
        and segment not in {".", ".."}
        and not any(character < " " or character in "\x7f\\" for character in segment)
    )
