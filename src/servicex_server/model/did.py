"""Data set identifiers: `scheme://name?files=N&get=all`, and the files that a name stands for."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from enum import StrEnum

from servicex_server.errors import InvalidRequest

MAX_DID_CHARACTERS = 4_096
_MAX_LIMIT = 2**31 - 1

_SCHEME = re.compile(r"(\w{1,64})://(.*)", re.DOTALL)
_QUERY = re.compile(r"\w+=[^?&#]*(&\w+=[^?&#]*)*")
"""Nothing else is a query: a `?` may also be part of a pattern of file names."""
_PASSWORD = re.compile(r"//[^/@?]*:[^/@?]*@")
_WEB = ("http", "https")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")

GET_MODES = ("all", "available")
PARAMETERS = ("files", "get", "lookup")
"""What every data set may have behind its `?`; whatever else stands there is the finder's own."""

LISTED_ANEW = frozenset({"local"})
"""Schemes whose complete look-ups answer no later request: to list a folder takes milliseconds, and whoever
puts a file there expects it in the next result. Requests at the same time still share one."""


class Freshness(StrEnum):
    """What an earlier look-up is good for: `?lookup=…`."""

    CACHED = "cached"
    REFRESH = "refresh"
    BYPASS = "bypass"


@dataclass(frozen=True, slots=True)
class Did:
    """A data set by its name.

    Attributes:
        scheme: which finder knows it.
        name: what the finder is asked for.
        limit: so many files are wanted, the first ones by name; None for all.
        get: all files, or the `available` ones.
        parameters: of the query, as far as they are the finder's own.
        freshness: whether an earlier look-up will do; no part of the data set's name.
    """

    scheme: str
    name: str
    limit: int | None = None
    get: str = "all"
    parameters: tuple[tuple[str, str], ...] = ()
    freshness: Freshness = Freshness.CACHED

    @property
    def rest(self) -> str:
        """All but the scheme: what finders of the ecosystem are told."""
        pairs = [f"{key}={value}" for key, value in self.parameters]
        if self.get != "all":
            pairs.append(f"get={self.get}")
        if self.limit is not None:
            pairs.append(f"files={self.limit}")
        return f"{self.name}?{'&'.join(pairs)}" if pairs else self.name

    @property
    def text(self) -> str:
        """The identifier in its one spelling, by which the data set is known."""
        return f"{self.scheme}://{self.rest}"

    @property
    def whole(self) -> Did:
        """The same without a limit."""
        return replace(self, limit=None)


def parse_did(text: str, *, default_scheme: str = "rucio") -> Did:
    """The data set that a client names.

    >>> parse_did("mc:x?files=3").text
    'rucio://mc:x?files=3'
    >>> parse_did("xrootd://root://h//a?.root").name
    'root://h//a?.root'

    Raises:
        InvalidRequest: it is none; the text says what is wrong.
    """
    shown = text[:200]
    match = _SCHEME.fullmatch(text)
    scheme, rest = match.groups() if match else (default_scheme, text)
    if not rest or len(text) > MAX_DID_CHARACTERS or _UNPRINTABLE.search(text):
        message = (
            f"{shown!r} is no data set identifier: it has the form scheme://name and up to "
            f"{MAX_DID_CHARACTERS:,} printable characters"
        )
        raise InvalidRequest(message)
    # Of `https://user:secret@host/…` the scheme's slashes belong to the URL.
    if _PASSWORD.search(text if scheme.lower() in _WEB else rest):
        message = "the data set identifier holds a password; leave it out, names of data sets are everybody's"
        raise InvalidRequest(message)
    name, mark, query = rest.rpartition("?")
    if not mark or not _QUERY.fullmatch(query):
        name, query = rest, ""
    if "#" in name and query:
        # The finders' library would take the query for a part of the fragment, and lose it.
        message = f"the data set {shown!r} has a '#' in front of its query, which finders cannot tell apart"
        raise InvalidRequest(message)
    if not name:
        message = f"the data set identifier {shown!r} has no name"
        raise InvalidRequest(message)
    return _with_query(Did(scheme.lower(), name), query, shown)


def _with_query(did: Did, query: str, shown: str) -> Did:
    own: list[tuple[str, str]] = []
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key == "files":
            did = replace(did, limit=_parse_limit(value, shown))
        elif key == "get":
            did = replace(did, get=_one_of(GET_MODES, key, value, shown))
        elif key == "lookup":
            did = replace(did, freshness=Freshness(_one_of(tuple(Freshness), key, value, shown)))
        else:
            own.append((key, value))
    return replace(did, parameters=tuple(own))


def _parse_limit(value: str, shown: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 10 and 0 < int(value) <= _MAX_LIMIT):
        message = (
            f"the data set {shown!r} asks for files={value[:40]}; allowed is a number from 1 on, or no such "
            "parameter for all files"
        )
        raise InvalidRequest(message)
    return int(value)


def _one_of(allowed: tuple[str, ...], key: str, value: str, shown: str) -> str:
    if value not in allowed:
        message = f"the data set {shown!r} asks for {key}={value[:40]}; allowed: {', '.join(allowed)}"
        raise InvalidRequest(message)
    return value


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a data set, with its replicas in order of preference."""

    paths: tuple[str, ...]
    adler32: str | None = None
    size_bytes: int = 0
    n_events: int = 0

    @property
    def digest(self) -> str:
        """The same for the same set of replicas, in whatever order: by it a file is known again."""
        text = "\n".join(sorted(self.paths))
        return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
