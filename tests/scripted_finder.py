"""Finders that do as a test says, inside the server and beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from servicex_server.errors import BadDatasetName, Busy
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.ids import DatasetId

Step = Sequence[FoundFile] | Exception | asyncio.Event
"""A batch, an error, or something to wait for."""


def files(*names: str) -> list[FoundFile]:
    """Files of one replica each, on a host that nobody asks."""
    return [FoundFile((f"root://eos.example//store/{name}.root",), "0a1b2c3d", 100, 10) for name in names]


def numbered(start: int, stop: int) -> list[FoundFile]:
    """Files with numbers for names."""
    return files(*(f"f{number:06d}" for number in range(start, stop)))


@dataclass
class ScriptedFinder:
    """Plays one script, or one per name.

    Attributes:
        scripts: what to do for a name; "*" for any other.
        asked: data sets in the order in which they were asked for.
    """

    scripts: dict[str, Sequence[Step]]
    asked: list[Did] = field(default_factory=list)

    def check(self, did: Did) -> None:
        if did.name == "bad":
            message = "bad is not the name of a data set"
            raise BadDatasetName(message)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        self.asked.append(did)
        for step in self.scripts.get(did.name, self.scripts.get("*", ())):
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


@dataclass
class RecordingRemote:
    """Finders elsewhere that a test plays itself: here it sees what they are asked.

    Attributes:
        refusals: so many of the next calls find no broker.
    """

    schemes: tuple[str, ...] = ("rucio",)
    asked: asyncio.Queue[tuple[Did, DatasetId]] = field(default_factory=asyncio.Queue)
    refusals: int = 0

    async def ask(self, did: Did, dataset_id: DatasetId) -> None:
        if self.refusals:
            self.refusals -= 1
            message = "the message broker is not reachable"
            raise Busy(message)
        self.asked.put_nowait((did, dataset_id))
