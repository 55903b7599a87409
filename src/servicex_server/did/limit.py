"""The first N files of a data set, the same ones each time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from servicex_server.did.protocol import Finder
from servicex_server.errors import FinderError
from servicex_server.model.did import Did, FoundFile

BATCH = 1_000
"""Files of one batch: a transaction of some milliseconds, so that others get their turn."""


async def iter_found(finder: Finder, did: Did, *, most_files: int) -> AsyncIterator[Sequence[FoundFile]]:
    """Batches of what is wanted of the data set.

    With a limit nothing comes before all files are found: only then the first ones by name are known.

    Raises:
        FinderError: as `Finder.find`, or there are more than `most_files`.
    """
    if did.limit is None:
        n_found = 0
        async for batch in finder.find(did):
            n_found += len(batch)
            _check_number(n_found, did, most_files)
            for start in range(0, len(batch), BATCH):
                yield batch[start : start + BATCH]
        return
    found: dict[str, FoundFile] = {}
    async for batch in finder.find(did):
        found.update((file.digest, file) for file in batch)
        _check_number(len(found), did, most_files)
    first = sorted(found.values(), key=lambda file: file.paths)[: did.limit]
    for start in range(0, len(first), BATCH):
        yield first[start : start + BATCH]


def _check_number(n_found: int, did: Did, most_files: int) -> None:
    if n_found > most_files:
        message = f"{did.text} has more than the {most_files:,} files that this server takes for a data set"
        raise FinderError(message)
