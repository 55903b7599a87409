"""Writes the events with uproot, where ROOT is not installed."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from benchmarks.engine.events import Branch, batches

_COMPRESSIONS = {"ZLIB": uproot.ZLIB(1), "ZSTD": uproot.ZSTD(5), "LZ4": uproot.LZ4(4), "LZMA": uproot.LZMA(9)}


def write_tree(path: Path, tree: str, n_events: int, codec: str) -> None:
    """Writes a TTree whose collections have one counter branch each; a basket holds a batch of events."""
    with uproot.recreate(path, compression=_COMPRESSIONS[codec]) as file:
        target = None
        for batch in batches(n_events):
            columns = _with_collections(batch)
            if target is None:
                target = file.mktree(tree, {name: column.type.content for name, column in columns.items()})
            target.extend(columns)


def write_ntuple(path: Path, name: str, n_events: int) -> None:
    """Writes an RNTuple with one field per branch; a cluster holds a batch of events."""
    with uproot.recreate(path, compression=_COMPRESSIONS["ZSTD"]) as file:
        target = None
        for batch in batches(n_events):
            columns = _columns(batch)
            if target is None:
                # With the first rows at once: ROOT reads no file with an empty cluster.
                target = file.mkrntuple(name, ak.Array(columns))
            else:
                target.extend(ak.Array(columns))


def _columns(batch: list[Branch]) -> dict[str, ak.Array]:
    """Each branch as an array with one entry per event."""
    counts = {branch.name: branch.values for branch in batch}
    return {
        branch.name: ak.unflatten(branch.values, counts[branch.counter]) if branch.counter else branch.values
        for branch in batch
    }


def _with_collections(batch: list[Branch]) -> dict[str, ak.Array]:
    """Flat branches, and each collection as lists of records; uproot makes its counter branch itself."""
    columns: dict[str, ak.Array] = {}
    counters = {branch.counter for branch in batch if branch.counter}
    for branch in batch:
        if branch.name in counters:
            fields = {
                member.name.removeprefix(f"{branch.name[1:]}_"): member.values
                for member in batch
                if member.counter == branch.name
            }
            columns[branch.name[1:]] = ak.unflatten(ak.zip(fields), branch.values.astype(np.int64))
        elif branch.counter is None:
            columns[branch.name] = ak.Array(branch.values)
    return columns
