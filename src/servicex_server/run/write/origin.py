"""What results say of where they come from: the whole file, and each of its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping

import awkward as ak
import numpy as np

from servicex_server.plan.plan import BoundOutput

PROVENANCE_KEY = "servicex.provenance"
"""Key of the file's metadata under which it says, in JSON, where it comes from."""


def to_metadata(provenance: Mapping[str, str] | None) -> dict[str, str]:
    """The pairs of a file's metadata that tell its origin."""
    return {PROVENANCE_KEY: json.dumps(dict(provenance), sort_keys=True)} if provenance else {}


def with_treename(rows: ak.Array, output: BoundOutput) -> ak.Array:
    """The rows with the column that says which tree they are of, where one is asked for."""
    if output.treename_column is None:
        return rows
    return ak.with_field(rows, _repeat(output.output_tree, len(rows)), output.treename_column)


def _repeat(text: str, n: int) -> ak.Array:
    """The same text n times, of the type that assigning a text to a column gives."""
    encoded = np.frombuffer(text.encode(), np.uint8)
    offsets = ak.index.Index64(np.arange(n + 1, dtype=np.int64) * len(encoded))
    content = ak.contents.NumpyArray(np.tile(encoded, n), parameters={"__array__": "char"})
    return ak.Array(ak.contents.ListOffsetArray(offsets, content, parameters={"__array__": "string"}))
