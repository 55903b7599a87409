"""What every store promises, asked of each of them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refusing_s3 import refusing_s3
from seaweed_server import SeaweedServer
from servicex_server.errors import NotFound, ResourceExhausted
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.backends.memory import MemoryStore
from servicex_server.store.measured import MeasuredStore
from servicex_server.store.open import open_store
from servicex_server.store.probe import probe
from servicex_server.store.protocol import MAX_NOTE_BYTES, Store, StoredObject

MEBI = 1024 * 1024


@pytest.fixture(params=["local", "memory", "measured", "s3"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Store:
    if kind == "local":
        return LocalStore(tmp_path / "store", min_free_bytes=0)
    if kind == "s3":
        server: SeaweedServer = request.getfixturevalue("seaweed")
        return server.open_store(tmp_path / "scratch")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    store = MemoryStore(scratch)
    return MeasuredStore(store) if kind == "measured" else store


@pytest.fixture
def full_store(kind: str, tmp_path: Path) -> Iterator[Store]:
    """A store that has no room for anything."""
    if kind == "local":
        yield LocalStore(tmp_path / "full", min_free_bytes=2**62)
        return
    scratch = tmp_path / "scratch-of-full"
    scratch.mkdir()
    if kind in {"memory", "measured"}:
        store = MemoryStore(scratch, max_bytes=1)
        yield MeasuredStore(store) if kind == "measured" else store
        return
    # What Ceph says; SeaweedFS has no word for it.
    with refusing_s3(403, "QuotaExceeded") as server:
        yield open_store(
            "s3://results",
            scratch=scratch,
            endpoint=server.endpoint,
            access_key_id="key",
            secret_access_key="secret",
        )


def put(store: Store, key: str, content: bytes, name: str = "unfinished") -> StoredObject:
    path = store.scratch_folder() / name
    path.write_bytes(content)
    return store.put_file(key, path)


async def read(store: Store, key: str, start: int = 0, stop: int = 2**62) -> bytes:
    async with aclosing(store.stream(key, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def collect(items: AsyncIterator[str]) -> list[str]:
    return sorted([item async for item in items])


async def test_many_are_looked_at_in_one_call(store: Store) -> None:
    keys = [f"request/{n}-1" for n in range(40)]
    stored = {key: put(store, key, key.encode()) for key in keys[::2]}
    asked = [*keys, "no//key", "x" * 300, keys[0]]
    assert await store.heads(asked) == [stored.get(key) for key in asked]
    assert await store.heads([]) == []


async def test_put_moves_the_file_and_head_describes_it(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    stored = put(store, "request/1-1", b"content")
    assert list(store.scratch_folder().iterdir()) == []
    assert await store.head("request/1-1") == stored
    assert (stored.key, stored.size_bytes) == ("request/1-1", 7)
    assert before <= stored.modified <= datetime.now(UTC)
    assert stored.modified.microsecond == 0
    assert re.fullmatch(r"[0-9a-z-]+", stored.etag)
    assert not re.fullmatch(r"[0-9a-f]{32}", stored.etag), "clients would take it for an MD5 sum"


async def test_a_file_from_elsewhere_is_moved_too(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere"
    path.write_bytes(b"content")
    store.put_file("request/1-1", path)
    assert not path.exists()
    assert await read(store, "request/1-1") == b"content"


async def test_putting_again_replaces(store: Store) -> None:
    first = put(store, "request/1-1", b"first")
    second = put(store, "request/1-1", b"second time")
    assert first.etag != second.etag
    assert await read(store, "request/1-1") == b"second time"


async def test_unknown_keys(store: Store) -> None:
    put(store, "request/1-1", b"content")
    for key in ("request/2-1", "other/1-1", "request"):
        assert await store.head(key) is None
        with pytest.raises(NotFound, match=re.escape(repr(key))):
            await read(store, key)


def test_an_open_object_is_read_by_ranges(store: Store) -> None:
    content = bytes(range(256)) * 1000
    known = put(store, "request/1-1", content)
    opened = store.open_object("request/1-1")
    with closing(opened):
        assert opened.stored == known
        for start, stop in [
            (0, 1),
            (7, 7),
            (100, 70_000),
            (255_999, 256_000),
            (255_999, 2**40),
            (2**40, 2**41),
        ]:
            assert opened.read(start, stop) == content[start:stop]
    for key in ("request/2-1", "other/1-1", "request"):
        with pytest.raises(NotFound, match=re.escape(repr(key))):
            store.open_object(key)


async def test_an_open_object_is_never_another_one(store: Store) -> None:
    put(store, "request/1-1", b"before")
    put(store, "request/2-1", b"before")
    with (
        closing(store.open_object("request/1-1")) as replaced,
        closing(store.open_object("request/2-1")) as gone,
    ):
        put(store, "request/1-1", b"after.")
        await store.delete("request/2-1")
        for opened in (replaced, gone):
            try:
                assert opened.read(0, 6) == b"before"
            except NotFound:
                continue  # a store elsewhere does not keep it


async def test_stream_gives_pieces_of_bounded_size(store: Store) -> None:
    content = bytes(range(256)) * (3 * MEBI // 256) + b"end"
    put(store, "request/1-1", content)
    async with aclosing(store.stream("request/1-1", 0, len(content))) as stream:
        pieces = [piece async for piece in stream]
    assert all(0 < len(piece) <= MEBI for piece in pieces)
    assert b"".join(pieces) == content


async def test_stream_takes_any_range(store: Store) -> None:
    content = bytes(range(256)) * (2 * MEBI // 256)
    put(store, "request/1-1", content)
    for start, stop in [
        (0, 1),
        (5, 5),
        (3, MEBI + 3),
        (MEBI, 2 * MEBI),
        (2 * MEBI - 1, 2**40),
        (2**40, 2**41),
    ]:
        assert await read(store, "request/1-1", start, stop) == content[start:stop]


async def test_empty_objects(store: Store) -> None:
    assert put(store, "request/1-1", b"").size_bytes == 0
    assert await read(store, "request/1-1") == b""


async def test_delete_takes_one_object(store: Store) -> None:
    put(store, "one/a", b"x")
    put(store, "one/b/c", b"x")
    await store.delete("one/b/c")
    await store.delete("one/b/c")
    await store.delete("one")
    assert await store.head("one/b/c") is None
    assert await collect(store.iter_keys()) == ["one/a"]
    put(store, "one/b", b"the folder is gone, so its name is free")


async def test_delete_prefix_deletes_below_it_only(store: Store, kind: str) -> None:
    for key in ("one/a", "one/b/c", "one-more/a", "two/one/a"):
        put(store, key, b"x")
    assert await store.delete_prefix("one/") == 2
    assert await collect(store.iter_keys()) == ["one-more/a", "two/one/a"]
    assert await store.delete_prefix("one/") == 0
    assert await store.delete_prefix("two/one/") == 1
    prefixes = await collect(store.iter_prefixes())
    if kind == "s3":
        # SeaweedFS remembers a folder for a while when its last object has gone.
        prefixes = [prefix for prefix in prefixes if await collect(store.iter_keys(prefix))]
    assert prefixes == ["one-more/"]
    put(store, "one/a", b"y")
    assert await read(store, "one/a") == b"y"


async def test_a_reader_outlives_deletion_and_replacement(store: Store) -> None:
    content = b"a" * (2 * MEBI)
    put(store, "one/a", content)
    put(store, "two/a", content)
    async with (
        aclosing(store.stream("one/a", 0, len(content))) as deleted,
        aclosing(store.stream("two/a", 0, len(content))) as replaced,
    ):
        first, other = await anext(deleted), await anext(replaced)
        await store.delete_prefix("one/")
        put(store, "two/a", b"b" * (2 * MEBI))
        assert first + b"".join([piece async for piece in deleted]) == content
        assert other + b"".join([piece async for piece in replaced]) == content


async def test_listing(store: Store) -> None:
    keys = sorted([f"request-{n % 3}/{n}-1" for n in range(1200)] + ["top"])
    for key in keys:
        put(store, key, b"")
    assert await collect(store.iter_keys()) == keys
    assert await collect(store.iter_keys("request-1/")) == [
        key for key in keys if key.startswith("request-1/")
    ]
    assert await collect(store.iter_keys("nobody/")) == []
    assert await collect(store.iter_prefixes()) == ["request-0/", "request-1/", "request-2/"]


async def test_a_full_store_says_so_and_keeps_nothing(full_store: Store) -> None:
    with pytest.raises(ResourceExhausted, match="full"):
        put(full_store, "request/1-1", b"content")
    assert list(full_store.scratch_folder().iterdir()) == []
    assert await collect(full_store.iter_keys()) == []
    assert await full_store.head("request/1-1") is None


async def test_clear_scratch_takes_old_files_only(store: Store) -> None:
    folder = store.scratch_folder()
    (folder / "file").write_bytes(b"x")
    (folder / "folder").mkdir()
    (folder / "folder" / "file").write_bytes(b"x")
    assert await store.clear_scratch(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await store.clear_scratch(datetime.now(UTC) + timedelta(hours=1)) == 2
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\0b", "a\nb", "a\\b"),
        *("x" * 256, "/".join(["x" * 100] * 11), "not UTF-8: \udc80"),
    ],
)
async def test_keys_that_could_lead_elsewhere_are_refused(store: Store, key: str) -> None:
    path = store.scratch_folder() / "unfinished"
    path.write_bytes(b"content")
    with pytest.raises(ValueError, match="takes no key"):
        store.put_file(key, path)
    with pytest.raises(ValueError, match="takes no key"):
        await store.head(key)
    with pytest.raises(ValueError, match="takes no key"):
        await read(store, key)


@pytest.mark.parametrize("prefix", ["", "/", "a", "../", "a/../", "a//"])
async def test_prefixes_that_could_take_too_much_are_refused(store: Store, prefix: str) -> None:
    put(store, "a/b", b"content")
    with pytest.raises(ValueError, match="the store takes no"):
        await store.delete_prefix(prefix)
    assert await collect(store.iter_keys()) == ["a/b"]


@pytest.mark.parametrize("key", ["a/b", "a/b/c/d"])
async def test_an_object_cannot_be_the_folder_of_another(store: Store, kind: str, key: str) -> None:
    if kind == "s3":
        pytest.skip("S3 can hold both, and asking before each put would cost more than the put")
    put(store, "a/b/c", b"content")
    with pytest.raises(ValueError, match="takes no key"):
        put(store, key, b"other")
    assert list(store.scratch_folder().iterdir()) == []
    assert await collect(store.iter_keys()) == ["a/b/c"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(exclude_categories=["C"], exclude_characters="/\\"), min_size=1, max_size=60)
)
async def test_keys_of_odd_characters_are_kept_as_they_are(store: Store, name: str) -> None:
    key = f"request-{len(name)}/{name}"
    if name in {".", ".."}:
        return
    put(store, key, name.encode())
    assert await read(store, key) == name.encode()
    assert key in await collect(store.iter_keys())
    assert await store.delete_prefix(f"request-{len(name)}/") == 1


async def test_presigned_urls(store: Store, kind: str) -> None:
    put(store, "request/1-1", b"content")
    url = store.presign("request/1-1", 60, 'näme "x".parquet')
    with pytest.raises(ValueError, match="takes no key"):
        store.presign("../1-1", 60, "name")
    if kind != "s3":
        assert url is None
        return
    assert url is not None
    async with httpx.AsyncClient() as http:
        answer = await http.get(url, headers={"Range": "bytes=1-3"})
        assert (answer.status_code, answer.content) == (206, b"ont")
        saved_as = "attachment; filename=\"n_me _x_.parquet\"; filename*=UTF-8''n%C3%A4me%20%22x%22.parquet"
        assert answer.headers["content-disposition"] == saved_as
        assert (await http.get(url.replace("1-1?", "1-2?"))).status_code == 403
        assert (await http.delete(url)).status_code == 403
        assert (await http.get(url.partition("?")[0])).status_code == 403
    assert await read(store, "request/1-1") == b"content"


async def test_a_note_is_read_as_it_was_put_last(store: Store) -> None:
    assert store.read_note("notes/one.json") is None
    store.put_note("notes/one.json", b"first")
    store.put_note("notes/one.json", b"{}")
    assert store.read_note("notes/one.json") == b"{}"
    assert await read(store, "notes/one.json") == b"{}"
    known = await store.head("notes/one.json")
    assert known is not None
    assert known.size_bytes == 2
    assert list(store.scratch_folder().iterdir()) == []
    await store.delete("notes/one.json")
    assert store.read_note("notes/one.json") is None


def test_a_note_has_a_bound(store: Store) -> None:
    put(store, "one/large", b"x" * (MAX_NOTE_BYTES + 1))
    assert store.read_note("one/large") is None
    put(store, "one/largest", b"x" * MAX_NOTE_BYTES)
    assert store.read_note("one/largest") == b"x" * MAX_NOTE_BYTES


def test_a_worker_asks_whether_there_is_an_object(store: Store) -> None:
    put(store, "one/two", b"x")
    assert store.has("one/two")
    assert not store.has("one/three")
    assert not store.has("one")


@pytest.mark.parametrize("key", ["", "/", "a//b", "../a", "a/"])
def test_notes_obey_the_rule_of_keys(store: Store, key: str) -> None:
    for ask in (store.read_note, store.has, lambda key: store.put_note(key, b"x")):
        with pytest.raises(ValueError, match="the store takes no key"):
            ask(key)


async def test_a_probe_leaves_nothing_behind(store: Store) -> None:
    await probe(store)
    assert [key async for key in store.iter_keys()] == []
