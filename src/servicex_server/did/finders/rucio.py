"""`rucio://scope:name`: files of data sets, containers and single files of a Rucio catalogue.

Names come from one answer that is read while Rucio sends it; their replicas are asked for in pages, several
at a time. So files go on as they are found, and the memory does not grow with the replicas of a container.
"""

from __future__ import annotations

import asyncio
import fnmatch
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import httpx

from servicex_server.did.parameter import refuse_others
from servicex_server.did.rucio.catalogue import LogicalFile, RucioCatalogue
from servicex_server.did.rucio.login import RucioAccess, RucioLogin
from servicex_server.errors import BadDatasetName, FinderError
from servicex_server.model.did import Did, FoundFile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}:[^\s:]{1,500}")
_FIRST_PAGE = 50
_PAGE = 500
"""Files of one question for replicas: a second or so of Rucio's time."""
_AT_ONCE = 3
_MOST_REPLICAS = 20
_PAUSE_S = 0.5
_TIMEOUT = httpx.Timeout(120.0, connect=20.0)
"""Rucio may think about a large container for a while before the first line."""
_SHOWN = 3
_READ_AS = {"davs": "https", "dav": "http"}


@dataclass(frozen=True, slots=True)
class ReplicaChoice:
    """Which replicas are taken, and in which order.

    Attributes:
        sites: RSEs that come first, `CERN-PROD_*` say, best first; the others follow.
        schemes: of URLs, the better ones first; others are left out.
        site: where the readers are, as Rucio knows it.
        position: latitude and longitude of the readers, in degrees; None to leave their place to Rucio,
            which guesses it from the address that asks.
        logical_prefix: if given, files are told by this and `scope:name`, and no replicas are asked for.
    """

    sites: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ("root", "davs", "https")
    site: str | None = None
    position: tuple[float, float] | None = None
    logical_prefix: str | None = None

    def options(self) -> dict[str, object]:
        """What Rucio is told about it."""
        options: dict[str, object] = {"schemes": list(self.schemes)}
        location: dict[str, object] = {}
        if self.site is not None:
            location["site"] = self.site
        if self.position is not None:
            location |= {"latitude": self.position[0], "longitude": self.position[1]}
            options["sort"] = "geoip"
        if location:
            options["client_location"] = location
        return options

    def order(self, pfns: Mapping[str, Any]) -> tuple[str, ...]:
        """URLs, best first: preferred sites, then close ones as Rucio ranks them, then by scheme.

        >>> ReplicaChoice(sites=("B*",)).order({"root://a//f": {"rse": "A", "priority": 1},
        ...     "davs://b/f": {"rse": "B1", "priority": 2}, "root://b//f": {"rse": "B1", "priority": 3}})
        ('root://b//f', 'https://b/f', 'root://a//f')
        """
        priorities: dict[str, int] = {}
        kept: list[tuple[str, str, int]] = []
        for pfn, replica in pfns.items():
            scheme = pfn.partition("://")[0].lower()
            # A part of an archive is no file of its own that could be read.
            if scheme in self.schemes and isinstance(replica, dict) and not replica.get("client_extract"):
                rse, rank = str(replica.get("rse")), replica.get("priority")
                priority = rank if isinstance(rank, int) else len(pfns)
                priorities[rse] = min(priority, priorities.get(rse, priority))
                kept.append((pfn, rse, self.schemes.index(scheme)))
        kept.sort(key=lambda each: (self._site_rank(each[1]), priorities[each[1]], each[1], each[2]))
        return tuple(dict.fromkeys(_to_readable(pfn) for pfn, _, _ in kept))[:_MOST_REPLICAS]

    def _site_rank(self, rse: str) -> int:
        matching = (n for n, site in enumerate(self.sites) if fnmatch.fnmatchcase(rse, site))
        return next(matching, len(self.sites))


