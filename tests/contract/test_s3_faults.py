"""The S3 store when something goes wrong: clean errors in bounded time, and work goes on afterwards."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from refusing_s3 import refusing_s3
from seaweed_server import ACCESS_KEY, BUCKET, SECRET_KEY, SeaweedServer, require_seaweed, running_seaweed
from servicex_server.errors import (
    ConfigurationError,
    NotFound,
    ResourceExhausted,
    ServicexError,
    StoreRefused,
    StoreUnavailable,
)
from servicex_server.model.unit import Reason
from servicex_server.run.execute import to_failure
from servicex_server.store.open import open_store
from servicex_server.store.protocol import Store, StoredObject

MEBI = 2**20
SHORT: dict[str, Any] = {"put_patience_s": 0.3, "read_patience_s": 0.3}


@pytest.fixture
def store(seaweed: SeaweedServer, tmp_path: Path) -> Store:
    return seaweed.open_store(tmp_path / "scratch")


@pytest.fixture(scope="module")
def mortal() -> Iterator[SeaweedServer]:
    """A server that tests may kill, if they start it again."""
    require_seaweed()
    with running_seaweed() as server:
        yield server


@pytest.fixture
def killable(mortal: SeaweedServer) -> Iterator[SeaweedServer]:
    yield mortal
    if mortal.process is None:
        mortal.start()


def put(store: Store, key: str, content: bytes) -> StoredObject:
    path = store.scratch_folder() / "unfinished"
    path.write_bytes(content)
    return store.put_file(key, path)


async def read(store: Store, key: str) -> bytes:
    async with aclosing(store.stream(key, 0, 2**62)) as pieces:
        return b"".join([piece async for piece in pieces])


async def keys(store: Store) -> list[str]:
    return [key async for key in store.iter_keys()]


async def test_large_files_go_in_parts(store: Store, seaweed: SeaweedServer) -> None:
    content = os.urandom(MEBI) * 20
    stored = put(store, "request/1-1", content)
    assert stored.size_bytes == 20 * MEBI
    assert stored.etag.endswith("-3"), "20 MiB in parts of 8"
    assert await store.head("request/1-1") == stored
    assert await read(store, "request/1-1") == content
    assert "Uploads" not in seaweed.client().list_multipart_uploads(Bucket=BUCKET)


async def test_many_objects_are_listed_and_deleted_page_by_page(
    store: Store, seaweed: SeaweedServer, tmp_path: Path
) -> None:
    other = seaweed.open_store(tmp_path / "scratch", prefix="pages")

    def put_many(writer: int) -> None:
        client = seaweed.client()
        for n in range(275):
            client.put_object(Bucket=BUCKET, Key=f"pages/request/{writer}-{n}", Body=b"")

    threads = [threading.Thread(target=put_many, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(await keys(other)) == 1100
    assert await other.delete_prefix("request/") == 1100
    assert await keys(other) == []


async def test_uploads_of_killed_workers_are_removed(store: Store, seaweed: SeaweedServer) -> None:
    client = seaweed.client()
    prefix = store.presign("x", 1, "x").partition(f"/{BUCKET}/")[2].partition("/")[0]  # type: ignore[union-attr]
    for key in (f"{prefix}/request/a b+é", f"{prefix}/request/2", f"not-{prefix}/3"):
        client.create_multipart_upload(Bucket=BUCKET, Key=key)
    assert await store.clear_scratch(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert await store.clear_scratch(datetime.now(UTC) + timedelta(hours=1)) == 2
    left = client.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    assert [upload["Key"] for upload in left] == [f"not-{prefix}/3"]
    client.abort_multipart_upload(Bucket=BUCKET, Key=left[0]["Key"], UploadId=left[0]["UploadId"])


async def test_no_signature_gets_into_the_log(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await store.clear_scratch(datetime.now(UTC))
        store.presign("request/1-1", 60, "name")
        await store.head("request/1-1")
    assert "Signature" not in "".join(
        record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG
    )
    assert SECRET_KEY not in caplog.text


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (404, "NoSuchBucket", StoreRefused, "no such bucket; create it"),
        (403, "AccessDenied", StoreRefused, "read, write, list and delete"),
        (403, "SignatureDoesNotMatch", StoreRefused, "correct the credentials"),
        (403, "RequestTimeTooSkewed", StoreRefused, "clocks"),
        (400, "AuthorizationHeaderMalformed", StoreRefused, "region"),
        (400, "SomethingElse", StoreRefused, "no &amp; never"),
        (403, "QuotaExceeded", ResourceExhausted, "full"),
        (507, "XMinioStorageFull", ResourceExhausted, "full"),
        (500, "InternalError", StoreUnavailable, r"error of its own .*it may be full"),
        (503, "SlowDown", StoreUnavailable, "error of its own"),
    ],
)
async def test_refusals_are_told_in_words(
    tmp_path: Path, status: int, code: str, kind: type[ServicexError], words: str
) -> None:
    with refusing_s3(status, code) as server:
        store = open_store(
            "s3://results/a",
            scratch=tmp_path,
            endpoint=server.endpoint,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            **SHORT,
        )
        with pytest.raises(kind, match=words) as caught:
            put(store, "request/1-1", b"content")
        assert type(caught.value) is kind
        assert code in str(caught.value)
        assert caught.value.__cause__ is not None
        if kind is StoreRefused:
            assert len(server.calls) == 1, "asking again would not help"
        reason = to_failure(caught.value).reason
        assert reason is (Reason.RESOURCES if kind is ResourceExhausted else Reason.UNAVAILABLE)
        assert reason.is_transient
    assert list(store.scratch_folder().iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"secret_access_key": "wrong"}, "credentials"),
        ({"access_key_id": "unknown"}, "credentials"),
        ({"url": "s3://no-such-bucket/a"}, "no such bucket"),
    ],
)
async def test_wrong_settings_are_told_by_every_call(
    seaweed: SeaweedServer, tmp_path: Path, options: dict[str, str], words: str
) -> None:
    given = {
        "url": f"s3://{BUCKET}/a",
        "endpoint": seaweed.endpoint,
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
    }
    store = open_store(**(given | options), scratch=tmp_path, **SHORT)  # type: ignore[arg-type]
    with pytest.raises(StoreRefused, match=words):
        put(store, "request/1-1", b"content")
    for call in (
        lambda: store.head("request/1-1"),
        lambda: read(store, "request/1-1"),
        lambda: store.delete("request/1-1"),
        lambda: store.delete_prefix("request/"),
        lambda: keys(store),
    ):
        with pytest.raises(StoreRefused, match=words):
            await call()


async def test_credentials_that_vanish_are_told(seaweed: SeaweedServer, tmp_path: Path) -> None:
    key, secret = tmp_path / "key", tmp_path / "secret"
    key.write_text(ACCESS_KEY)
    secret.write_text(SECRET_KEY)
    store = open_store(
        f"s3://{BUCKET}/a",
        scratch=tmp_path / "scratch",
        endpoint=seaweed.endpoint,
        access_key_file=key,
        secret_key_file=secret,
    )
    secret.unlink()
    with pytest.raises(StoreRefused, match=r"key file .*secret cannot be read: No such file"):
        put(store, "request/1-1", b"content")
    secret.write_text(SECRET_KEY)
    put(store, "request/1-1", b"content")
    assert await read(store, "request/1-1") == b"content"


async def test_a_process_that_forks_may_hold_a_store_that_it_has_not_used(
    seaweed: SeaweedServer, tmp_path: Path
) -> None:
    """In a process of its own, since this one has used obstore already."""
    script = f"""
