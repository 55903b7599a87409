"""The port to one result file in the making."""

from __future__ import annotations

from typing import Any, Protocol

import awkward as ak

from servicex_server.plan.plan import BoundOutput


class Writer(Protocol):
    """Takes the tables of one result file one after the other, each in chunks."""

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        """Starts a table with the schema of `empty`, an array without rows.

        Raises:
            FormatError: the format cannot hold such a table, here.
        """
        ...

    def write(self, rows: ak.Array) -> None:
        """Appends rows to the table begun last."""
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
