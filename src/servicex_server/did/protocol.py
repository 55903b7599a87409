"""The port to whoever knows which files a data set has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from servicex_server.errors import BadDatasetName, FinderError, UnknownDataset
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.ids import DatasetId
from servicex_server.model.kinds import LookupStatus


class Finder(Protocol):
    """Finds files of data sets of one scheme, inside a process of ours."""

    def check(self, did: Did) -> None:
        """Returns if the name may be one, as far as its spelling tells; nothing is asked of anybody.

        Raises:
            BadDatasetName: it can be none; says what one looks like.
            SourceRefused: it leads where this server does not read from.
        """
        ...

    def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:
        """All files in batches as they are found, in any order; the limit is somebody else's business.

        A file may come twice. It does not block, and can be canceled at every step.

        Raises:
            UnknownDataset: there is no such data set.
            BadDatasetName: the name is none.
            FinderError: the catalogue does not answer, or something else went wrong.
        """
        ...


class RemoteFinders(Protocol):
    """Finders that are programs of their own; they answer through the internal routes."""

    @property
    def schemes(self) -> Collection[str]: ...

    async def ask(self, did: Did, dataset_id: DatasetId) -> None:
        """Hands the look-up over; an answer may come before this returns, or never.

        Raises:
            Busy: it cannot be handed over now.
            ConfigurationError: it cannot be handed over at all.
        """
        ...


def kind_of(error: FinderError) -> LookupStatus:
    """What the failure makes of the data set, in the words of the wire."""
    match error:
        case UnknownDataset():
            return LookupStatus.DOES_NOT_EXIST
        case BadDatasetName():
            return LookupStatus.BAD_NAME
        case _:
            return LookupStatus.INTERNAL_FAILURE
