"""Chunks of a table: their order, their errors, and what is counted on the way."""

from __future__ import annotations

import json
import multiprocessing
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import numpy.typing as npt
import pytest
import qastle
import uproot

from servicex_server.errors import SourceCorrupt
from servicex_server.plan.bind import bind
from servicex_server.plan.parse import parse
from servicex_server.plan.plan import BoundOutput
from servicex_server.plan.types import Number, Option
from servicex_server.run.read.root import RootFile
from servicex_server.run.read.ttree import TTreeColumns
from servicex_server.run.table import TableCounts, evaluate_empty, write_table
from servicex_server.run.write.protocol import Encoded
from servicex_server.source.open import open_source
from servicex_server.source.policy import CALLERS_OWN

N_BASKETS, N_EVENTS = 12, 100
MUCH = 1 << 40


class Rows:
    """A writer that keeps the rows."""

    def __init__(self) -> None:
        self.written: list[ak.Array] = []
        self.threads: set[int] = set()

    def begin(self, output: BoundOutput, empty: ak.Array) -> None:
        assert len(empty) == 0

    def encode(self, rows: ak.Array) -> Encoded:
        self.threads.add(threading.get_ident())
        return Encoded(len(rows), rows.nbytes, rows)

    def write(self, encoded: Encoded) -> None:
        self.written.append(encoded.content)

    def copy(self, directory: Any, keys: tuple[str, ...]) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "events.root"
    random = np.random.default_rng(5)
    with uproot.recreate(path) as file:
        tree = file.mktree(
            "t", {"event": "int64", "met": "float32", "genWeight": "float32", "pt": "var * float32"}
        )
        for basket in range(N_BASKETS):
            counts = random.integers(0, 4, N_EVENTS)
            tree.extend(
                {
                    "event": np.arange(N_EVENTS) + basket * N_EVENTS,
                    "met": random.exponential(20, N_EVENTS).astype(np.float32),
                    "genWeight": random.normal(1, 1, N_EVENTS).astype(np.float32),
                    "pt": ak.unflatten(random.exponential(20, counts.sum()).astype(np.float32), counts),
                }
            )
    return path


@pytest.fixture
def file(path: Path) -> Iterator[RootFile]:
    with RootFile(open_source(str(path), CALLERS_OWN)) as file:
        yield file


def func_adl(query: str, file: RootFile) -> BoundOutput:
    text = qastle.python_source_to_text_ast(f"EventDataset('f.root', 't'){query}")
    return bind(parse("uproot", text), file).outputs[0]


def run(
    file: RootFile, output: BoundOutput, *, chunk_bytes: int = 1, n_threads: int = 1
) -> tuple[Rows, TableCounts]:
    writer = Rows()
    tree = file.tree(output.tree)
    span = (0, tree.n_entries)
    tally = write_table(writer, output, tree, span, chunk_bytes=chunk_bytes, n_threads=n_threads)
    return writer, tally


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_rows_keep_their_order_whoever_works_on_them(file: RootFile, n_threads: int) -> None:
    output = func_adl(".Where(lambda e: e.met > 5).Select(lambda e: {'n': e.event, 'pt': e.pt})", file)
    writer, tally = run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=n_threads)
    whole, _ = run(file, output, chunk_bytes=MUCH)
    assert len(writer.written) > N_BASKETS / 2
    assert ak.array_equal(ak.concatenate(writer.written), whole.written[0])
    assert tally.n_out == len(whole.written[0])
    assert tally.n_in == N_BASKETS * N_EVENTS


def test_several_threads_take_part(file: RootFile) -> None:
    writer, _ = run(file, func_adl(".Select(lambda e: e.event)", file), chunk_bytes=8 * N_EVENTS, n_threads=3)
    assert threading.get_ident() not in writer.threads


def test_cut_flow_counts_each_condition_after_the_ones_before(file: RootFile, path: Path) -> None:
    query = ".Where(lambda e: e.met > 10).Where(lambda e: e.pt.Count() > 1).Select(lambda e: e.event)"
    output = func_adl(query, file)
    _, tally = run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=2)
    tree = uproot.open(path)["t"].arrays()
    met, both = tree.met > 10, (tree.met > 10) & (ak.num(tree.pt) > 1)
    assert [tally.n_passed[condition] for condition in output.row_conditions] == [ak.sum(met), ak.sum(both)]
    assert tally.n_out == ak.sum(both)


def test_weights_are_summed_before_and_after_the_selection(file: RootFile, path: Path) -> None:
    entry = {"treename": "t", "expressions": ["pt", "genWeight"], "cut": "met > 10"}
    (output,) = bind(parse("uproot-raw", json.dumps([entry])), file).outputs
    _, tally = run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=2)
    tree = uproot.open(path)["t"].arrays()
    weights = ak.to_numpy(tree.genWeight).astype(float)
    before, after = tally.weights["genWeight"]
    assert before == pytest.approx(weights.sum())
    assert after == pytest.approx(weights[tree.met > 10].sum())


@pytest.mark.parametrize(
    ("columns", "cut", "n_columns"),
    [
        (["genWeight"], None, 1),
        (["genWeight"], "genWeight > 0", 1),
        (["genWeight"], "met > 10", 2),
        (["met", "genWeight"], "(genWeight > 0) & (met > 10)", 2),
    ],
)
def test_weights_are_read_once(path: Path, columns: list[str], cut: str | None, n_columns: int) -> None:
    entry = {"treename": "t", "expressions": columns, "cut": cut}
    with RootFile(open_source(str(path), CALLERS_OWN)) as file:
        (output,) = bind(parse("uproot-raw", json.dumps([entry])), file).outputs
        writer, tally = run(file, output, chunk_bytes=8 * N_EVENTS)
        assert file.bytes_decompressed == 4 * n_columns * N_BASKETS * N_EVENTS
    after = ak.concatenate(writer.written)["genWeight"]
    assert tally.weights["genWeight"][1] == pytest.approx(ak.to_numpy(after).astype(float).sum())


