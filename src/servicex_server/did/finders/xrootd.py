"""`xrootd://root://host//path/*.root`: files that an XRootD server lists."""

from __future__ import annotations

import asyncio
import fnmatch
import glob
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from servicex_server.errors import BadDatasetName, FinderError, ServicexError, UnknownDataset
from servicex_server.grid.export import export
from servicex_server.model.did import Did, FoundFile
from servicex_server.source import address, policy
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import split_url
from servicex_server.source.xrootd import load_client, with_methods

_PORT = 1094
_NOT_FOUND = 3011
"""kXR_NotFound of the protocol."""
_MAX_FOLDERS = 100_000


class XrootdFinder:
    """Finds files by a pattern (`*`, `?`, `[…]`) in any part of the path."""

    def __init__(self, allowed: SourcePolicy, limits: SourceLimits | None = None) -> None:
        self._policy = allowed
        self._limits = limits or SourceLimits()

    def check(self, did: Did) -> None:
        """Raises BadDatasetName, or SourceRefused for a host that this server does not read from."""
        if policy.scheme_of(did.name) != "root" or not PurePosixPath(_path(did)).name:
            message = f"an xrootd data set has the form root://host//path/*.root, not {did.name[:200]!r}"
            raise BadDatasetName(message)
        policy.check(self._policy, did.name)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        parts = split_url(did.name)
        port = parts.port or _PORT
        try:
            await asyncio.to_thread(address.resolve, parts.host, port, self._policy.allowed_private_hosts)
            client = await asyncio.to_thread(load_client, self._limits)
            await asyncio.to_thread(export, self._policy.grid)
            url = with_methods(replace(parts, rest="//"), self._policy)
        except ServicexError as error:
            raise FinderError(error.message) from error
        server = f"root://{did.name.split('://', 1)[1].split('/', 1)[0]}"
        search = _Search(
            client, client.FileSystem(url), server, max(1, int(self._limits.connect_s + self._limits.idle_s))
        )
        path = PurePosixPath("/" + _path(did).lstrip("/"))
        n_found = 0
        async for batch in search.walk(PurePosixPath("/"), path.parts[1:]):
            n_found += len(batch)
            yield batch
        if not n_found:
            message = f"no file matches {did.name!r}"
            raise UnknownDataset(message)


def _path(did: Did) -> str:
    return did.name.split("://", 1)[-1].partition("/")[2]


class _Search:
    """Lists folders of one server."""

    def __init__(self, client: Any, files: Any, server: str, timeout_s: int) -> None:
        self._client = client
        self._files = files
        self._server = server
        self._timeout_s = timeout_s
        self._n_listed = 0

    async def walk(self, folder: PurePosixPath, parts: Sequence[str]) -> AsyncIterator[list[FoundFile]]:
        """What matches the parts, from `folder` on; files of one folder at a time."""
        fixed = 0
        while fixed < len(parts) - 1 and not glob.has_magic(parts[fixed]):
            fixed += 1
        folder = folder.joinpath(*parts[:fixed])
        pattern, rest = parts[fixed], parts[fixed + 1 :]
        if not rest and not glob.has_magic(pattern):
            yield await asyncio.to_thread(self._stat, folder / pattern)
            return
        entries = await asyncio.to_thread(self._list, folder)
        matching = [entry for entry in entries if fnmatch.fnmatchcase(entry.name, pattern)]
        if not rest:
            found = [
                self._to_found(folder / entry.name, entry.statinfo)
                for entry in matching
                if not self._is_folder(entry.statinfo)
            ]
            if found:
                yield found
            return
        for entry in matching:
            if self._is_folder(entry.statinfo):
                async for batch in self.walk(folder / entry.name, rest):
                    yield batch

    def _list(self, folder: PurePosixPath) -> list[Any]:
        self._n_listed += 1
        if self._n_listed > _MAX_FOLDERS:
            message = f"the pattern matches more than {_MAX_FOLDERS:,} folders"
            raise FinderError(message)
        flags = self._client.flags.DirListFlags.STAT
        status, listing = self._files.dirlist(str(folder), flags, timeout=self._timeout_s)
        if status.ok:
            # The same name may come from several servers behind one redirector.
            return [each for each in {entry.name: entry for entry in listing}.values() if each.statinfo]
        if status.errno == _NOT_FOUND:
            return []
        raise self._broken(folder, status)

    def _stat(self, path: PurePosixPath) -> list[FoundFile]:
        status, info = self._files.stat(str(path), timeout=self._timeout_s)
        if status.ok:
            return [] if self._is_folder(info) else [self._to_found(path, info)]
        if status.errno == _NOT_FOUND:
            return []
        raise self._broken(path, status)

    def _broken(self, path: PurePosixPath, status: Any) -> FinderError:
        reason = str(status.message).strip() or f"error {status.code}"
        return FinderError(f"cannot list {self._server}/{path}: {reason}")

    def _is_folder(self, info: Any) -> bool:
        return bool(info.flags & self._client.flags.StatInfoFlags.IS_DIR)

    def _to_found(self, path: PurePosixPath, info: Any) -> FoundFile:
        return FoundFile((f"{self._server}/{path}",), size_bytes=int(info.size))
