"""`static://anything`: the same files whatever is asked for, for tests of a deployment and for tutorials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from servicex_server.did.parameter import refuse_others
from servicex_server.model.did import Did, FoundFile


class StaticFinder:
    """Finds the files that the operator named."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._files = [FoundFile((path,)) for path in paths]

    def check(self, did: Did) -> None:
        """Any name will do; raises BadDatasetName for a parameter."""
        refuse_others(did)

    async def find(self, did: Did) -> AsyncIterator[Sequence[FoundFile]]:  # noqa: ARG002  the port's signature
        yield self._files
