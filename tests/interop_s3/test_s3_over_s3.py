"""The S3 endpoint before a store that is itself an S3 server: what clients get, and what it takes."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import psutil
import pytest
from botocore.config import Config

from bucket_server import BucketServer, serve
from seaweed_server import SeaweedServer, require_seaweed, running_seaweed
from servicex_server.model.bucket import BucketKey, BucketObject

MEBI = 2**20
BIG_BYTES = 200 * MEBI
READERS = 16
CONTENT = os.urandom(MEBI) * 3 + b"tail"


@pytest.fixture(scope="module")
def server(seaweed: SeaweedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    folder = tmp_path_factory.mktemp("over")
    with serve(folder, seaweed.open_store(folder / "scratch")) as running:
        yield running


def connect(server: BucketServer, key: BucketKey) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


def signed_url(server: BucketServer, key: BucketKey, name: str) -> str:
    client = connect(server, key)
    url = client.generate_presigned_url("get_object", Params={"Bucket": key.bucket, "Key": name})
    client.close()
    return str(url)


def test_clients_read_through_it(server: BucketServer, tmp_path: Path) -> None:
    key = server.add_bucket()
    stored = server.put(key, "file.parquet", CONTENT)
    client = connect(server, key)
    head = client.head_object(Bucket=key.bucket, Key="file.parquet")
    assert head["ContentLength"] == len(CONTENT)
    assert head["ETag"] == f'"{stored.etag}"'
    assert client.get_object(Bucket=key.bucket, Key="file.parquet")["Body"].read() == CONTENT
    for text, extent in (
        ("bytes=0-0", slice(0, 1)),
        ("bytes=-4", slice(len(CONTENT) - 4, None)),
        (f"bytes={MEBI - 1}-{2 * MEBI}", slice(MEBI - 1, 2 * MEBI + 1)),
        (f"bytes={3 * MEBI}-", slice(3 * MEBI, None)),
    ):
        answer = client.get_object(Bucket=key.bucket, Key="file.parquet", Range=text)
        assert answer["Body"].read() == CONTENT[extent]
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
    listed = client.list_objects_v2(Bucket=key.bucket)["Contents"]
    assert [(found["Key"], found["Size"]) for found in listed] == [("file.parquet", len(CONTENT))]
    path = tmp_path / "got"
    client.download_file(key.bucket, "file.parquet", str(path))
    assert path.read_bytes() == CONTENT
    client.close()


@pytest.fixture(scope="module")
def big(server: BucketServer) -> BucketKey:
    key = server.add_bucket()
    path = server.store.scratch_folder() / "big"
    with path.open("wb") as file:
        file.truncate(BIG_BYTES)
    stored = server.store.put_file(f"{key.bucket}/{uuid4().hex}", path)
    found = BucketObject("big", stored.size_bytes, stored.etag, stored.modified, stored.key)
    server.buckets.add_object(key.bucket, found)
    return key


def test_many_slow_readers_of_a_large_object_take_bounded_memory(
    server: BucketServer, big: BucketKey
) -> None:
    path = signed_url(server, big, "big").removeprefix(server.url)
    me = psutil.Process()
    before = me.memory_info().rss
    buffer = bytearray(64 * 1024)
    readers = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(READERS)]
    request = f"GET {path} HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode()
    try:
        for reader in readers:
            reader.sendall(request)
        highest = 0
        # In turns, so that all are open and most of them stand still, with whatever was read ahead.
        for _ in range(12):
            for reader in readers:
                n_left = MEBI
                while n_left > 0:
                    n_read = reader.recv_into(buffer, min(n_left, len(buffer)))
                    assert n_read > 0, "the answer ended"
                    n_left -= n_read
            highest = max(highest, me.memory_info().rss)
    finally:
        for reader in readers:
            reader.close()
    # Each holds a piece or two, and what its two connections buffer.
    assert highest - before < READERS * 10 * MEBI


def test_readers_side_by_side_each_get_all_of_it(server: BucketServer) -> None:
    key = server.add_bucket()
    server.put(key, "file", CONTENT)
    url = signed_url(server, key, "file")

    def fetch(_: int) -> str:
        return hashlib.sha256(httpx.get(url, timeout=30).content).hexdigest()

    with ThreadPoolExecutor(READERS) as pool:
        digests = set(pool.map(fetch, range(2 * READERS)))
    assert digests == {hashlib.sha256(CONTENT).hexdigest()}


def test_an_absent_store_is_told_and_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    require_seaweed()
    with running_seaweed() as seaweed:
        store = seaweed.open_store(tmp_path / "scratch", read_patience_s=0.5)
        with serve(tmp_path, store) as server:
            key = server.add_bucket()
            size = 64 * MEBI
            server.put(key, "big", bytes(size))
            url = signed_url(server, key, "big")
            with httpx.stream("GET", url, timeout=30) as answer:
                assert answer.status_code == 200
                pieces = answer.iter_raw(MEBI)
                n_read = len(next(pieces))
                seaweed.kill()
                with pytest.raises(httpx.RemoteProtocolError):
                    n_read += sum(map(len, pieces))
            assert n_read < size
            assert "object.cut" in caplog.text
            assert "cannot be reached" in caplog.text
            refused = httpx.get(url, timeout=30)
            assert refused.status_code == 503
            assert "SlowDown" in refused.text
            seaweed.start()
            assert httpx.get(url, timeout=30).content == bytes(size)
