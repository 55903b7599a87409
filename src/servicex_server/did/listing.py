"""What a web page lists: the files of a directory's index, or those of a plain list.

Pure: bytes in, URLs out. Whether these may be read is decided elsewhere.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from servicex_server.errors import BadDatasetName, FinderError

_LIST_TYPES = ("", "text/plain", "text/uri-list", "application/octet-stream")
"""Media types of lists; servers that do not know a file's ending give the last one, or none."""
_HTML = re.compile(rb"\s*<(!doctype html|html|head|body|pre|title|h1|ul|table)\b", re.IGNORECASE)
_SLASHES = re.compile("/+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_PIECE_CHARACTERS = 64 * 1024
_MAX_CHARACTERS = 4_096
_MAX_S = 20.0
"""For the parser, which looks at an endless tag again with each piece."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page as it came.

    Attributes:
        url: where it was found; relative links start there.
        media_type: in lower case, without parameters; empty if none was told.
    """

    url: str
    media_type: str
    content: bytes

    @property
    def is_html(self) -> bool:
        """Whether it is a page with links. Some servers call an index a plain text, or nothing."""
        if self.media_type in ("text/html", "application/xhtml+xml"):
            return True
        return self.media_type in _LIST_TYPES and _HTML.match(self.content) is not None

    def find_links(self, pattern: str | None) -> list[str]:
        """URLs that a page with links leads to, each once, in its order.

        Only files on the same host and below the page's own folder count, so that a link to elsewhere
        brings nothing in; those with a query are left out, as such change how an index is sorted.

        Args:
            pattern: of the last part of the path, of files in the folder itself; None for all `*.root` there
                and deeper.

        Raises:
            FinderError: the page is not read in bounded time.
        """
        home = urlsplit(self.url)
        folder = _folder_of(home)
        found: dict[str, None] = {}
        for target in _iter_targets(self.content.decode(errors="replace")):
            url = _join(self.url, target)
            if url is None:
                continue
            parts = urlsplit(url)
            if _origin(parts) != _origin(home) or parts.query:
                continue
            below = _below(folder, parts.path)
            if below is not None and _fits(below, pattern):
                found[url] = None
        return list(found)

    def read_list(self) -> list[tuple[int, str]]:
        """Number and URL of each line that names a file.

        A line is a URL, or a path on the host of the list: from its root if it begins with a slash, else from
        the list's folder. Empty lines, and what follows a `#` at a line's beginning, say nothing.

        Raises:
            BadDatasetName: it is no list.
        """
        if self.media_type not in _LIST_TYPES:
            raise self._not_a_listing()
        try:
            lines = self.content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise self._not_a_listing() from error
        found: list[tuple[int, str]] = []
        for number, line in enumerate(lines, start=1):
            entry = line.strip()
            if not entry or entry.startswith("#"):
                continue
            url = None if _UNPRINTABLE.search(entry) else _join(self.url, entry)
            if url is None:
                raise self._not_a_listing()
            found.append((number, url))
        return found

    def _not_a_listing(self) -> BadDatasetName:
        kind = f" (it is {self.media_type[:100]})" if self.media_type else ""
        message = (
            f"what is there{kind} is no listing: allowed are a directory's index in HTML, a text with one "
            "URL or path in each line, and a ROOT file"
        )
        return BadDatasetName(message)


class _Links(HTMLParser):
    """Collects the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def _iter_targets(text: str) -> Iterator[str]:
    links = _Links()
    end = time.monotonic() + _MAX_S
    for start in range(0, len(text), _PIECE_CHARACTERS):
        try:
            links.feed(text[start : start + _PIECE_CHARACTERS])
        except AssertionError as error:  # the parser's answer to some declarations that are none
            message = f"the page is no HTML that can be read: {error}"
            raise FinderError(message) from error
        if time.monotonic() > end:
            message = f"the page takes longer than {_MAX_S:g} s to read; it is hardly a listing"
            raise FinderError(message)
        yield from links.targets
        links.targets.clear()


def _join(base: str, target: str) -> str | None:
    """The absolute URL without its fragment; None if it is none."""
    try:
        url = urljoin(base, target.strip()).partition("#")[0]
        _ = urlsplit(url).port
    except ValueError:
        return None
    return None if len(url) > _MAX_CHARACTERS or _UNPRINTABLE.search(url) else url


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _folder_of(parts: SplitResult) -> str:
    return _plain(parts.path).rpartition("/")[0] + "/"


def _plain(path: str) -> str:
    """The path by which a server finds the file: decoded, and with one slash where several are the same."""
    return _SLASHES.sub("/", unquote(path)) or "/"


def _below(folder: str, path: str) -> str | None:
    """The rest of the path, if it is the one of a file below the folder."""
    plain = _plain(path)
    if ".." in plain.split("/") or not plain.startswith(folder) or plain.endswith("/"):
        return None
    return plain[len(folder) :]


def _fits(below: str, pattern: str | None) -> bool:
    if pattern is None:
        return below.endswith(".root")
    return "/" not in below and fnmatch.fnmatchcase(below, pattern)
