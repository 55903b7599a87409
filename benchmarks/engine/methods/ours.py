"""This server's engine, through the door that its workers use."""

from __future__ import annotations

from pathlib import Path

from benchmarks.engine.methods.protocol import Task
from servicex_server.model.kinds import ResultFormat
from servicex_server.run.execute import transform_file
from servicex_server.run.heap import share_one_heap
from servicex_server.source.policy import CALLERS_OWN


class Ours:
    """The func_adl text, to Parquet as it is by default.

    Args:
        n_threads: chunks of a file to work on at once.
    """

    def __init__(self, n_threads: int) -> None:
        share_one_heap()  # as a worker does
        self._n_threads = n_threads
        self._selection = ""

    def prepare(self, task: Task) -> None:
        self._selection = task.query.func_adl(task.tree)

    def answer(self, task: Task, output: Path) -> None:
        transform_file(
            str(task.path),
            codegen="uproot",
            selection=self._selection,
            result_format=ResultFormat.PARQUET,
            output=output,
            policy=CALLERS_OWN,
            n_threads=self._n_threads,
        )
