"""Columns and a bound expression in; the rows and values that the query asked for out.

Plain numpy and awkward here. May import plan, model, errors; knows nothing of files.
"""

from __future__ import annotations

from servicex_server.run.filter.awkward_type import empty_rows, from_awkward
from servicex_server.run.filter.bound import MAX_BYTES
from servicex_server.run.filter.evaluate import Evaluation, evaluate, evaluate_lazily

__all__ = ["MAX_BYTES", "Evaluation", "empty_rows", "evaluate", "evaluate_lazily", "from_awkward"]
