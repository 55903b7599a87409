"""The first N files of a data set, the same ones each time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence

from servicex_server.did.protocol import Finder
from servicex_server.errors import FinderError
from servicex_server.model.did import Did, FoundFile

BATCH = 1_000
"""Files of one batch: a transaction of some milliseconds, so that others get their turn."""


ALIVE_EVERY_S = 60.0


async def iter_found(
    finder: Finder, did: Did, *, most_files: int, alive_every_s: float = ALIVE_EVERY_S
) -> AsyncIterator[Sequence[FoundFile]]:
    """Batches of what is wanted of the data set.

    With a limit no file comes before all are found: only then the first ones by name are known. Until then an
    empty batch tells from time to time that the finder is at work, since a silent look-up is given up.

    Args:
        most_files: that a data set may have.
        alive_every_s: seconds between empty batches, at least.

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
    told_s = time.monotonic()
    async for batch in finder.find(did):
        found.update((file.digest, file) for file in batch)
        _check_number(len(found), did, most_files)
        if time.monotonic() - told_s >= alive_every_s:
            yield ()
            told_s = time.monotonic()
    first = sorted(found.values(), key=lambda file: file.paths)[: did.limit]
    for start in range(0, len(first), BATCH):
        yield first[start : start + BATCH]


def _check_number(n_found: int, did: Did, most_files: int) -> None:
    if n_found > most_files:
        message = f"{did.text} has more than the {most_files:,} files that this server takes for a data set"
        raise FinderError(message)
