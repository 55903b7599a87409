"""A worker answers with the result of an earlier request, where the question is the same in every part."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot

from gated_files import GatedFiles
from sandbox_here import sandbox_here
from seaweed_server import SeaweedServer
from servicex_server.errors import StoreUnavailable
from servicex_server.model.compression import Compression
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.shared import is_shared, note_key, question_key_of
from servicex_server.model.unit import FileDone, FileFailed, Reason, TransformUnit
from servicex_server.run import recall
from servicex_server.run.execute import transform_unit
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.backends.memory import MemoryStore
from servicex_server.store.protocol import Store

__all__ = ["sandbox_here"]

N_ENTRIES = 1000
LONG_AGO_S = 1_700_000_000.0
SELECTION = json.dumps([{"treename": "Events", "expressions": ["x", "w"], "cut": "x > 500"}])
SCRIPT = """
def run_query(file_path):
    import uproot
    return uproot.open(file_path)["Events"].arrays(["x"])
"""


def make_file(path: Path, scale: float = 1.0) -> Path:
    with uproot.recreate(path) as file:
        file.mktree("Events", {"x": "f8", "w": "f8"})
        values = scale * np.arange(N_ENTRIES, dtype="f8")
        file["Events"].extend({"x": values, "w": values})
    os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return make_file(tmp_path / "data" / "a.root")


@pytest.fixture
def policy(file: Path) -> SourcePolicy:
    return SourcePolicy(local_roots=(file.parent,), allowed_private_hosts=("127.0.0.1",))


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return LocalStore(tmp_path / "store", min_free_bytes=0)
    if request.param == "s3":
        server: SeaweedServer = request.getfixturevalue("seaweed")
        return server.open_store(tmp_path / "scratch")
    return memory_store(tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> MemoryStore:
    return memory_store(tmp_path)


def memory_store(folder: Path) -> MemoryStore:
    (folder / "scratch").mkdir()
    return MemoryStore(folder / "scratch")


def unit(request: str, path: Path | str, **changes: object) -> TransformUnit:
    plain = TransformUnit(
        request_id=RequestId(request),
        file_id=FileId(1),
        paths=(str(path),),
        codegen="uproot-raw",
        selection=SELECTION,
        result_format=ResultFormat.PARQUET,
        store_key=f"{request}/1-0-1",
        owner="marie",
        uses_cache=True,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # tests name the fields


def work(unit: TransformUnit, store: Store, policy: SourcePolicy) -> FileDone:
    report = transform_unit(unit, store, policy)
    assert isinstance(report, FileDone), report
    return report


async def test_another_request_gets_the_same_object(file: Path, store: Store, policy: SourcePolicy) -> None:
    first = work(unit("one", file), store, policy)
    assert is_shared(first.store_key)
    assert not first.is_cached
    second = work(unit("two", file, owner="niels"), store, policy)
    assert second.is_cached
    assert second.request_id == "two"
    assert second.bytes_read == 0, "no column is read"
    assert second.tally.bytes_decompressed == 0
    assert (second.store_key, second.size_bytes) == (first.store_key, first.size_bytes)
    assert (second.n_events_in, second.n_events_out) == (N_ENTRIES, 499)
    assert second.tally.cut_flow == first.tally.cut_flow
    assert [step.n_rows for step in second.tally.cut_flow] == [499]
    assert second.tally.sums_of_weights == first.tally.sums_of_weights
    keys = {key async for key in store.iter_keys()}
    assert keys == {first.store_key, note_key(question_key_of(first.store_key))}


@pytest.mark.parametrize(
    "change",
    [
        {"selection": SELECTION.replace("500", "501")},
        {"result_format": ResultFormat.ARROW},
        {"compression": Compression("zstd", 9)},
        {"entry_start": 1},
        {"entry_stop": N_ENTRIES},
        {"attempt": 2},
        {"checksum": "adler32:0a1b2c3d"},
    ],
)
def test_another_question_is_worked_on(
    file: Path, memory: MemoryStore, policy: SourcePolicy, change: dict[str, object]
) -> None:
    first = work(unit("one", file), memory, policy)
    second = work(unit("two", file, **change), memory, policy)
    assert not second.is_cached
    assert second.store_key != first.store_key


def test_blanks_in_the_query_and_a_default_spelled_out_are_no_difference(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    first = work(unit("one", file), memory, policy)
    same = unit("two", file, selection=f" {SELECTION} ", compression=Compression("zstd"))
    assert work(same, memory, policy).store_key == first.store_key


def test_a_file_that_changed_is_read_anew(file: Path, memory: MemoryStore, policy: SourcePolicy) -> None:
    first = work(unit("one", file), memory, policy)
    file.unlink()
    make_file(file, scale=2.0)
    second = work(unit("two", file), memory, policy)
    assert (second.is_cached, second.n_events_out) == (False, 749)
    assert second.store_key != first.store_key


def test_a_young_file_is_shared_with_nobody(file: Path, memory: MemoryStore, policy: SourcePolicy) -> None:
    os.utime(file)
    for request in ("one", "two"):
        done = work(unit(request, file), memory, policy)
        assert (done.is_cached, done.store_key) == (False, f"{request}/1-0-1")


def test_whoever_wants_no_earlier_result_leaves_none(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    work(unit("one", file), memory, policy)
    done = work(unit("two", file, uses_cache=False), memory, policy)
    assert (done.is_cached, done.store_key) == (False, "two/1-0-1")


def test_whoever_may_not_read_the_file_gets_no_result_of_it(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    work(unit("one", file), memory, policy)
    report = transform_unit(unit("two", file), memory, replace(policy, local_roots=()))
    assert isinstance(report, FileFailed)
    assert report.failure.reason is Reason.REFUSED


def test_public_data_is_everybody_s_and_a_user_s_credentials_are_his(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    with GatedFiles(file.parent) as site:
        public = f"{site.url}/{file.name}"
        private = public.replace("//", "//secret@")
        assert not work(unit("one", public), memory, policy).is_cached
        assert work(unit("two", public, owner="niels"), memory, policy).is_cached
        assert not work(unit("three", private), memory, policy).is_cached
        assert work(unit("four", private), memory, policy).is_cached
        assert not work(unit("five", private, owner="niels"), memory, policy).is_cached


def test_replicas_of_one_checksum_have_one_result(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    for site in ("here", "there"):
        folder = file.parent / site / "scope" / "aa" / "bb"
        folder.mkdir(parents=True)
        make_file(folder / "x.root")
    here, there = (file.parent / site / "scope/aa/bb/x.root" for site in ("here", "there"))
    checksum = "adler32:0a1b2c3d"
    assert not work(unit("one", here, checksum=checksum), memory, policy).is_cached
    assert work(unit("two", there, checksum=checksum), memory, policy).is_cached
    other = make_file(there.parent / "y.root")
    assert not work(unit("three", other, checksum=checksum), memory, policy).is_cached, "a sum is no proof"


async def test_a_note_without_its_object_is_none(file: Path, store: Store, policy: SourcePolicy) -> None:
    first = work(unit("one", file), store, policy)
    await store.delete(first.store_key)
    second = work(unit("two", file), store, policy)
    assert not second.is_cached
    assert second.store_key != first.store_key, "a key never comes back"
    third = work(unit("three", file), store, policy)
    assert (third.is_cached, third.store_key) == (True, second.store_key)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_note_is_none(
    file: Path, memory: MemoryStore, policy: SourcePolicy, content: bytes
) -> None:
    first = work(unit("one", file), memory, policy)
    memory.put_note(note_key(question_key_of(first.store_key)), content)
    assert not work(unit("two", file), memory, policy).is_cached
    assert work(unit("three", file), memory, policy).is_cached


def test_a_note_leads_to_no_other_question(file: Path, memory: MemoryStore, policy: SourcePolicy) -> None:
    first = work(unit("one", file), memory, policy)
    other = work(unit("two", file, entry_start=1), memory, policy)
    note = memory.read_note(note_key(question_key_of(other.store_key)))
    assert note is not None
    memory.put_note(note_key(question_key_of(first.store_key)), note)
    assert not work(unit("three", file), memory, policy).is_cached


def test_another_version_of_the_engine_answers_anew(
    file: Path, memory: MemoryStore, policy: SourcePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    work(unit("one", file), memory, policy)
    monkeypatch.setattr(recall, "RESULTS", recall.RESULTS + 1)
    assert not work(unit("two", file), memory, policy).is_cached


class Deaf(MemoryStore):
    """A store whose notes cannot be reached."""

    def read_note(self, key: str) -> bytes | None:
        raise StoreUnavailable

    def put_note(self, key: str, content: bytes) -> None:
        raise StoreUnavailable


def test_notes_are_a_help_and_no_condition(file: Path, tmp_path: Path, policy: SourcePolicy) -> None:
    (tmp_path / "scratch").mkdir()
    store = Deaf(tmp_path / "scratch")
    for request in ("one", "two"):
        done = work(unit(request, file), store, policy)
        assert not done.is_cached
        assert store.has(done.store_key)


@pytest.mark.usefixtures("sandbox_here")
def test_a_python_query_is_shared_by_its_very_text_and_the_file_s_name(
    file: Path, memory: MemoryStore, policy: SourcePolicy
) -> None:
    python = {"codegen": "python", "selection": SCRIPT}
    first = work(unit("one", file, **python), memory, policy)
    again = work(unit("two", file, **python), memory, policy)
    assert (again.is_cached, again.store_key, again.n_events_out) == (True, first.store_key, N_ENTRIES)
    other = work(unit("three", file, codegen="python", selection=SCRIPT + "\n# x"), memory, policy)
    assert not other.is_cached
    renamed = file.rename(file.with_name("b.root"))
    assert not work(unit("four", renamed, **python), memory, policy).is_cached
