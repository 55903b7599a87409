"""Work units from end to end: replicas, failures and their reasons, preflight."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import awkward as ak
import numpy as np
import pyarrow.parquet as pq
import pytest
import uproot

from servicex_server.errors import SourceCorrupt, SourceMissing, SourceRefused, SourceUnavailable
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.tally import WeightSum
from servicex_server.model.unit import FileDone, FileFailed, PreflightUnit, Reason, TransformUnit
from servicex_server.run.execute import transform_file, transform_unit
from servicex_server.run.preflight import preflight_unit
from servicex_server.source.local import LocalSource
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.memory import MemoryStore

REQUEST = RequestId("b5a1a1d5-5f0e-4a0c-b4b2-2f6c7f7b7b7b")
N_ENTRIES = 3000


def select(column: str, codegen: str = "uproot") -> str:
    if codegen == "uproot-raw":
        return json.dumps([{"treename": "Events", "expressions": [column]}])
    return (
        "(call Select (call EventDataset 'bogus.root' 'Events') "
        f"(lambda (list e) (dict (list 'x') (list (attr e '{column}')))))"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """good.root and twin.root; broken.root ends early, text.root is none, other.root lacks `x`."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, column in (("good.root", "x"), ("twin.root", "x"), ("other.root", "y")):
        with uproot.recreate(folder / name) as file:
            file.mktree("Events", {column: "f8", "jet": "var * float32", "deep": "int32"})
            for part in range(3):
                values = np.arange(part * 1000, (part + 1) * 1000, dtype="f8")
                jets = ak.values_astype(ak.unflatten(values, [2, 0] * 500), "float32")
                file["Events"].extend({column: values, "jet": jets, "deep": values.astype("i4")})
    (folder / "broken.root").write_bytes((folder / "good.root").read_bytes()[:5000])
    (folder / "text.root").write_text("not root")
    return folder


@pytest.fixture
def policy(folder: Path) -> SourcePolicy:
    return SourcePolicy(local_roots=(folder,))


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return MemoryStore(scratch)


def unit(
    *paths: str, selection: str = "", result_format: ResultFormat = ResultFormat.PARQUET
) -> TransformUnit:
    return TransformUnit(
        request_id=REQUEST,
        file_id=FileId(7),
        paths=paths,
        codegen="uproot",
        selection=selection or select("x"),
        result_format=result_format,
        store_key=f"{REQUEST}/7-1",
        attempt=2,
    )


async def content(store: MemoryStore, key: str, path: Path) -> ak.Array:
    known = await store.head(key)
    assert known is not None
    data = b"".join([piece async for piece in store.stream(key, 0, known.size_bytes)])
    await anyio.Path(path).write_bytes(data)
    return ak.from_parquet(path)


async def test_a_done_file_is_in_the_store(store: MemoryStore, policy: SourcePolicy, tmp_path: Path) -> None:
    done = transform_unit(unit("good.root"), store, policy)
    assert isinstance(done, FileDone)
    assert (done.request_id, done.file_id, done.attempt, done.path) == (REQUEST, 7, 2, "good.root")
    assert (done.n_events_in, done.n_events_out) == (N_ENTRIES, N_ENTRIES)
    assert done.bytes_read > 0
    array = await content(store, done.store_key, tmp_path / "copy")
    assert ak.to_list(array.x) == list(range(N_ENTRIES))
    known = await store.head(done.store_key)
    assert known is not None
    assert known.size_bytes == done.size_bytes
    assert list(store.scratch_folder().iterdir()) == []


def test_replicas_are_tried_in_order(store: MemoryStore, policy: SourcePolicy) -> None:
    done = transform_unit(
        unit("no.root", "broken.root", "/etc/passwd", "twin.root", "good.root"), store, policy
    )
    assert isinstance(done, FileDone)
    assert done.path == "twin.root"


