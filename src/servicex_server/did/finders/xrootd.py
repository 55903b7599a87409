"""`xrootd://root://host//path/*.root`: files that an XRootD server lists."""

from __future__ import annotations

import asyncio
import ctypes
import fnmatch
import glob
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from servicex_server.did.parameter import refuse_others
from servicex_server.errors import (
    BadDatasetName,
    FinderError,
    ServicexError,
    SourceRefused,
    UnknownDataset,
)
from servicex_server.grid.export import export
from servicex_server.model.did import Did, FoundFile
from servicex_server.source import address, policy
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.protocol import SourceLimits
from servicex_server.source.url import Url, split_url
from servicex_server.source.xrootd import load_client, with_methods

_PORT = 1094
_NOT_FOUND = 3011
"""kXR_NotFound of the protocol."""
_REDIRECT = 401
"""The client's code for a redirect that it was told not to follow; the message holds the URL."""
_REDIRECTED = re.compile(r"roots?://\S+", re.IGNORECASE)
_MAX_FOLDERS = 100_000


class XrootdFinder:
    """Finds files by a pattern (`*`, `?`, `[…]`) in any part of the path."""

    def __init__(self, allowed: SourcePolicy, limits: SourceLimits | None = None) -> None:
        self._policy = allowed
        self._limits = limits or SourceLimits()

    def check(self, did: Did) -> None:
        """Raises BadDatasetName, or SourceRefused for a host that this server does not read from."""
        refuse_others(did)
        if policy.scheme_of(did.name) != "root" or not PurePosixPath(_path(did)).name:
            message = f"an xrootd data set has the form root://host//path/*.root, not {did.name[:200]!r}"
            raise BadDatasetName(message)
        policy.check(self._policy, did.name)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.check(did)
        server = f"root://{did.name.split('://', 1)[1].split('/', 1)[0]}"
        try:
            client = await asyncio.to_thread(load_client, self._limits)
            await asyncio.to_thread(export, self._policy.grid)
            files = await asyncio.to_thread(_connect, client, split_url(did.name), self._policy)
        except ServicexError as error:
            raise FinderError(error.message) from error
        search = _Search(client, files, server, self._policy, self._limits)
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


def _connect(client: Any, parts: Url, allowed: SourcePolicy, door: str | None = None) -> Any:
    """The files of a server, whose host is checked; it may send us on, but the client does not follow.

    Args:
        door: the host that we asked first, if it was not this one.

    Raises:
        SourceRefused, SourceUnavailable: it may not be read from, or is not known.
    """
    address.resolve(parts.host, parts.port or _PORT, allowed.allowed_private_hosts)
    files = client.FileSystem(with_methods(replace(parts, rest="//"), allowed, door))
    is_set = files.set_property("FollowRedirects", "false")
    # The client gives `True` away without counting it; below Python 3.12 the process ends when none is left.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(is_set))
    if not is_set:
        message = "the XRootD client would follow redirects to any host"
        raise SourceRefused(message)
    return files


class _Search:
    """Lists folders of one server, and of those that it sends us on to."""

    def __init__(
        self, client: Any, files: Any, server: str, allowed: SourcePolicy, limits: SourceLimits
    ) -> None:
        self._client = client
        self._files = files
        self._server = server
        self._door = split_url(f"{server}//").host
        self._policy = allowed
        self._n_redirects = limits.n_redirects
        self._timeout_s = max(1, int(limits.connect_s + limits.idle_s))
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
        status, listing = self._ask(
            folder, lambda files: files.dirlist(str(folder), flags, timeout=self._timeout_s)
        )
        if status.ok:
            # The same name may come from several servers behind one redirector.
            return [each for each in {entry.name: entry for entry in listing}.values() if each.statinfo]
        if status.errno == _NOT_FOUND:
            return []
        raise self._broken(folder, status)

    def _stat(self, path: PurePosixPath) -> list[FoundFile]:
        status, info = self._ask(path, lambda files: files.stat(str(path), timeout=self._timeout_s))
        if status.ok:
            return [] if self._is_folder(info) else [self._to_found(path, info)]
        if status.errno == _NOT_FOUND:
            return []
        raise self._broken(path, status)

    def _ask(self, path: PurePosixPath, ask: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Any]:
        """What a server answers, be it the first or one that it sends us on to, each checked before."""
        files = self._files
        for _hop in range(self._n_redirects + 1):
            status, answer = ask(files)
            if status.code != _REDIRECT:
                return status, answer
            match = _REDIRECTED.search(str(status.message))
            try:
                parts = split_url(match[0] if match else "")
                files = _connect(self._client, parts, self._policy, self._door)
            except ServicexError as error:
                message = f"cannot list {self._server}/{path}: redirected: {error.message}"
                raise FinderError(message) from error
        message = f"cannot list {self._server}/{path}: more than {self._n_redirects} redirects"
        raise FinderError(message)

    def _broken(self, path: PurePosixPath, status: Any) -> FinderError:
        reason = str(status.message).strip() or f"error {status.code}"
        return FinderError(f"cannot list {self._server}/{path}: {reason}")

    def _is_folder(self, info: Any) -> bool:
        return bool(info.flags & self._client.flags.StatInfoFlags.IS_DIR)

    def _to_found(self, path: PurePosixPath, info: Any) -> FoundFile:
        return FoundFile((f"{self._server}/{path}",), size_bytes=int(info.size))
