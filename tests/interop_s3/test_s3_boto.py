"""boto3 reads a request's results: the way of the official client and of most tools."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from bucket_server import ODD_KEYS, BucketServer, serve
from servicex_server.model.bucket import BucketKey

BIG = bytes(range(256)) * (20 * 1024 * 1024 // 256) + b"tail"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with serve(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def filled(server: BucketServer) -> BucketKey:
    key = server.add_bucket()
    for name in ODD_KEYS:
        server.put(key, name, name.encode())
    return key


def connect(server: BucketServer, key: BucketKey, **config: Any) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        region_name="us-east-1",
        config=Config(**{"s3": {"addressing_style": "path"}, "retries": {"max_attempts": 1}, **config}),
    )


@pytest.fixture(params=["s3v4", "s3", "s3v4-unsigned-payload"])
def client(request: pytest.FixtureRequest, server: BucketServer, filled: BucketKey) -> Iterator[Any]:
    version = str(request.param)
    options: dict[str, Any] = {"signature_version": version.removesuffix("-unsigned-payload")}
    if version.endswith("-unsigned-payload"):
        options["s3"] = {"addressing_style": "path", "payload_signing_enabled": False}
    made = connect(server, filled, **options)
    yield made
    made.close()


@pytest.mark.parametrize("name", ODD_KEYS)
def test_get_and_head_any_key(client: Any, filled: BucketKey, name: str) -> None:
    answer = client.get_object(Bucket=filled.bucket, Key=name)
    assert answer["Body"].read() == name.encode()
    head = client.head_object(Bucket=filled.bucket, Key=name)
    assert head["ContentLength"] == answer["ContentLength"] == len(name.encode())
    assert head["ETag"] == answer["ETag"]
    assert head["LastModified"] == answer["LastModified"]
    assert head["ContentType"] == "application/octet-stream"
    assert head["AcceptRanges"] == "bytes"


@pytest.mark.parametrize("version", ["s3v4", "s3"])
@pytest.mark.parametrize("name", ODD_KEYS)
def test_presigned_urls_open_any_key(
    server: BucketServer, filled: BucketKey, name: str, version: str
) -> None:
    client = connect(server, filled, signature_version=version)
    expires_s = 3600 if version == "s3v4" else 365 * 24 * 3600
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": filled.bucket, "Key": name}, ExpiresIn=expires_s
    )
    client.close()
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == name.encode()
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")) as answer:
        assert answer.headers["content-length"] == str(len(name.encode()))
    ranged = urllib.request.Request(url, headers={"Range": "bytes=1-3"})
    with urllib.request.urlopen(ranged) as answer:
        assert (answer.status, answer.read()) == (206, name.encode()[1:4])


def test_ranges(client: Any, server: BucketServer, filled: BucketKey) -> None:
    content = bytes(range(256))
    server.put(filled, "range:d", content)
    for text, expected in [
        ("bytes=0-0", content[:1]),
        ("bytes=10-19", content[10:20]),
        ("bytes=250-", content[250:]),
        ("bytes=-6", content[-6:]),
        ("bytes=-1000", content),
        ("bytes=200-10000", content[200:]),
    ]:
        answer = client.get_object(Bucket=filled.bucket, Key="range:d", Range=text)
        assert answer["Body"].read() == expected
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 206
        start = content.index(expected)
        assert answer["ContentRange"] == f"bytes {start}-{start + len(expected) - 1}/256"
    for text in ("bytes=256-", "bytes=1000-2000", "bytes=-0"):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=filled.bucket, Key="range:d", Range=text)
        assert caught.value.response["Error"]["Code"] == "InvalidRange"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 416


def test_conditions(client: Any, server: BucketServer, filled: BucketKey) -> None:
    found = server.put(filled, "condition", b"content")
    tag = f'"{found.etag}"'
    ask = {"Bucket": filled.bucket, "Key": "condition"}
    assert client.get_object(**ask, IfMatch=tag, IfModifiedSince="2020-01-01")["ETag"] == tag
    assert client.get_object(**ask, IfNoneMatch='"other"', IfUnmodifiedSince="2100-01-01")["ETag"] == tag
    refused: list[tuple[dict[str, Any], int]] = [
        ({"IfMatch": '"other"'}, 412),
        ({"IfUnmodifiedSince": "2020-01-01"}, 412),
        ({"IfNoneMatch": tag}, 304),
        ({"IfModifiedSince": found.modified}, 304),
    ]
    for condition, status in refused:
        with pytest.raises(ClientError) as caught:
            client.get_object(**ask, **condition)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def test_bucket_questions(client: Any, filled: BucketKey) -> None:
    assert client.get_bucket_location(Bucket=filled.bucket)["LocationConstraint"] is None
    assert client.head_bucket(Bucket=filled.bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [filled.bucket]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("page_size", [1000, 4])
def test_listings_page_through_everything(
    client: Any, server: BucketServer, operation: str, page_size: int
) -> None:
    key = server.add_bucket()
    names = [*ODD_KEYS, "a/1", "a/2", "a/b/1", "a/b/2", "a/c", "a:1", "b/1", "b/2"]
    server.list_only(key, names)
    made = connect(server, key, signature_version=client.meta.config.signature_version)
    paginator = made.get_paginator(operation)

    def read(**asked: str) -> tuple[list[str], list[str]]:
        pages = list(paginator.paginate(Bucket=key.bucket, PaginationConfig={"PageSize": page_size}, **asked))
        assert all(
            len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) == page_size
            for page in pages[:-1]
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
        return keys, prefixes

    ordered = sorted(names, key=str.encode)
    assert read() == (ordered, [])
    flat = [name for name in ordered if "/" not in name]
    assert read(Delimiter="/") == (flat, ["a/", "b/", "folder/"])
    assert read(Delimiter="/", Prefix="a/") == (["a/1", "a/2", "a/c"], ["a/b/"])
    assert read(Prefix="a/b") == (["a/b/1", "a/b/2"], [])
    assert read(Prefix="a/b", Delimiter="/") == ([], ["a/b/"])
    assert read(Prefix="nothing") == ([], [])
    made.close()


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_2500_keys(server: BucketServer, operation: str) -> None:
    key = server.add_bucket()
    names = [f"root:::host:file{n:05}.root.parquet" for n in range(2500)]
    server.list_only(key, names)
    client = connect(server, key)
    pages = list(client.get_paginator(operation).paginate(Bucket=key.bucket))
    client.close()
    assert [len(page["Contents"]) for page in pages] == [1000, 1000, 500]
    assert [entry["Key"] for page in pages for entry in page["Contents"]] == names
    assert [entry["Size"] for page in pages for entry in page["Contents"]] == list(range(2500))
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    if operation == "list_objects_v2":
        assert [page["KeyCount"] for page in pages] == [1000, 1000, 500]


def test_listing_details(server: BucketServer) -> None:
    key = server.add_bucket()
    server.list_only(key, ["a", "b", "c/1", "c/2", "d"])
    client = connect(server, key)
    answer = client.list_objects_v2(Bucket=key.bucket, StartAfter="a", MaxKeys=2, FetchOwner=True)
    assert [entry["Key"] for entry in answer["Contents"]] == ["b", "c/1"]
    assert answer["StartAfter"] == "a"
    assert answer["Contents"][0]["Owner"]["ID"]
    assert "Owner" not in client.list_objects_v2(Bucket=key.bucket)["Contents"][0]
    assert "Owner" in client.list_objects(Bucket=key.bucket)["Contents"][0]
    # A start in the middle of a common prefix still shows it, one at its name does not.
    answer = client.list_objects_v2(Bucket=key.bucket, StartAfter="c/1", Delimiter="/")
    assert [entry["Prefix"] for entry in answer["CommonPrefixes"]] == ["c/"]
    answer = client.list_objects(Bucket=key.bucket, Marker="c/", Delimiter="/")
    assert ([entry["Key"] for entry in answer["Contents"]], answer.get("CommonPrefixes")) == (["d"], None)
    answer = client.list_objects_v2(Bucket=key.bucket, MaxKeys=0)
    assert (answer["KeyCount"], answer["IsTruncated"]) == (0, False)
    assert client.list_objects_v2(Bucket=key.bucket, MaxKeys=5000)["MaxKeys"] == 1000
    with pytest.raises(ClientError, match="InvalidArgument"):
        client.list_objects_v2(Bucket=key.bucket, ContinuationToken="no token")
    client.close()


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_download_in_parallel_parts(server: BucketServer, tmp_path: Path, version: str) -> None:
    key = server.add_bucket()
    server.put(key, "big:file.root", BIG)
    client = connect(server, key, signature_version=version)
    transfer = TransferConfig(multipart_threshold=2**20, multipart_chunksize=2**20, max_concurrency=8)
    target = tmp_path / "big"
    client.download_file(key.bucket, "big:file.root", str(target), Config=transfer)
    client.close()
    assert target.read_bytes() == BIG


def test_overridden_headers_of_presigned_urls(server: BucketServer, filled: BucketKey) -> None:
    for version in ("s3v4", "s3"):
        client = connect(server, filled, signature_version=version)
        ask = {
            "Bucket": filled.bucket,
            "Key": ODD_KEYS[0],
            "ResponseContentType": "text/plain",
            "ResponseContentDisposition": 'attachment; filename="a b.root"',
        }
        url = client.generate_presigned_url("get_object", Params=ask)
        client.close()
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["content-type"] == "text/plain"
            assert answer.headers["content-disposition"] == 'attachment; filename="a b.root"'
            # Bytes of a stranger's choosing must not become a page of this server.
            assert "sandbox" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("region", ["eu-central-1", "us-west-2"])
def test_any_region_may_be_signed_for(server: BucketServer, filled: BucketKey, region: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=filled.access_key,
        aws_secret_access_key=filled.secret_key,
        region_name=region,
    )
    assert client.get_object(Bucket=filled.bucket, Key=ODD_KEYS[1])["Body"].read() == ODD_KEYS[1].encode()
    client.close()


def test_missing_things(client: Any, server: BucketServer, filled: BucketKey) -> None:
    with pytest.raises(ClientError) as caught:
        client.get_object(Bucket=filled.bucket, Key="missing")
    assert caught.value.response["Error"]["Code"] == "NoSuchKey"
    with pytest.raises(ClientError) as caught:
        client.head_object(Bucket=filled.bucket, Key="missing")
    assert caught.value.response["Error"]["Code"] == "404"
    gone = server.add_bucket()
    server.buckets.delete_bucket(gone.bucket)
    orphan = connect(server, gone)
    asked: list[Callable[[], object]] = [
        lambda: orphan.get_object(Bucket=gone.bucket, Key="a"),
        lambda: orphan.list_objects_v2(Bucket=gone.bucket),
    ]
    for ask in asked:
        with pytest.raises(ClientError) as caught:
            ask()
        assert caught.value.response["Error"]["Code"] == "NoSuchBucket"
    server.list_only(filled, ["listed-but-lost"])
    for read in (client.get_object, client.head_object):
        with pytest.raises(ClientError) as caught:
            read(Bucket=filled.bucket, Key="listed-but-lost")
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    orphan.close()


def test_nothing_can_be_written(client: Any, server: BucketServer, filled: BucketKey) -> None:
    bucket, name = filled.bucket, ODD_KEYS[0]
    asked: list[Callable[[], object]] = [
        lambda: client.put_object(Bucket=bucket, Key=name, Body=b"other"),
        lambda: client.delete_object(Bucket=bucket, Key=name),
        lambda: client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": name}]}),
        lambda: client.create_multipart_upload(Bucket=bucket, Key=name),
        lambda: client.create_bucket(Bucket=bucket),
        lambda: client.delete_bucket(Bucket=bucket),
        lambda: client.put_object_acl(Bucket=bucket, Key=name, ACL="public-read"),
        lambda: client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/{name}"),
        lambda: client.get_object_acl(Bucket=bucket, Key=name),
        lambda: client.get_bucket_policy(Bucket=bucket),
        lambda: client.list_object_versions(Bucket=bucket),
        lambda: client.list_multipart_uploads(Bucket=bucket),
    ]
    for ask in asked:
        with pytest.raises(ClientError) as caught:
            ask()
        assert caught.value.response["Error"]["Code"] in {
            "AccessDenied",
            "MethodNotAllowed",
            "NotImplemented",
        }
    assert client.get_object(Bucket=bucket, Key=name)["Body"].read() == name.encode()
