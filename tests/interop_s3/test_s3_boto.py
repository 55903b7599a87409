"""boto3 reads a request's results: the way of the official client and of most tools."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from bucket_server import ODD_KEYS, BucketServer, serve
from servicex_server.model.bucket import BucketKey

MakeClient = Callable[..., Any]
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
