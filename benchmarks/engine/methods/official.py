"""What the official transformers of the uproot family do with a file: all rows at once, then pyarrow."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import pyarrow.parquet as pq
import uproot
from uproot.language.python import PythonLanguage

from benchmarks.engine.methods.protocol import Task

with warnings.catch_warnings():
    # dask-awkward has something to say of the versions of others.
    warnings.simplefilter("ignore")
    import func_adl_uproot

_EVENT_AXIS = ("any", "sum", "prod", "max", "min")
"""The functions in our queries that the official generator lets work within events."""


def write_parquet(array: ak.Array, path: Path) -> None:
    """Writes all rows as the official scripts do: pyarrow with its own defaults."""
    table = ak.to_arrow_table(array)
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.write_table(table)


class FuncAdl:
    """The function that func_adl_uproot generates of the query."""

    def __init__(self) -> None:
        self._run_query: Callable[[str, str], Any] | None = None

    def prepare(self, task: Task) -> None:
        self._run_query = func_adl_uproot.generate_function(task.query.func_adl(task.tree))

    def rows(self, task: Task) -> ak.Array:
        """The rows, before they are written."""
        if self._run_query is None:
            message = "no query was prepared"
            raise RuntimeError(message)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._run_query(str(task.path), task.tree)

    def answer(self, task: Task, output: Path) -> None:
        write_parquet(self.rows(task), output)


class UprootRaw:
    """uproot's expressions and cuts, with the functions that the official generator adds to them."""

    def __init__(self) -> None:
        added = {name: partial(getattr(ak, name), axis=1) for name in _EVENT_AXIS}
        self._language = PythonLanguage(functions={**PythonLanguage.default_functions, **added})

    def prepare(self, task: Task) -> None:
        """Nothing: the text is read anew for each file."""

    def answer(self, task: Task, output: Path) -> None:
        with uproot.open(task.path) as file:
            rows = file[task.tree].arrays(language=self._language, **task.query.raw)
        write_parquet(rows, output)
