"""`https://host/folder/*.root`: files that a web server lists, in a directory's index or in a plain list."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator, Sequence
from urllib.parse import unquote

from servicex_server.did.listing import Listing
from servicex_server.errors import (
    BadDatasetName,
    FinderError,
    ServicexError,
    SourceMissing,
    SourceRefused,
    UnknownDataset,
)
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.naming import show_location
from servicex_server.source import policy
from servicex_server.source.page import Page, read_page
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import split_url

_ROOT_FILE = b"root\0"
"""What files of the format begin with; a list of `root://` URLs begins much alike."""
_MAX_BYTES = 32 * 2**20
"""An index of a hundred thousand files takes so much."""
_MAX_FILES = 1_000_000


class WebFinder:
    """Finds files by a pattern (`*`, `?`, `[…]`) in the last part of a URL's path.

    Without a pattern the URL is that of an index, whose ROOT files it takes, of a list of files, or of one
    ROOT file. Sizes are not told: indices round them.
    """

    def __init__(self, allowed: SourcePolicy, limits: SourceLimits | None = None) -> None:
        self._policy = allowed
        self._limits = limits or SourceLimits(request_s=120.0)

    def check(self, did: Did) -> None:
        """Raises BadDatasetName, or SourceRefused for a host that this server does not read from."""
        url = policy.check(self._policy, _to_url(did))
        parts = split_url(url)
        folder = parts.rest.partition("?")[0].rpartition("/")[0]
        if parts.user is not None:
            message = "the URL of a data set holds no user: names of data sets are everybody's"
            raise BadDatasetName(message)
        if "#" in url or not parts.rest.startswith("/") or glob.has_magic(folder):
            message = (
                f"a data set on the web has the form {did.scheme}://host/folder/*.root, with a pattern in "
                f"the last part of the path alone, not {did.name[:200]!r}"
            )
            raise BadDatasetName(message)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        address, _, pattern = did.name.rpartition("/")
        wanted = unquote(pattern) if glob.has_magic(pattern) else None
        url = _to_url(did, did.name if wanted is None else f"{address}/")
        page = await self._read(url, did)
        if wanted is None and page.content.startswith(_ROOT_FILE):
            # Not where it was in the end: that URL may be good for a while only.
            yield [FoundFile((url,))]
            return
        found = await asyncio.to_thread(self._list, page, wanted)
        if not found:
            message = f"no file matches {did.name!r}: the page that is there lists none such"
            raise UnknownDataset(message)
        if len(found) > _MAX_FILES:
            message = f"the page lists {len(found):,} files; at most {_MAX_FILES:,} are taken"
            raise FinderError(message)
        yield [FoundFile((path,)) for path in found]

    async def _read(self, url: str, did: Did) -> Page:
        try:
            return await asyncio.to_thread(
                lambda: read_page(url, self._policy, self._limits, most_bytes=_MAX_BYTES, enough=_ROOT_FILE)
            )
        except SourceMissing as error:
            message = f"no file matches {did.name!r}: {error.message}"
            raise UnknownDataset(message) from error
        except ServicexError as error:
            raise FinderError(error.message) from error

    def _list(self, page: Page, pattern: str | None) -> list[str]:
        listing = Listing(page.url, page.media_type, page.content)
        if listing.is_html:
            return listing.find_links(pattern)
        if pattern is not None:
            message = "the folder of the pattern has no index in HTML; give the URL of a list of files"
            raise BadDatasetName(message)
        return list(dict.fromkeys(self._allow(number, path) for number, path in listing.read_list()))

    def _allow(self, number: int, url: str) -> str:
        """A line of a list, if its file may be read here: a list is no way to files of this machine."""
        if policy.scheme_of(url) not in policy.REMOTE_SCHEMES:
            shown = show_location(url)[:200]
            message = f"line {number} of the list is no http[s]://, davs:// or root[s]:// URL: {shown!r}"
            raise FinderError(message)
        try:
            return policy.check(self._policy, url)
        except SourceRefused as refusal:
            message = f"line {number} of the list: {refusal.message}"
            raise FinderError(message) from refusal


def _to_url(did: Did, name: str | None = None) -> str:
    """The URL, with what of its query is not for the server that looks it up."""
    query = "&".join(f"{key}={value}" for key, value in did.parameters)
    return f"{did.scheme}://{did.name if name is None else name}{'?' if query else ''}{query}"
