"""minio, obstore, pyarrow and aioboto3 read the same results as boto3."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aioboto3  # type: ignore[import-untyped]  # it ships no types
import obstore
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
from boto3.s3.transfer import TransferConfig
from minio import Minio
from minio.error import S3Error
from obstore.store import S3Store

from bucket_server import ODD_KEYS, BucketServer, serve
from servicex_server.model.bucket import BucketKey

BIG = bytes(range(256)) * (20 * 1024 * 1024 // 256) + b"tail"
# Object names of these clients are paths: no empty, '.'-like or trailing parts they would tidy away.
PATHS = [name for name in ODD_KEYS if not name.startswith(".")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return pa.table({"pt": [float(n) for n in range(50_000)], "n": list(range(50_000))})


@pytest.fixture(scope="module")
def filled(server: BucketServer, table: pa.Table) -> BucketKey:
    key = server.add_bucket()
    for name in ODD_KEYS:
        server.put(key, name, name.encode())
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=5_000)
    server.put(key, "root:::host:table.parquet", sink.getvalue().to_pybytes())
    server.put(key, "big", BIG)
    return key


@pytest.fixture(scope="module")
def many(server: BucketServer) -> tuple[BucketKey, list[str]]:
    key = server.add_bucket()
    names = [f"folder/root:::file{n:05}.root" for n in range(2500)]
    server.list_only(key, names)
    return key, names


class TestMinio:
    @pytest.fixture
    def minio(self, server: BucketServer, filled: BucketKey) -> Minio:
        return Minio(server.host, access_key=filled.access_key, secret_key=filled.secret_key, secure=False)

    @pytest.mark.parametrize("name", ODD_KEYS)
    def test_reads_any_key(self, minio: Minio, filled: BucketKey, name: str) -> None:
        with minio.get_object(bucket_name=filled.bucket, object_name=name) as answer:
            assert answer.read() == name.encode()
        with minio.get_object(bucket_name=filled.bucket, object_name=name, offset=2, length=3) as answer:
            assert answer.read() == name.encode()[2:5]
        found = minio.stat_object(bucket_name=filled.bucket, object_name=name)
        assert found.size == len(name.encode())
        url = minio.presigned_get_object(
            bucket_name=filled.bucket, object_name=name, expires=timedelta(days=7)
        )
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == name.encode()

    @pytest.mark.parametrize("use_api_v1", [False, True])
    def test_lists(
        self, server: BucketServer, many: tuple[BucketKey, list[str]], *, use_api_v1: bool
    ) -> None:
        key, names = many
        minio = Minio(server.host, access_key=key.access_key, secret_key=key.secret_key, secure=False)
        found = minio.list_objects(bucket_name=key.bucket, recursive=True, use_api_v1=use_api_v1)
        assert [entry.object_name for entry in found] == names
        found = minio.list_objects(bucket_name=key.bucket, use_api_v1=use_api_v1)
        assert [(entry.object_name, entry.is_dir) for entry in found] == [("folder/", True)]

    def test_asks_about_buckets(self, minio: Minio, filled: BucketKey) -> None:
        assert minio.bucket_exists(bucket_name=filled.bucket)
        assert [bucket.name for bucket in minio.list_buckets()] == [filled.bucket]

    def test_is_told_why_not(self, server: BucketServer, filled: BucketKey) -> None:
        minio = Minio(server.host, access_key=filled.access_key, secret_key="wrong", secure=False)
        with pytest.raises(S3Error) as caught:
            minio.get_object(bucket_name=filled.bucket, object_name=ODD_KEYS[0])
        assert caught.value.code == "SignatureDoesNotMatch"


class TestObstore:
    @pytest.fixture
    def remote(self, server: BucketServer, filled: BucketKey) -> S3Store:
        return self.connect(server, filled)

    def connect(self, server: BucketServer, key: BucketKey) -> S3Store:
        return S3Store(
            key.bucket,
            endpoint=server.url,
            access_key_id=key.access_key,
            secret_access_key=key.secret_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    @pytest.mark.parametrize("name", PATHS)
    def test_reads_any_key(self, remote: S3Store, name: str) -> None:
        assert bytes(obstore.get(remote, name).bytes()) == name.encode()
        assert bytes(obstore.get_range(remote, name, start=1, end=4)) == name.encode()[1:4]
        assert obstore.head(remote, name)["size"] == len(name.encode())

    def test_reads_ranges(self, remote: S3Store) -> None:
        starts, ends = [0, 5_000_000, len(BIG) - 4], [10, 5_000_100, len(BIG)]
        pieces = obstore.get_ranges(remote, "big", starts=starts, ends=ends)
        assert [bytes(piece) for piece in pieces] == [
            BIG[start:end] for start, end in zip(starts, ends, strict=True)
        ]

    def test_lists(self, server: BucketServer, many: tuple[BucketKey, list[str]]) -> None:
        key, names = many
        remote = self.connect(server, key)
        assert [entry["path"] for chunk in obstore.list(remote) for entry in chunk] == names
        result = obstore.list_with_delimiter(remote)
        assert (list(result["common_prefixes"]), list(result["objects"])) == (["folder"], [])

    def test_presigned_urls(self, remote: S3Store) -> None:
        for name in PATHS:
            url = obstore.sign(remote, "GET", name, timedelta(hours=1))
            with urllib.request.urlopen(url) as answer:
                assert answer.read() == name.encode()


class TestPyarrow:
    @pytest.fixture
    def files(self, server: BucketServer, filled: BucketKey) -> Any:
        return self.connect(server, filled)

    def connect(self, server: BucketServer, key: BucketKey) -> Any:
        return pyarrow.fs.S3FileSystem(
            access_key=key.access_key,
            secret_key=key.secret_key,
            endpoint_override=server.host,
            scheme="http",
            region="us-east-1",
        )

    @pytest.mark.parametrize("name", PATHS)
    def test_reads_any_key(self, files: Any, filled: BucketKey, name: str) -> None:
        path = f"{filled.bucket}/{name}"
        assert files.get_file_info(path).size == len(name.encode())
        with files.open_input_file(path) as file:
            assert file.read_at(3, 1) == name.encode()[1:4]
            assert file.read() == name.encode()
        with files.open_input_stream(path) as stream:
            assert stream.read() == name.encode()

    def test_reads_parquet(self, files: Any, filled: BucketKey, table: pa.Table) -> None:
        path = f"{filled.bucket}/root:::host:table.parquet"
        assert pq.read_table(path, filesystem=files).equals(table)
        found = pq.read_table(path, filesystem=files, columns=["n"], filters=[("n", ">=", 49_990)])
        assert found["n"].to_pylist() == list(range(49_990, 50_000))

    def test_lists(self, server: BucketServer, many: tuple[BucketKey, list[str]]) -> None:
        key, names = many
        files = self.connect(server, key)
        found = files.get_file_info(pyarrow.fs.FileSelector(key.bucket, recursive=True))
        assert sorted(info.path for info in found if info.is_file) == [
            f"{key.bucket}/{name}" for name in names
        ]
        found = files.get_file_info(pyarrow.fs.FileSelector(key.bucket))
        assert [info.path for info in found] == [f"{key.bucket}/folder"]
        missing = files.get_file_info(f"{key.bucket}/missing")
        assert missing.type == pyarrow.fs.FileType.NotFound

    def test_writes_nothing(self, files: Any, filled: BucketKey) -> None:
        with pytest.raises(OSError, match="MethodNotAllowed"):
            files.open_output_stream(f"{filled.bucket}/new")
        with pytest.raises(OSError, match="ACCESS_DENIED"):
            files.delete_file(f"{filled.bucket}/big")


class TestAioboto3:
    """As the official client does it: one client for each step, five streams, parts of 8 MiB."""

    @pytest.fixture
    def session(self, filled: BucketKey) -> Any:
        return aioboto3.Session(aws_access_key_id=filled.access_key, aws_secret_access_key=filled.secret_key)

    async def test_downloads_in_ranged_parts(
        self, server: BucketServer, filled: BucketKey, session: Any, tmp_path: Path
    ) -> None:
        async with session.client("s3", endpoint_url=server.url) as s3:
            assert (await s3.head_object(Bucket=filled.bucket, Key="big"))["ContentLength"] == len(BIG)
            target = tmp_path / "big"
            await s3.download_file(
                Bucket=filled.bucket,
                Key="big",
                Filename=str(target),
                Config=TransferConfig(max_concurrency=5),
            )
        assert target.read_bytes() == BIG

    async def test_ten_files_at_once(
        self, server: BucketServer, filled: BucketKey, session: Any, tmp_path: Path
    ) -> None:
        async def fetch(n: int, name: str) -> bytes:
            async with session.client("s3", endpoint_url=server.url) as s3:
                target = tmp_path / str(n)
                await s3.download_file(Bucket=filled.bucket, Key=name, Filename=str(target))
                return target.read_bytes()

        found = await asyncio.gather(*(fetch(n, name) for n, name in enumerate(ODD_KEYS)))
        assert found == [name.encode() for name in ODD_KEYS]

    async def test_signed_urls_live_a_year(
        self, server: BucketServer, filled: BucketKey, session: Any
    ) -> None:
        async with session.client("s3", endpoint_url=server.url) as s3:
            for name in ODD_KEYS:
                url = await s3.generate_presigned_url(
                    "get_object", Params={"Bucket": filled.bucket, "Key": name}, ExpiresIn=365 * 24 * 60 * 60
                )
                assert "AWSAccessKeyId=" in url
                with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
                    assert answer.read() == name.encode()

    async def test_lists(self, server: BucketServer, many: tuple[BucketKey, list[str]]) -> None:
        key, names = many
        session = aioboto3.Session(aws_access_key_id=key.access_key, aws_secret_access_key=key.secret_key)
        async with session.client("s3", endpoint_url=server.url) as s3:
            pages = s3.get_paginator("list_objects_v2").paginate(Bucket=key.bucket)
            listing = await pages.build_full_result()
        assert [entry["Key"] for entry in listing["Contents"]] == names
