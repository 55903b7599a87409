"""Signatures against the examples that AWS publishes, and against whatever else may arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.types import Message, Scope

from servicex_server.api.s3.credential import read_credential
from servicex_server.api.s3.endpoint import S3Endpoint
from servicex_server.api.s3.request import read_request
from servicex_server.api.s3.signature import is_right
from servicex_server.model.bucket import BucketKey, MemoryBuckets
from servicex_server.model.ids import RequestId
from servicex_server.store.backends.memory import MemoryStore

EXAMPLE_KEY = "AKIAIOSFODNN7EXAMPLE"
EXAMPLE_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
NOW = datetime(2013, 5, 24, tzinfo=UTC)
BUCKET = RequestId("6b0f6ba8-9f0d-4ff1-8b8f-1f1f0d7c9a11")


def make_scope(
    raw_path: bytes, query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None, method: str = "GET"
) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": "/decoded by the server, not used",
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers or [],
    }


def is_accepted(scope: Scope, now: datetime, secret: str = EXAMPLE_SECRET) -> bool:
    request = read_request(scope)
    return is_right(request, read_credential(request, now), secret)


# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            b"/test.txt",
            b"",
            {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (b"/", b"lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        (
            b"/",
            b"max-keys=2&prefix=J",
            {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_published_sigv4_headers(path: bytes, query: bytes, headers: dict[str, str], signature: str) -> None:
    signed = {
        "host": "examplebucket.s3.amazonaws.com",
        **headers,
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
    }
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={EXAMPLE_KEY}/20130524/us-east-1/s3/aws4_request, "
        f"SignedHeaders={';'.join(sorted(signed))}, Signature={signature}"
    )
    raw = [(name.encode(), value.encode()) for name, value in signed.items()]
    scope = make_scope(path, query, [*raw, (b"authorization", authorization.encode())])
    assert is_accepted(scope, NOW)
    assert not is_accepted(scope, NOW, "another secret")


# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
def test_published_sigv4_query() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={quote(EXAMPLE_KEY + '/20130524/us-east-1/s3/aws4_request', safe='')}"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    headers = [(b"host", b"examplebucket.s3.amazonaws.com")]
    assert is_accepted(make_scope(b"/test.txt", query.encode(), headers), NOW + timedelta(days=1))
    assert not is_accepted(make_scope(b"/test.tx", query.encode(), headers), NOW)


# https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html (path style)
def test_published_sigv2() -> None:
    headers = [
        (b"host", b"s3.us-west-1.amazonaws.com"),
        (b"date", b"Tue, 27 Mar 2007 19:36:42 +0000"),
        (b"authorization", f"AWS {EXAMPLE_KEY}:bWq2s1WEIj+Ydj0vQ697zp+IXMU=".encode()),
    ]
    moment = datetime(2007, 3, 27, 19, 40, tzinfo=UTC)
    accepted = is_accepted(make_scope(b"/johnsmith/photos/puppy.jpg", headers=headers), moment)
    query = f"AWSAccessKeyId={EXAMPLE_KEY}&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
    presigned = is_accepted(make_scope(b"/johnsmith/photos/puppy.jpg", query.encode()), moment)
    assert (accepted, presigned) == (True, True)


def test_the_public_host_counts_like_the_received_one() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256"
        f"&X-Amz-Credential={quote(EXAMPLE_KEY + '/20130524/us-east-1/s3/aws4_request', safe='')}"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    request = read_request(make_scope(b"/test.txt", query.encode(), [(b"host", b"behind-a-proxy:5000")]))
    credential = read_credential(request, NOW)
    assert not is_right(request, credential, EXAMPLE_SECRET)
    assert not is_right(request, credential, EXAMPLE_SECRET, hosts=["elsewhere"])
    assert is_right(request, credential, EXAMPLE_SECRET, hosts=["examplebucket.s3.amazonaws.com"])


@given(path=st.text(st.characters(exclude_categories=["C"]), max_size=30))
@example("a:b c+d%20é~*'\"?#&=")
@settings(max_examples=60, deadline=None)
def test_every_spelling_of_a_path_is_the_same_path(path: str) -> None:
    spelled = quote(f"/{BUCKET}/{path}", safe="/").encode()
    respelled = "".join(f"%{byte:02x}" for byte in path.encode()).encode()
    first = read_request(make_scope(spelled))
    second = read_request(make_scope(f"/{BUCKET}/".encode() + respelled))
    assert (first.bucket, first.key) == (second.bucket, second.key) == (BUCKET, path)
    assert first.canonical_path == second.canonical_path


TEXT = st.binary(max_size=40)
AUTHORIZATIONS = st.one_of(
    TEXT,
    TEXT.map(lambda text: b"AWS4-HMAC-SHA256 " + text),
    TEXT.map(lambda text: b"AWS " + text),
    st.tuples(TEXT, TEXT, TEXT).map(
        lambda parts: b"AWS4-HMAC-SHA256 Credential=%b, SignedHeaders=%b, Signature=%b" % parts
    ),
    st.tuples(TEXT, TEXT).map(
        lambda parts: (
            b"AWS4-HMAC-SHA256 Credential=AK/20130524/%b/s3/aws4_request, SignedHeaders=host;%b, "
            b"Signature=" % parts + b"0" * 64
        )
    ),
    TEXT.map(lambda text: b"AWS AK:" + text),
)
NAMES = st.sampled_from(
    [
        "AWSAccessKeyId",
        "Signature",
        "Expires",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
        "prefix",
        "list-type",
        "response-content-type",
    ]
)
VALUES = st.one_of(
    st.binary(max_size=20).map(lambda value: quote(value).encode()),
    TEXT,
    st.sampled_from(
        [b"AK", b"AWS4-HMAC-SHA256", b"20130524T000000Z", b"60", b"host", b"0" * 64, b"A" * 27 + b"="]
    ),
    st.just(b"AK%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"),
)
QUERIES = st.lists(st.tuples(NAMES, VALUES), max_size=8).map(
    lambda pairs: b"&".join(name.encode() + b"=" + value for name, value in pairs)
)


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "BREW"]),
    path=st.one_of(TEXT, TEXT.map(lambda text: f"/{BUCKET}/".encode() + text)),
    query=st.one_of(TEXT, QUERIES),
    authorization=st.none() | AUTHORIZATIONS,
    date=st.none() | st.sampled_from([b"20130524T000000Z", b"Fri, 24 May 2013 00:00:00 GMT"]) | TEXT,
    extra=st.lists(
        st.tuples(st.sampled_from([b"host", b"x-amz-x", b"range", b"content-type"]), TEXT), max_size=4
    ),
)
@settings(max_examples=400, deadline=None)
async def test_whatever_arrives_is_refused_in_order(
    method: str,
    path: bytes,
    query: bytes,
    authorization: bytes | None,
    date: bytes | None,
    extra: list[tuple[bytes, bytes]],
) -> None:
    buckets = MemoryBuckets()
    buckets.add_bucket(BucketKey("AK", "secret", BUCKET))
    # Refused requests never come as far as the store, so an empty one without a folder will do.
    store = MemoryStore(Path())
    endpoint = S3Endpoint(buckets, store, region="us-east-1", clock=lambda: NOW)
    headers = list(extra)
    if authorization is not None:
        headers.append((b"authorization", authorization))
    if date is not None:
        headers.append((b"x-amz-date", date))
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await endpoint(make_scope(path, query, headers, method), receive, send)
    assert sent[0]["status"] in {400, 403}
