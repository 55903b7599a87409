"""What is particular to a store in a folder."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import aclosing
from pathlib import Path

import pytest

from descriptor_reuse import overtaken_reads
from servicex_server.errors import ConfigurationError, ResourceExhausted, StoreUnavailable
from servicex_server.store.backends.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store", min_free_bytes=0)


def unfinished(store: LocalStore, content: bytes = b"content", name: str = "unfinished") -> Path:
    path = store.scratch_folder() / name
    path.write_bytes(content)
    return path


async def test_two_stores_on_one_folder_share_objects(store: LocalStore, tmp_path: Path) -> None:
    stored = LocalStore(tmp_path / "store").put_file("request/1-1", unfinished(store))
    assert await store.head("request/1-1") == stored


def test_others_on_the_machine_cannot_look_in(store: LocalStore, tmp_path: Path) -> None:
    store.put_file("request/1-1", unfinished(store))
    folders = [tmp_path / "store", *(path for path in (tmp_path / "store").rglob("*") if path.is_dir())]
    assert len(folders) == 4
    assert {folder.stat().st_mode & 0o077 for folder in folders} == {0}


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=str(tmp_path / "file")):
        LocalStore(tmp_path / "file")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_fills_up_late_leaves_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = unfinished(store)

    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    # Delayed allocation makes a full disk show at the latest here.
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ResourceExhausted, match=os.strerror(code)) as caught:
        store.put_file("request/1-1", path)
    assert isinstance(caught.value.__cause__, OSError)
    assert await store.head("request/1-1") is None
    assert list(store.scratch_folder().iterdir()) == []


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system at /dev/shm")
async def test_a_file_on_another_file_system_is_copied(store: LocalStore) -> None:
    path = Path("/dev/shm") / f"servicex-test-{os.getpid()}"
    path.write_bytes(b"content")
    if path.stat().st_dev == store.scratch_folder().stat().st_dev:
        path.unlink()
        pytest.skip("/dev/shm is the same file system")
    store.put_file("request/1-1", path)
    assert not path.exists()
    async with aclosing(store.stream("request/1-1", 0, 7)) as stream:
        assert [piece async for piece in stream] == [b"content"]
    assert list(store.scratch_folder().iterdir()) == []


async def test_puts_and_deletions_beside_each_other_never_fail(store: LocalStore) -> None:
    errors: list[BaseException] = []

    def put_many(writer: int) -> None:
        try:
            for n in range(60):
                store.put_file(f"a/b/{writer}-{n}", unfinished(store, name=f"unfinished-{writer}"))
        except OSError as error:
            errors.append(error)

    writers = [threading.Thread(target=put_many, args=(writer,)) for writer in range(3)]
    for thread in writers:
        thread.start()
    n_deleted = 0
    while any(thread.is_alive() for thread in writers):
        n_deleted += await store.delete_prefix("a/b/")
    for thread in writers:
        thread.join()
    assert errors == []
    assert n_deleted + await store.delete_prefix("a/") == 180


async def test_empty_folders_do_not_stay(store: LocalStore, tmp_path: Path) -> None:
    store.put_file("a/b/c/d", unfinished(store))
    await store.delete_prefix("a/b/c/")
    assert list((tmp_path / "store" / "objects").iterdir()) == []


def test_an_object_closed_while_it_is_read_never_gives_the_bytes_of_another(
    store: LocalStore, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"another")
    store.put_file("request/1-1", unfinished(store))
    opened = store.open_object("request/1-1")
    with overtaken_reads(opened.close, other) as overtaken:
        assert opened.read(0, 7) == b"content"
    assert overtaken == ["pread"]
    with pytest.raises(StoreUnavailable, match="it has been closed"):
        opened.read(0, 7)
