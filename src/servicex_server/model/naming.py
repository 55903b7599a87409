"""Names that clients see: of result objects, and of locations in messages."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable

from servicex_server.model.kinds import ResultFormat

MAX_NAME_BYTES = 200
"""Clients use an object's name as a file name, often with a suffix of their own; file systems end at 255."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)([^?#]*)(.*)", re.DOTALL)
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f\x80-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def show_location(location: str) -> str:
    """A location as it may appear in messages and logs: without user, password and query.

    >>> show_location("https://me:secret@host/x.root?token=1")
    'https://host/x.root?…'
    """
    match = _URL.fullmatch(location)
    if match is None:
        return location
    scheme, authority, path, rest = match.groups()
    return f"{scheme}{authority.rpartition('@')[2]}{path}{'?…' if rest else ''}"


def object_name(path: str, result_format: ResultFormat) -> str:
    """Name of the result of the input file `path`: the path with `/` as `:` and the format's extension.

    >>> object_name("root://host//store/x.root", ResultFormat.PARQUET)
    'root:::host::store:x.root.parquet'
    >>> object_name("/data/x.root", ResultFormat.ROOT_FILE)
    ':data:x.root'
    >>> object_name("/data/x.root", ResultFormat.HDF5)
    ':data:x.root.h5'
    """
    match = _URL.fullmatch(path)
    bare = show_location(path).removesuffix("?…") if match and match.group(4) else show_location(path)
    name = _UNPRINTABLE.sub("_", bare.replace("/", ":")).replace("\\", "_")
    if not name or name.startswith((".", "-", "~")):
        name = f"_{name}"
    extension = result_format.extension
    # A ROOT file keeps its name, also as `x.root.1`: the official server leaves it so.
    if extension != ".root" or not re.search(r"\.root(\.\d+)?$", name):
        name += extension
    return _shorten(name)


def unique_object_name(path: str, result_format: ResultFormat, taken: Collection[str]) -> str:
    """`object_name`, with a number before the extension if another file of the request has that name."""
    name = object_name(path, result_format)
    if name not in taken:
        return name
    stem, dot, extension = name.rpartition(".")
    for number in range(2, len(taken) + 3):
        candidate = _shorten(f"{stem}-{number}{dot}{extension}")
        if candidate not in taken:
            return candidate
    message = "more names are needed than exist"
    raise AssertionError(message)


def number_name(name: str, number: int) -> str:
    """The name with a number before its extension.

    >>> number_name("root:::host:x.root.parquet", 7)
    'root:::host:x.root-7.parquet'
    """
    stem, dot, extension = name.rpartition(".")
    return _shorten(f"{stem}-{number}{dot}{extension}")


def unique_object_names(paths: Iterable[str], result_format: ResultFormat) -> list[str]:
    """`object_name` of each path in order, numbered from 2 where an earlier one has the same.

    >>> unique_object_names(["https://h/x?a=1", "https://h/x?a=2"], ResultFormat.PARQUET)
    ['https:::h:x.parquet', 'https:::h:x-2.parquet']
    """
    names: list[str] = []
    taken: set[str] = set()
    numbers: dict[str, int] = {}
    for path in paths:
        candidate = name = object_name(path, result_format)
        while candidate in taken:
            numbers[name] = numbers.get(name, 1) + 1
            stem, dot, extension = name.rpartition(".")
            candidate = _shorten(f"{stem}-{numbers[name]}{dot}{extension}")
        taken.add(candidate)
        names.append(candidate)
    return names


def _shorten(name: str) -> str:
    encoded = name.encode()
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha1(encoded, usedforsecurity=False).hexdigest()
    tail = encoded[-(MAX_NAME_BYTES - len(digest) - 1) :].decode(errors="ignore")
    return f"_{digest}{tail}"