class RucioFinder:
    """Finds what a Rucio server knows.

    With `get=all` a file without a replica that can be read now fails the look-up; with `get=available` it is
    left out.

    Args:
        pause_s: first pause before a call is repeated.
        transport: for tests.
    """

    def __init__(
        self,
        access: RucioAccess,
        choice: ReplicaChoice | None = None,
        *,
        pause_s: float = _PAUSE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._access = access
        self._choice = choice or ReplicaChoice()
        self._pause_s = pause_s
        self._transport = transport
        self._login = RucioLogin(access, pause_s=pause_s, transport=transport)

    def check(self, did: Did) -> None:
        """Raises BadDatasetName unless it is a scope and a name."""
        refuse_others(did)
        if not _NAME.fullmatch(did.name):
            message = (
                f"a Rucio data set has the form scope:name, such as mc20_13TeV:name, not {did.name[:200]!r}"
            )
            raise BadDatasetName(message)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        scope, _, name = did.name.partition(":")
        context = await asyncio.to_thread(self._access.tls)
        async with httpx.AsyncClient(verify=context, transport=self._transport, timeout=_TIMEOUT) as client:
            catalogue = RucioCatalogue(client, self._access.host, self._login, pause_s=self._pause_s)
            # Containers may be written with a slash behind them, as in the days before Rucio.
            files = catalogue.list_files(scope, name.rstrip("/") or name)
            async with aclosing(files), aclosing(_to_pages(files)) as pages:
                if self._choice.logical_prefix is not None:
                    prefix = self._choice.logical_prefix
                    async for page in pages:
                        yield [self._to_found(file, (f"{prefix}{file.text}",)) for file in page]
                    return
                async with aclosing(self._with_replicas(catalogue, pages, did)) as batches:
                    async for batch in batches:
                        yield batch

    async def _with_replicas(
        self, catalogue: RucioCatalogue, pages: AsyncIterator[list[LogicalFile]], did: Did
    ) -> AsyncGenerator[list[FoundFile], None]:
        """Pages with their replicas, while the next ones are asked for."""
        asked: deque[asyncio.Task[list[FoundFile]]] = deque()
        try:
            async for page in pages:
                asked.append(asyncio.create_task(self._locate(catalogue, page, did)))
                while len(asked) >= _AT_ONCE or (asked and asked[0].done()):
                    yield await asked.popleft()
            while asked:
                yield await asked.popleft()
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    async def _locate(self, catalogue: RucioCatalogue, page: list[LogicalFile], did: Did) -> list[FoundFile]:
        replicas = await catalogue.list_replicas(page, self._choice.options())
        found: list[FoundFile] = []
        missing: list[str] = []
        for file in page:
            pfns = replicas.get((file.scope, file.name), {}).get("pfns")
            paths = self._choice.order(pfns) if isinstance(pfns, dict) else ()
            if paths:
                found.append(self._to_found(file, paths))
            else:
                missing.append(file.text)
        if missing and did.get == "all":
            shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
            message = (
                f"{len(missing):,} or more of its files have no replica that can be read now by "
                f"{', '.join(self._choice.schemes)}: {shown}; ask with ?get=available for the others"
            )
            raise FinderError(message)
        return found

    def _to_found(self, file: LogicalFile, paths: tuple[str, ...]) -> FoundFile:
        return FoundFile(paths, file.adler32, file.size_bytes, file.n_events)


async def _to_pages(files: AsyncIterator[LogicalFile]) -> AsyncGenerator[list[LogicalFile], None]:
    """A small page first, so that requests begin soon."""
    page: list[LogicalFile] = []
    size = _FIRST_PAGE
    async for file in files:
        page.append(file)
        if len(page) >= size:
            yield page
            page, size = [], _PAGE
    if page:
        yield page


def _to_readable(pfn: str) -> str:
    scheme, _, rest = pfn.partition("://")
    scheme = scheme.lower()
    return f"{_READ_AS.get(scheme, scheme)}://{rest}"