import asyncio, os, sys
from pathlib import Path
from seaweed_server import ACCESS_KEY, SECRET_KEY, BUCKET
from servicex_server.errors import ConfigurationError
from servicex_server.store.open import open_store

def put(store, key):
    path = store.scratch_folder() / str(os.getpid())
    path.write_bytes(b"content")
    return store.put_file(key, path)

def fork(work):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def refused():
    try:
        put(store, "request/4-1")
    except ConfigurationError as error:
        assert "start worker processes first" in error.message
    else:
        raise AssertionError

store = open_store("s3://{BUCKET}/forks", scratch={str(tmp_path)!r}, endpoint={seaweed.endpoint!r},
                   access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)
print([fork(lambda n=n: put(store, f"request/{{n}}-1")) for n in (1, 2)])
print(put(store, "request/3-1").size_bytes)
print(fork(refused))
print(put(store, "request/3-1").size_bytes)
print(asyncio.run(store.head("request/1-1")).size_bytes)
"""
    # Its source is this test; what the tests import it finds as they do.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", script),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        said, complaints = await process.communicate()
    assert said.decode().split("\n") == ["[0, 0]", "7", "0", "7", "7", ""], complaints.decode()
    assert process.returncode == 0, "obstore's threads do not survive the interpreter either"
    store = seaweed.open_store(tmp_path, prefix="forks")
    assert sorted(await keys(store)) == ["request/1-1", "request/2-1", "request/3-1"]


async def test_everything_fails_cleanly_while_the_store_is_down_and_works_again_after(
    killable: SeaweedServer, tmp_path: Path
) -> None:
    store = killable.open_store(tmp_path / "scratch", **SHORT)
    put(store, "request/1-1", b"content")
    killable.kill()
    with pytest.raises(StoreUnavailable, match="cannot be reached: connection refused"):
        put(store, "request/2-1", b"other")
    assert list(store.scratch_folder().iterdir()) == []
    for call in (
        lambda: store.head("request/1-1"),
        lambda: read(store, "request/1-1"),
        lambda: store.delete("request/1-1"),
        lambda: store.delete_prefix("request/"),
        lambda: keys(store),
        lambda: anext(aiter(store.iter_prefixes())),
        lambda: store.clear_scratch(datetime.now(UTC)),
    ):
        with pytest.raises(StoreUnavailable, match="cannot be reached") as caught:
            await call()
        assert not isinstance(caught.value, StoreRefused)
    killable.start()
    assert await read(store, "request/1-1") == b"content"
    put(store, "request/2-1", b"other")
    assert sorted(await keys(store)) == ["request/1-1", "request/2-1"]


async def test_a_put_waits_for_a_store_that_comes_back(
    killable: SeaweedServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = killable.open_store(tmp_path / "scratch", put_patience_s=20.0, read_patience_s=0.2)
    put(store, "request/1-1", b"content")
    killable.kill()
    putting = asyncio.create_task(asyncio.to_thread(put, store, "request/2-1", os.urandom(MEBI) * 20))
    await until(lambda: "object.put: tried again" in caplog.text)
    await asyncio.to_thread(killable.start)
    async with asyncio.timeout(30):
        stored = await putting
    assert await store.head("request/2-1") == stored


async def test_a_store_that_dies_in_the_middle_of_an_upload_leaves_nothing_to_be_seen(
    killable: SeaweedServer, tmp_path: Path
) -> None:
    store = killable.open_store(tmp_path / "scratch", **SHORT)
    path = store.scratch_folder() / "unfinished"
    with path.open("wb") as file:
        file.truncate(400 * MEBI)
    putting = asyncio.create_task(asyncio.to_thread(store.put_file, "request/1-1", path))
    client = killable.client()
    uploads: list[dict[str, str]] = []

    def has_parts() -> bool:
        uploads[:] = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return any(
            client.list_parts(Bucket=BUCKET, Key=one["Key"], UploadId=one["UploadId"]).get("Parts")
            for one in uploads
        )

    await until(lambda: has_parts() or putting.done())
    assert not putting.done()
    killable.kill()
    with pytest.raises(StoreUnavailable):
        await putting
    assert not path.exists()
    await asyncio.to_thread(killable.start)
    assert await keys(store) == []
    assert await store.head("request/1-1") is None
    assert await store.clear_scratch(datetime.now(UTC) + timedelta(hours=1)) == 1


@pytest.fixture
async def begun(
    killable: SeaweedServer, tmp_path: Path
) -> AsyncIterator[tuple[Store, AsyncIterator[bytes], bytes]]:
    """A store, a stream of which one piece has been read, and the whole content."""
    store = killable.open_store(tmp_path / "scratch", put_patience_s=1.0, read_patience_s=3.0)
    content = os.urandom(MEBI) * 40
    put(store, "request/1-1", content)
    async with aclosing(store.stream("request/1-1", 0, len(content))) as stream:
        yield store, stream, content


async def test_a_stream_ends_with_an_error_when_the_store_dies(
    begun: tuple[Store, AsyncIterator[bytes], bytes], killable: SeaweedServer
) -> None:
    _, stream, content = begun
    pieces = [await anext(stream)]
    killable.kill()
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await take_rest(stream, pieces)
    assert content.startswith(b"".join(pieces))


async def test_a_stream_goes_on_where_it_was_when_the_store_restarts(
    begun: tuple[Store, AsyncIterator[bytes], bytes], killable: SeaweedServer
) -> None:
    _, stream, content = begun
    read_so_far = [await anext(stream)]
    killable.kill()
    killable.start()
    await take_rest(stream, read_so_far)
    assert b"".join(read_so_far) == content


@pytest.mark.parametrize("successor", [None, b"y" * MEBI * 40])
async def test_a_stream_never_mixes_two_versions(
    begun: tuple[Store, AsyncIterator[bytes], bytes], killable: SeaweedServer, successor: bytes | None
) -> None:
    store, stream, content = begun
    read_so_far = [await anext(stream)]
    killable.kill()
    killable.start()
    if successor is None:
        await store.delete("request/1-1")
    else:
        put(store, "request/1-1", successor)
    with pytest.raises(NotFound, match="any more"):
        await take_rest(stream, read_so_far)
    assert content.startswith(b"".join(read_so_far))


async def take_rest(stream: AsyncIterator[bytes], pieces: list[bytes]) -> None:
    async with asyncio.timeout(30):
        async for piece in stream:
            pieces.append(piece)  # noqa: PERF401  what came before an error is kept


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(condition):
            pass


def test_the_scratch_folder_is_private(store: Store) -> None:
    assert store.scratch_folder().stat().st_mode & 0o077 == 0
    assert issubclass(ConfigurationError, ServicexError)
