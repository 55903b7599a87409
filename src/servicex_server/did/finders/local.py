"""`local://folder/*.root`: files below the folders that this server reads from."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from servicex_server.did.parameter import refuse_others
from servicex_server.errors import FinderError, SourceRefused, UnknownDataset
from servicex_server.model.did import Did, FoundFile
from servicex_server.source import policy
from servicex_server.source.policy import SourcePolicy

_AT_ONCE = 500


class LocalFinder:
    """Finds files by a pattern: `*`, `?`, `[…]`, and `**` for folders of any depth; of a folder its `*.root`.

    Paths that are not absolute are looked for below each root. What a symbolic link leads to has to lie below
    a root as well; other files are left out.
    """

    def __init__(self, allowed: SourcePolicy) -> None:
        self._policy = allowed

    def check(self, did: Did) -> None:
        """Raises BadDatasetName for a parameter, SourceRefused for a place that is not below a root."""
        refuse_others(did)
        self._split(did)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        folder, pattern = await asyncio.to_thread(self._split, did)
        files = self._iter_files(folder, pattern)
        n_found = 0
        while batch := await asyncio.to_thread(lambda: list(islice(files, _AT_ONCE))):
            n_found += len(batch)
            yield batch
        if not n_found:
            message = f"no file matches {did.name!r}"
            raise UnknownDataset(message)

    def _split(self, did: Did) -> tuple[Path, str]:
        """The folder that is searched, and the pattern in it."""
        parts = PurePosixPath(did.name).parts
        n_fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
        fixed = str(PurePosixPath(*parts[:n_fixed]))
        place = Path(policy.check(self._policy, fixed))
        if n_fixed == len(parts):
            return (place, "*.root") if place.is_dir() else (place.parent, glob.escape(place.name))
        return place, str(PurePosixPath(*parts[n_fixed:]))

    def _iter_files(self, folder: Path, pattern: str) -> Iterator[FoundFile]:
        try:
            for path in folder.glob(pattern):
                found = self._to_found(path)
                if found is not None:
                    yield found
        except (OSError, ValueError, NotImplementedError) as error:
            message = f"cannot search {folder} for {pattern!r}: {error}"
            raise FinderError(message) from error

    def _to_found(self, path: Path) -> FoundFile | None:
        try:
            policy.check(self._policy, str(path))
            if path.is_file():
                return FoundFile((str(path),), size_bytes=path.stat().st_size)
        except (SourceRefused, OSError):
            pass  # it leads elsewhere, or has gone meanwhile
        return None