@pytest.mark.parametrize(
    ("paths", "selection", "reason", "text"),
    [
        (("no.root",), "", Reason.MISSING, "No such file"),
        (("good*.root",), "", Reason.MISSING, "wildcards are not expanded: list the files"),
        (("good.root/x",), "", Reason.MISSING, "Not a directory"),
        (("x" * 300,), "", Reason.MISSING, "File name too long"),
        (("broken.root",), "", Reason.CORRUPT, "truncated"),
        (("text.root",), "", Reason.CORRUPT, "is not a ROOT file"),
        (("/etc/passwd",), "", Reason.REFUSED, "local roots"),
        (("http://127.0.0.1:1/x.root",), "", Reason.REFUSED, "loopback"),
        (("no.root", "http://no-such-host.invalid/x.root"), "", Reason.UNAVAILABLE, "no replica can be read"),
        (("no.root", "text.root"), "", Reason.MISSING, "no replica can be read"),
        (("text.root", "/etc/passwd"), "", Reason.CORRUPT, "no replica can be read"),
        (("other.root",), "", Reason.QUERY, "'x'"),
        (("good.root",), "(call Nonsense", Reason.QUERY, ""),
        ((), "", Reason.UNAVAILABLE, "no location"),
    ],
)
def test_a_failure_tells_its_reason(
    paths: tuple[str, ...],
    selection: str,
    reason: Reason,
    text: str,
    store: MemoryStore,
    policy: SourcePolicy,
) -> None:
    failed = transform_unit(unit(*paths, selection=selection), store, policy)
    assert isinstance(failed, FileFailed)
    assert failed.failure.reason is reason
    assert text in failed.failure.message
    assert failed.attempt == 2
    assert list(store.scratch_folder().iterdir()) == []


def test_a_result_that_the_format_cannot_hold_names_the_column(
    store: MemoryStore, policy: SourcePolicy
) -> None:
    selection = (
        "(call Select (call EventDataset 'bogus.root' 'Events') (lambda (list e) (dict (list 'x' 'odd') "
        "(list (attr e 'x') (call Select (attr e 'jet') (lambda (list j) "
        "(call Select (attr e 'jet') (lambda (list k) (+ j k)))))))))"
    )
    failed = transform_unit(
        unit("good.root", selection=selection, result_format=ResultFormat.ROOT_FILE), store, policy
    )
    assert isinstance(failed, FileFailed)
    assert failed.failure.reason is Reason.FORMAT
    assert "root-file cannot hold odd (var * var * float32)" in failed.failure.message
    assert isinstance(transform_unit(unit("good.root", selection=selection), store, policy), FileDone)


def test_a_full_store_is_worth_another_attempt(tmp_path: Path, policy: SourcePolicy) -> None:
    failed = transform_unit(unit("good.root"), MemoryStore(tmp_path, max_bytes=10), policy)
    assert isinstance(failed, FileFailed)
    assert failed.failure.reason is Reason.RESOURCES


