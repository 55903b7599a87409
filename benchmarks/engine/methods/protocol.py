"""What all methods have in common."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.engine.queries import Query


@dataclass(frozen=True, slots=True)
class Task:
    """A query over one file.

    Attributes:
        tree: name of the TTree or RNTuple.
    """

    query: Query
    path: Path
    tree: str


class CannotAnswerError(Exception):
    """The method has no way to answer the query on such a file; says why."""


class Method(Protocol):
    """One way to answer queries."""

    def prepare(self, task: Task) -> None:
        """Does what a long-lived process does once for a query, and what a file must not be charged for.

        Raises:
            CannotAnswerError: there is no way to answer.
        """
        ...

    def answer(self, task: Task, output: Path) -> None:
        """Writes the result of the task prepared last."""
        ...