def test_jagged_weights_have_no_one_sum(tmp_path: Path) -> None:
    with uproot.recreate(tmp_path / "many.root") as made:
        made.mktree("t", {"weight": "var * float32"}).extend({"weight": ak.Array([[1.0, 2.0], [], [3.0]])})
    with RootFile(open_source(str(tmp_path / "many.root"), CALLERS_OWN)) as file:
        _, tally = run(
            file, func_adl(".Where(lambda e: e.weight.Count() > 0).Select(lambda e: e.weight)", file)
        )
    assert tally.weights == {}


def test_elements_made_rows_have_no_sum_of_weights_but_are_counted(file: RootFile) -> None:
    output = func_adl(".SelectMany(lambda e: e.pt).Where(lambda p: p > 10)", file)
    _, tally = run(file, output)
    assert tally.n_passed == {}
    assert tally.weights == {}


def test_the_stages_are_timed(file: RootFile) -> None:
    _, tally = run(file, func_adl(".Select(lambda e: e.pt)", file), n_threads=2)
    assert set(tally.seconds) == {"load", "filter", "encode", "write"}
    assert all(seconds >= 0 for seconds in tally.seconds.values())


def test_an_error_in_one_chunk_ends_the_table(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.root"
    damaged.write_bytes(path.read_bytes())
    start = int(uproot.open(path)["t"]["met"].member("fBasketSeek")[N_BASKETS - 1])
    with damaged.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"\xff" * 8)
    with RootFile(open_source(str(damaged), CALLERS_OWN)) as file:
        output = func_adl(".Select(lambda e: e.met)", file)
        with pytest.raises(SourceCorrupt, match="met"):
            run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=3)


def test_the_next_table_is_made_by_the_same_threads(file: RootFile) -> None:
    output = func_adl(".Select(lambda e: e.event)", file)
    seen = [run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=2)[0].threads for _ in range(4)]
    assert len(set().union(*seen)) <= 2


def test_other_threads_than_those_of_the_parent_work_in_a_forked_child(file: RootFile) -> None:
    output = func_adl(".Select(lambda e: e.event)", file)
    run(file, output, chunk_bytes=8 * N_EVENTS, n_threads=2)
    process = multiprocessing.get_context("fork").Process(
        target=run, args=(file, output), kwargs={"chunk_bytes": 8 * N_EVENTS, "n_threads": 2}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: they are idle
        process.start()
    process.join(60)
    try:
        assert process.exitcode == 0
    finally:
        process.kill()


class Full(Rows):
    """A writer whose disk is full, while other chunks are still being encoded."""

    def __init__(self) -> None:
        super().__init__()
        self.n_begun = self.n_ended = 0
        self.lock = threading.Lock()
        self.has_failed = threading.Event()

    def encode(self, rows: ak.Array) -> Encoded:
        with self.lock:
            self.n_begun += 1
        if rows[0] != 0:
            assert self.has_failed.wait(60)
        with self.lock:
            self.n_ended += 1
        return super().encode(rows)

    def write(self, encoded: Encoded) -> None:
        self.has_failed.set()
        raise OSError(28, "No space left on device")


def test_no_chunk_is_worked_on_after_the_writer_failed(file: RootFile) -> None:
    output = func_adl(".Select(lambda e: e.event)", file)
    writer = Full()
    tree = file.tree(output.tree)
    with pytest.raises(OSError, match="No space"):
        write_table(writer, output, tree, (0, tree.n_entries), chunk_bytes=8 * N_EVENTS, n_threads=2)
    assert writer.n_begun == writer.n_ended < N_BASKETS


class Optional(TTreeColumns):
    """A tree whose numbers may be missing, in a layout of which their type does not tell."""

    def __init__(self, tree: TTreeColumns, numbers: ak.contents.Content) -> None:
        vars(self).update(vars(tree))
        self._numbers = ak.Array(numbers)

    def type_of(self, name: str) -> Option:
        return Option(Number("int64"))

    def read(
        self, columns: Sequence[str], start: int, stop: int, keep: npt.NDArray[np.bool_] | None = None
    ) -> dict[str, ak.Array]:
        assert (start, stop, keep) == (0, 0, None)
        return dict.fromkeys(columns, self._numbers)


def test_columns_of_one_type_in_two_layouts_are_told_apart(file: RootFile) -> None:
    output = func_adl(".Select(lambda e: e.event)", file)
    numbers = ak.contents.NumpyArray(np.zeros(0, np.int64))
    masked = ak.contents.ByteMaskedArray(ak.index.Index8(np.zeros(0, np.int8)), numbers, valid_when=True)
    indexed = ak.contents.IndexedOptionArray(ak.index.Index64(np.zeros(0, np.int64)), numbers)
    tree = file.tree(output.tree)
    assert isinstance(tree, TTreeColumns)
    rows = [evaluate_empty(output, Optional(tree, each)) for each in (masked, indexed, masked)]
    assert len({str(each.type) for each in rows}) == 1
    assert rows[0].layout.form == rows[2].layout.form != rows[1].layout.form