def test_an_unexpected_error_is_an_outcome_too(
    store: MemoryStore,
    policy: SourcePolicy,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def explode(*_args: object, **_named: object) -> None:
        message = "surprise"
        raise RuntimeError(message)

    monkeypatch.setattr(store, "put_file", explode)
    failed = transform_unit(unit("good.root"), store, policy)
    assert isinstance(failed, FileFailed)
    assert failed.failure.reason is Reason.INTERNAL
    assert "RuntimeError: surprise" in failed.failure.message
    assert "failed unexpectedly" in caplog.text


@pytest.mark.parametrize(
    ("start", "stop", "most", "expected"),
    [
        (0, None, None, (0, 3000)),
        (1500, 2500, None, (1500, 2500)),
        (2900, 9999, None, (2900, 3000)),
        (0, None, 10, (0, 10)),
        (9999, None, None, (0, 0)),
        (5, 7, 0, (0, 0)),
    ],
)
def test_entry_ranges_bound_what_is_read(
    start: int,
    stop: int | None,
    most: int | None,
    expected: tuple[int, int],
    policy: SourcePolicy,
    tmp_path: Path,
) -> None:
    summary = transform_file(
        "good.root",
        codegen="uproot-raw",
        selection=select("x", "uproot-raw"),
        result_format=ResultFormat.PARQUET,
        output=tmp_path / "out",
        policy=policy,
        entry_start=start,
        entry_stop=stop,
        max_events=most,
    )
    assert ak.to_list(ak.from_parquet(tmp_path / "out").x) == list(range(*expected))
    assert summary.n_events_in == expected[1] - expected[0]


def test_one_error_stands_for_all_replicas(policy: SourcePolicy, tmp_path: Path) -> None:
    def run(*paths: str) -> None:
        transform_file(
            paths,
            codegen="uproot",
            selection=select("x"),
            result_format=ResultFormat.PARQUET,
            output=tmp_path / "out",
            policy=policy,
        )

    for paths, kind in (
        (("no.root", "http://no-such-host.invalid/x.root"), SourceUnavailable),
        (("no.root", "text.root"), SourceMissing),
        (("text.root", "broken.root"), SourceCorrupt),
        (("/etc/passwd",), SourceRefused),
    ):
        with pytest.raises(kind):
            run(*paths)


def preflight(
    policy: SourcePolicy,
    *files: tuple[str, ...],
    selection: str = "",
    codegen: str = "uproot",
    result_format: ResultFormat = ResultFormat.PARQUET,
) -> str | None:
    done = preflight_unit(
        PreflightUnit(REQUEST, files, codegen, selection or select("x", codegen), result_format), policy
    )
    assert done.request_id == REQUEST
    return done.rejection


def test_preflight_lets_a_query_pass_that_fits_one_file(policy: SourcePolicy) -> None:
    assert preflight(policy, ("good.root",)) is None
    assert preflight(policy, ("other.root",), ("broken.root",), ("good.root",)) is None


def test_preflight_rejects_a_name_that_all_readable_files_lack(policy: SourcePolicy) -> None:
    rejection = preflight(
        policy, ("no.root",), ("good.root",), ("text.root", "twin.root"), selection=select("deeep")
    )
    assert rejection is not None
    assert "deeep" in rejection
    assert "deep" in rejection.replace("deeep", "")


@pytest.fixture
def nano(folder: Path) -> str:
    """A file with another tree."""
    with uproot.recreate(folder / "nano.root") as file:
        file.mktree("Nano", {"run": "i4", "LHE_HT": "f4"})
        file["Nano"].extend({"run": [1, 2], "LHE_HT": [3.0, 4.0]})
    return "nano.root"


def raw(*entries: dict[str, object]) -> str:
    return json.dumps(entries)


def test_preflight_rejects_a_tree_that_all_readable_files_lack(policy: SourcePolicy, nano: str) -> None:
    def reject(*files: str, selection: str = raw({"treename": "Event"})) -> str | None:
        return preflight(policy, *((file,) for file in files), codegen="uproot-raw", selection=selection)

    assert reject("good.root", "no.root") == "no tree 'Event' in the file; its trees: Events"
    assert reject(nano) == "no tree 'Event' in the file; its trees: Nano"
    assert reject("no.root") is None
    either = raw({"treename": ["Event", "Nan"]}, {"treename": "Evnt"})
    assert "no tree 'Event' or 'Nan' or 'Evnt' in the file" in (reject("good.root", selection=either) or "")
    assert reject("good.root", nano, selection=raw({"treename": "Nano"})) is None
    assert reject(nano, selection=raw({"treename": "Event"}, {"treename": "Nano"})) is None
    assert (
        reject("good.root", selection=raw({"treename": "Event", "fail_on_missing_trees": True})) is not None
    )


def test_preflight_tells_of_the_branch_where_another_file_lacks_the_tree(
    policy: SourcePolicy, nano: str
) -> None:
    rejection = preflight(
        policy,
        ("good.root",),
        (nano,),
        codegen="uproot-raw",
        selection=raw({"treename": "Nano", "expressions": ["run", "HTT"]}),
    )
    assert rejection == "no branch 'HTT' in tree 'Nano'; nearest: LHE_HT"


def test_a_file_without_the_tree_is_skipped_beside_others(
    policy: SourcePolicy, store: MemoryStore, nano: str
) -> None:
    wanted = TransformUnit(
        request_id=REQUEST,
        file_id=FileId(7),
        paths=("good.root",),
        codegen="uproot-raw",
        selection=raw({"treename": "Nano"}),
        result_format=ResultFormat.PARQUET,
        store_key=f"{REQUEST}/7-1",
        attempt=1,
    )
    done = transform_unit(wanted, store, policy)
    assert isinstance(done, FileDone)
    assert (done.n_events_in, done.n_events_out) == (0, 0)


def test_preflight_never_rejects_for_files_that_cannot_be_read(policy: SourcePolicy) -> None:
    assert (
        preflight(policy, ("no.root",), ("broken.root",), ("/etc/passwd",), selection=select("nothing"))
        is None
    )
    assert preflight(policy, selection=select("nothing")) is None


def test_preflight_rejects_what_does_not_parse(policy: SourcePolicy) -> None:
    assert preflight(policy, ("good.root",), selection="(call")
    assert "uproot-raw" in (preflight(policy, ("good.root",), codegen="nonsense", selection="x") or "")


def test_preflight_rejects_what_the_format_cannot_hold(policy: SourcePolicy, folder: Path) -> None:
    with uproot.recreate(folder / "hist.root") as file:
        file.mktree("Events", {"x": "f8"})
        file["mass"] = (np.array([1.0]), np.array([0.0, 1.0]))
    selection = json.dumps([{"treename": "Events", "expressions": ["x"]}, {"copy_histograms": "mass"}])
    rejection = preflight(policy, ("hist.root",), codegen="uproot-raw", selection=selection)
    assert "mass" in (rejection or "")
    assert (
        preflight(
            policy,
            ("hist.root",),
            codegen="uproot-raw",
            selection=selection,
            result_format=ResultFormat.ROOT_FILE,
        )
        is None
    )


@pytest.mark.parametrize("n_threads", [1, 2])
def test_columns_of_local_files_are_read_into_memory_that_is_there(
    tmp_path: Path, policy: SourcePolicy, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[int] = []
    read_into = LocalSource.read_into

    def spy(source: LocalSource, wanted: Sequence[tuple[int, int]], buffer: memoryview) -> None:
        fetched.append(sum(stop - start for start, stop in wanted))
        read_into(source, wanted, buffer)

    monkeypatch.setattr(LocalSource, "read_into", spy)
    output = tmp_path / "rows.parquet"
    summary = transform_file(
        str(tmp_path / "data" / "good.root"),
        codegen="uproot",
        selection=select("x"),
        result_format=ResultFormat.PARQUET,
        output=output,
        policy=policy,
        chunk_bytes=8000,
        n_threads=n_threads,
    )
    assert sum(fetched) > 0
    assert summary.tally.seconds.read > 0
    assert pq.read_table(output)["x"].to_pylist() == list(range(N_ENTRIES))


def test_what_is_counted_is_told_of_each_table(tmp_path: Path, policy: SourcePolicy) -> None:
    path = tmp_path / "data" / "weighted.root"
    with uproot.recreate(path) as file:
        for name, scale in (("Events", 1.0), ("Runs", 10.0)):
            file.mktree(name, {"x": "i4", "genWeight": "f8"})
            file[name].extend({"x": np.arange(4, dtype="i4"), "genWeight": scale * np.ones(4)})
    both = {"expressions": ["genWeight"], "cut": "x > 0"}
    summary = transform_file(
        str(path),
        codegen="uproot-raw",
        selection=raw(
            {"treename": {"Events": "a", "Runs": "b"}, **both},
            {"treename": {"Events": "c"}, "expressions": ["genWeight"], "cut": "x > 2"},
        ),
        result_format=ResultFormat.ROOT_FILE,
        output=tmp_path / "rows.root",
        policy=policy,
    )
    assert [(step.table, step.text, step.n_rows) for step in summary.tally.cut_flow] == [
        ("Events #1", "x > 0", 3),
        ("Runs", "x > 0", 3),
        ("Events #2", "x > 2", 1),
    ]
    assert summary.tally.sums_of_weights == (
        WeightSum("genWeight", 4.0, 3.0, "Events #1"),
        WeightSum("genWeight", 40.0, 30.0, "Runs"),
        WeightSum("genWeight", 4.0, 1.0, "Events #2"),
    )
