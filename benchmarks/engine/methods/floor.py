"""What nobody can do without: read and decompress the touched bytes, and encode rows that are ready.

The metadata are parsed beforehand, nothing is decoded, no query is evaluated. The rows to encode are those
of our own result, one row group after the other.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import uproot

from benchmarks.engine.methods.ours import Ours
from benchmarks.engine.methods.protocol import Task
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.run.read.basket import parse_basket
from servicex_server.run.read.decompress import decompressor, split_blocks
from servicex_server.run.read.root import RootFile
from servicex_server.run.write.parquet import ParquetWriter
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN

_READ_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """One basket or page.

    Attributes:
        position: where it begins in the file.
        stored_bytes: its size there.
        size_bytes: its size uncompressed; None for a basket, whose header says it.
    """

    position: int
    stored_bytes: int
    size_bytes: int | None = None


class Floor:
    """One thread.

    Args:
        whole_baskets: decompress the baskets of a TTree to their end; else, as our engine does, no more
            than the entries in them.
    """

    def __init__(self, *, whole_baskets: bool) -> None:
        self._whole_baskets = whole_baskets
        self._pieces: list[Piece] = []
        self._groups: list[ak.Array] = []
        self._output: BoundOutput | None = None

    def prepare(self, task: Task) -> None:
        with uproot.open(task.path) as file:
            self._pieces = sorted(touched(file[task.tree], task.query.touched), key=_position)
        with RootFile(open_source(str(task.path), CALLERS_OWN)) as file:
            (self._output,) = bind(parse("uproot", task.query.func_adl(task.tree)), file).outputs
        self._groups = finished_rows(task)

    def answer(self, task: Task, output: Path) -> None:
        if self._output is None:
            message = "no task was prepared"
            raise RuntimeError(message)
        read_pieces(task.path, self._pieces, whole_baskets=self._whole_baskets)
        writer = ParquetWriter(output)
        writer.begin(self._output, self._groups[0][:0])
        for group in self._groups:
            writer.write(writer.encode(group))
        writer.finish()


def _position(piece: Piece) -> int:
    return piece.position


def touched(tree: Any, names: tuple[str, ...]) -> Iterator[Piece]:
    """The baskets or pages of these columns, and of what counts their items."""
    if tree.classname.startswith("ROOT::"):
        yield from _pages(tree, names)
        return
    branches = [tree[name] for name in names]
    counters = [branch.count_branch for branch in branches if branch.count_branch is not None]
    for branch in {branch.name: branch for branch in [*branches, *counters]}.values():
        n_written = branch.num_baskets - len(branch.embedded_baskets)
        positions, sizes = branch.member("fBasketSeek"), branch.member("fBasketBytes")
        yield from (Piece(int(positions[i]), int(sizes[i])) for i in range(n_written))


def _pages(ntuple: Any, names: tuple[str, ...]) -> Iterator[Piece]:
    columns = {column for name in names for column in _columns_of(ntuple, ntuple[name].field_id)}
    records = ntuple.column_records
    for cluster in ntuple.page_link_list:
        for column in sorted(columns):
            if column >= len(cluster) or cluster[column].suppressed:
                continue
            for page in cluster[column].pages:
                size_bytes = -(-page.num_elements * records[column].nbits // 8)
                yield Piece(int(page.locator.offset), int(page.locator.num_bytes), size_bytes)


def _columns_of(ntuple: Any, field_id: int) -> Iterator[int]:
    """Numbers of the columns of a field and of those below it; a projected field has those of another."""
    for number, record in enumerate(ntuple.column_records):
        if record.field_id == field_id:
            yield number
    for record in ntuple.alias_column_records:
        if record.field_id == field_id:
            yield int(record.physical_id)
    for number, record in enumerate(ntuple.field_records):
        if record.parent_field_id == field_id and number != field_id:
            yield from _columns_of(ntuple, number)


def read_pieces(path: Path, pieces: list[Piece], *, whole_baskets: bool) -> int:
    """Reads and decompresses them; returns how many bytes they become.

    Neighbours are read at once, as our reader does.
    """
    n_bytes = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        for run in _neighbours(pieces):
            start = run[0].position
            data = memoryview(os.pread(descriptor, run[-1].position + run[-1].stored_bytes - start, start))
            for piece in run:
                stored = data[piece.position - start :][: piece.stored_bytes]
                n_bytes += _decompress(stored, piece.size_bytes, whole_baskets=whole_baskets)
    finally:
        os.close(descriptor)
    return n_bytes


def _neighbours(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Runs of pieces that follow each other in the file without a gap, none of them too large."""
    run: list[Piece] = []
    for piece in pieces:
        if run:
            end = run[-1].position + run[-1].stored_bytes
            if piece.position != end or end - run[0].position > _READ_BYTES:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


def _decompress(stored: memoryview, size_bytes: int | None, *, whole_baskets: bool) -> int:
    if size_bytes is None:
        basket = parse_basket(stored)
        return len(basket.read(basket.size_bytes if whole_baskets else basket.content_bytes))
    if size_bytes == len(stored):
        return size_bytes
    return len(decompressor().read(split_blocks(stored, size_bytes), size_bytes))


def finished_rows(task: Task) -> list[ak.Array]:
    """The rows of our result by row group; lists of equal lengths share their offsets, as our reader's do."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.parquet"
        engine = Ours(n_threads=1)
        engine.prepare(task)
        engine.answer(task, path)
        n_groups = pq.ParquetFile(path).num_row_groups
        return [_share_offsets(ak.from_parquet(path, row_groups=[number])) for number in range(n_groups)]


def _share_offsets(rows: ak.Array) -> ak.Array:
    known: list[ak.index.Index] = []
    columns = {name: _with_offsets_of(rows[name].layout, known) for name in rows.fields}
    return ak.Array(ak.contents.RecordArray(list(columns.values()), list(columns), length=len(rows)))


def _with_offsets_of(layout: Any, known: list[ak.index.Index]) -> Any:
    if not layout.is_list:
        return layout
    layout = layout.to_ListOffsetArray64(start_at_zero=True)
    offsets = next((item for item in known if np.array_equal(item.data, layout.offsets.data)), None)
    if offsets is None:
        offsets = layout.offsets
        known.append(offsets)
    return ak.contents.ListOffsetArray(offsets, layout.content)
