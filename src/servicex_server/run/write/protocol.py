"""The port to one result file in the making."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import awkward as ak

from servicex_server.plan.plan import BoundOutput


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as one writer wants them; of use to nobody but the writer that encoded them.

    Attributes:
        n_rows: number of rows.
        n_bytes: about what `content` holds in memory.
        content: the writer's own.
    """

    n_rows: int
    n_bytes: int
    content: Any


class Writer(Protocol):
    """Takes the tables of one result file one after the other, each in chunks.

    What costs time is `encode`; it does not touch the file, and several threads may encode chunks of the
    table begun last at once. Everything else is called by one thread at a time.
    """

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        """Starts a table with the schema of `empty`, an array without rows.

        Raises:
            FormatError: the format cannot hold such a table, here.
        """
        ...

    def encode(self, rows: ak.Array) -> Encoded:
        """Makes rows of the table begun last ready to be written."""
        ...

    def write(self, encoded: Encoded) -> None:
        """Appends rows to the table begun last; rows lie in the file in the order of these calls."""
        ...

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None:
        """Copies objects of an input file as they are."""
        ...

    def finish(self) -> None:
        """Completes the file. A file without a table is complete, too."""
        ...

    def abandon(self) -> None:
        """Lets go of the file without completing it; what is on disk is of no use."""
        ...
