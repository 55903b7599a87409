"""What the endpoint refuses, and in which words: S3's own codes in S3's own XML."""

from __future__ import annotations

import http.client
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import uuid4

import boto3
import pytest
from botocore.auth import HmacV1Auth, S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from bucket_server import BucketServer, serve
from servicex_server.model.bucket import BucketKey

NAME = "root:::host:file.root"
WEEK_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def code(self) -> str:
        """The error code of a well-formed error document."""
        root = ET.fromstring(self.body)
        assert root.tag == "Error"
        assert root.findtext("Message")
        assert root.findtext("RequestId") == self.headers["x-amz-request-id"]
        assert self.headers["content-type"] == "application/xml"
        return root.findtext("Code") or ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    with serve(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def server(running: BucketServer) -> Iterator[BucketServer]:
    yield running
    running.clock.offset = timedelta()


@pytest.fixture(scope="module")
def key(running: BucketServer) -> BucketKey:
    made = running.add_bucket()
    running.put(made, NAME, b"content")
    running.put(made, "other", b"other content")
    return made


def ask(
    server: BucketServer, target: str, method: str = "GET", headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest(method, target, skip_host="Host" in (headers or {}), skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    answer = Answer(response.status, response.read(), {n.lower(): v for n, v in response.getheaders()})
    connection.close()
    return answer


def sign(
    server: BucketServer, key: BucketKey, target: str, *, version: str = "v4", method: str = "GET"
) -> dict[str, str]:
    """Headers that sign a request for `target`."""
    request = AWSRequest(method=method, url=server.url + target)
    credentials = Credentials(key.access_key, key.secret_key)
    (S3SigV4Auth(credentials, "s3", "us-east-1") if version == "v4" else HmacV1Auth(credentials)).add_auth(
        request
    )
    return dict(request.headers.items())


def presign(
    server: BucketServer,
    key: BucketKey,
    *,
    version: str,
    expires_s: int = 3600,
    name: str = NAME,
    **params: str,
) -> str:
    """Path and query of a presigned URL."""
    client = boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=key.access_key,
        aws_secret_access_key=key.secret_key,
        region_name="us-east-1",
        config=Config(signature_version={"v4": "s3v4", "v2": "s3"}[version]),
    )
    url = client.generate_presigned_url(
        "get_object", Params={"Bucket": key.bucket, "Key": name, **params}, ExpiresIn=expires_s
    )
    client.close()
    return str(url).removeprefix(server.url)


def change(target: str, **changes: str | None) -> str:
    """The target with some query parameters changed, or removed (None)."""
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query))
    for name, value in changes.items():
        if value is None:
            del query[name.replace("_", "-")]
        else:
            query[name.replace("_", "-")] = value
    return f"{parts.path}?{urlencode(query)}"


def path_of(key: BucketKey, name: str = NAME) -> str:
    return f"/{key.bucket}/{name.replace(':', '%3A')}"


def test_the_tools_of_this_test_work(server: BucketServer, key: BucketKey) -> None:
    for version in ("v4", "v2"):
        assert (
            ask(server, path_of(key), headers=sign(server, key, path_of(key), version=version)).body
            == b"content"
        )
        assert ask(server, presign(server, key, version=version)).body == b"content"
        assert ask(server, change(presign(server, key, version=version))).body == b"content"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_anonymous(server: BucketServer, key: BucketKey, method: str) -> None:
    for target in (path_of(key), f"/{key.bucket}", f"/{key.bucket}/", f"/{uuid4()}/x", f"/{uuid4()}"):
        answer = ask(server, target, method)
        assert answer.status == 403
        assert method == "HEAD" or answer.code == "AccessDenied"
    bearer = {"Authorization": "Bearer token"}
    assert ask(server, path_of(key), method, bearer).status == 403


@pytest.mark.parametrize("version", ["v4", "v2"])
def test_unknown_key_and_wrong_secret(server: BucketServer, key: BucketKey, version: str) -> None:
    unknown = BucketKey("AKunknown", key.secret_key, key.bucket)
    wrong = BucketKey(key.access_key, "wrong", key.bucket)
    for signer, code in ((unknown, "InvalidAccessKeyId"), (wrong, "SignatureDoesNotMatch")):
        for target in (path_of(key), f"/{key.bucket}?list-type=2", f"/{key.bucket}?location", "/"):
            answer = ask(server, target, headers=sign(server, signer, target, version=version))
            assert (answer.status, answer.code) == (403, code)
        answer = ask(server, presign(server, signer, version=version))
        assert (answer.status, answer.code) == (403, code)


@pytest.mark.parametrize("version", ["v4", "v2"])
def test_a_foreign_key_learns_nothing(server: BucketServer, key: BucketKey, version: str) -> None:
    foreign = server.add_bucket()
    server.put(foreign, NAME, b"foreign")
    bodies = set()
    for bucket in (key.bucket, str(uuid4())):
        for rest in (
            f"/{NAME.replace(':', '%3A')}",
            "/missing",
            "",
            "/",
            "?list-type=2",
            "?location",
            "?acl",
        ):
            target = f"/{bucket}{rest}"
            for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
                headers = sign(server, foreign, target, version=version, method=method)
                answer = ask(server, target, method, headers)
                assert answer.status == 403
                if method != "HEAD":
                    assert answer.code == "AccessDenied"
                    bodies.add(re.sub(rb"<RequestId>.*</RequestId>", b"", answer.body))
    assert len(bodies) == 1, "answers differ between buckets that exist and those that do not"
    aimed = BucketKey(foreign.access_key, foreign.secret_key, key.bucket)
    assert ask(server, presign(server, aimed, version=version)).code == "AccessDenied"


@pytest.mark.parametrize("version", ["v4", "v2"])
@pytest.mark.parametrize(("minutes", "is_served"), [(-16, False), (-14, True), (14, True), (16, False)])
def test_clock_skew(
    server: BucketServer, key: BucketKey, version: str, minutes: int, *, is_served: bool
) -> None:
    headers = sign(server, key, path_of(key), version=version)
    server.clock.offset = timedelta(minutes=minutes)
    answer = ask(server, path_of(key), headers=headers)
    assert answer.status == (200 if is_served else 403)
    assert is_served or answer.code == "RequestTimeTooSkewed"


@pytest.mark.parametrize(
    ("version", "expires_s"), [("v4", WEEK_S), ("v4", 60), ("v2", 365 * 24 * 3600), ("v2", 60)]
)
def test_presigned_urls_expire(server: BucketServer, key: BucketKey, version: str, expires_s: int) -> None:
    target = presign(server, key, version=version, expires_s=expires_s)
    server.clock.offset = timedelta(seconds=expires_s - 10)
    assert ask(server, target).body == b"content"
    server.clock.offset = timedelta(seconds=expires_s + 2)
    answer = ask(server, target)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert b"Request has expired" in answer.body


def test_presigned_urls_of_the_future(server: BucketServer, key: BucketKey) -> None:
    target = presign(server, key, version="v4")
    server.clock.offset = timedelta(minutes=-14)
    assert ask(server, target).body == b"content"
    server.clock.offset = timedelta(minutes=-16)
    answer = ask(server, target)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert b"not valid yet" in answer.body


@pytest.mark.parametrize("expires", [str(WEEK_S + 1), "0", "-1", "x", "1e3", "9" * 40, ""])
def test_presigned_for_no_sensible_time(server: BucketServer, key: BucketKey, expires: str) -> None:
    answer = ask(server, change(presign(server, key, version="v4"), X_Amz_Expires=expires))
    assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")
    assert ask(server, change(presign(server, key, version="v2"), Expires=expires)).status == 403


@pytest.mark.parametrize("version", ["v4", "v2"])
def test_tampered_presigned_urls(server: BucketServer, key: BucketKey, version: str) -> None:
    target = presign(server, key, version=version, ResponseContentType="text/plain")
    path = urlsplit(target).path
    assert ask(server, target).body == b"content"
    for tampered in (
        target.replace(path, path_of(key, "other")),
        target.replace(path, path + "x"),
        target.replace(path, path + "#x"),
        target.replace(path, f"/{key.bucket}"),
        target.replace(path, f"/{key.bucket}/"),
        target.replace(path, "/"),
        change(target, response_content_type="text/html"),
        target + "&response-content-disposition=inline",
        target + "&response%2Dcontent%2Ddisposition=inline",
    ):
        answer = ask(server, tampered)
        assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert ask(server, target, "PUT").code == "SignatureDoesNotMatch"
    own = "Signature=x" if version == "v2" else "X-Amz-Signature=x"
    for twice in ("response-content-type=text/html", own):
        assert ask(server, f"{target}&{twice}").status in {400, 403}
    longer = {"Expires": "2000000000"} if version == "v2" else {"X_Amz_Expires": str(WEEK_S)}
    assert ask(server, change(target, **longer)).code == "SignatureDoesNotMatch"


def test_tampered_v4_scopes(server: BucketServer, key: BucketKey) -> None:
    target = presign(server, key, version="v4")
    query = dict(parse_qsl(urlsplit(target).query))
    access_key, date, region, service, end = query["X-Amz-Credential"].split("/")
    for credential in (
        f"{access_key}/19990101/{region}/{service}/{end}",
        f"{access_key}/{date}/{region}/iam/{end}",
        f"{access_key}/{date}/{region}/{service}/aws5_request",
        f"{access_key}/{date}/{region}/{service}",
        access_key,
        "",
    ):
        answer = ask(server, change(target, X_Amz_Credential=credential))
        assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")
    answer = ask(server, change(target, X_Amz_Credential=f"{access_key}/{date}/other/{service}/{end}"))
    assert answer.code == "SignatureDoesNotMatch"
    for name in ("Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        answer = ask(server, change(target, **{f"X_Amz_{name}": None}))
        assert answer.code == "AuthorizationQueryParametersError"
    assert ask(server, change(target, X_Amz_Algorithm=None)).code == "AccessDenied"
    for changes in (
        {"X_Amz_SignedHeaders": "range"},
        {"X_Amz_SignedHeaders": ""},
        {"X_Amz_SignedHeaders": "Host"},
        {"X_Amz_Date": "20261340T000000Z"},
        {"X_Amz_Date": "yesterday"},
        {"X_Amz_Algorithm": "AWS4-HMAC-SHA1"},
        {"X_Amz_Signature": "é" * 64},
    ):
        answer = ask(server, change(target, **changes))
        assert (answer.status, answer.code) == (400, "AuthorizationQueryParametersError")


def test_tampered_headers(server: BucketServer, key: BucketKey) -> None:
    target = path_of(key)
    request = AWSRequest(
        method="GET", url=server.url + target, headers={"Range": "bytes=0-1", "If-Match": "*"}
    )
    S3SigV4Auth(Credentials(key.access_key, key.secret_key), "s3", "us-east-1").add_auth(request)
    headers = dict(request.headers.items())
    assert ask(server, target, headers=headers).body == b"co"
    assert ask(server, target, headers={**headers, "Range": "bytes=0-6"}).code == "SignatureDoesNotMatch"
    assert ask(server, target, headers={**headers, "If-Match": '"x"'}).code == "SignatureDoesNotMatch"
    without = {name: value for name, value in headers.items() if name != "Range"}
    assert ask(server, target, headers=without).code == "SignatureDoesNotMatch"
    assert ask(server, target, headers={**headers, "Host": "elsewhere"}).code == "SignatureDoesNotMatch"
    assert ask(server, target, headers={**headers, "x-amz-new": "x"}).code == "AccessDenied"
    other_hash = {**headers, "X-Amz-Content-SHA256": "0" * 64}
    assert ask(server, target, headers=other_hash).code == "SignatureDoesNotMatch"
    assert ask(server, f"{target}?x=y", headers=headers).code == "SignatureDoesNotMatch"
    assert ask(server, path_of(key, "other"), headers=headers).code == "SignatureDoesNotMatch"
    assert ask(server, target, "HEAD", headers=headers).status == 403
    without_date = {name: value for name, value in headers.items() if name != "X-Amz-Date"}
    assert ask(server, target, headers=without_date).code == "AccessDenied"


def test_a_signed_body_hash_has_to_be_that_of_nothing(server: BucketServer, key: BucketKey) -> None:
    class Hashed(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
        def payload(self, request: Any) -> str:
            return "0" * 64

    request = AWSRequest(method="GET", url=server.url + path_of(key))
    Hashed(Credentials(key.access_key, key.secret_key), "s3", "us-east-1").add_auth(request)
    answer = ask(server, path_of(key), headers=dict(request.headers.items()))
    assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")


def test_one_signature_is_enough(server: BucketServer, key: BucketKey) -> None:
    for version in ("v4", "v2"):
        target = presign(server, key, version=version)
        headers = sign(server, key, target)
        answer = ask(server, target, headers=headers)
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        # The API's own token beside a presigned URL is no S3 signature and does no harm.
        assert ask(server, target, headers={"Authorization": "Bearer token"}).body == b"content"


@pytest.mark.parametrize(
    "authorization",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 Credential=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0",
        "AWS4-HMAC-SHA256 Credential=a/20261122/us-east-1/s3/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 " + ",".join(["Signature=0"] * 500),
        "AWS4-HMAC-SHA256-EXTRA Credential=x",
        "AWS ",
        "AWS x",
        "AWS :",
        "AWS a:b",
        "AWS a:" + "A" * 28,
        "AWS " + "a" * 5000 + ":" + "A" * 27 + "=",
        "AWS \xe9:\xff",
    ],
)
def test_malformed_authorization(server: BucketServer, key: BucketKey, authorization: str) -> None:
    date = sign(server, key, "/")["X-Amz-Date"]
    answer = ask(server, path_of(key), headers={"Authorization": authorization, "x-amz-date": date})
    assert (answer.status, answer.code) in {(400, "AuthorizationHeaderMalformed"), (403, "AccessDenied")}


def test_bounds(server: BucketServer, key: BucketKey) -> None:
    for target, status in [
        (f"/{key.bucket}/{'x' * 5000}", 400),
        (f"/{key.bucket}/{'x' * 1025}", 400),
        (f"/{key.bucket}/?{'x' * 9000}", 400),
        (f"/{key.bucket}/?" + "&".join(["x=y"] * 101), 400),
        (f"/{key.bucket}/%ff", 400),
        (f"/{key.bucket}/%00", 400),
        (f"/{key.bucket}/?prefix=%ff", 400),
        (f"/{key.bucket}/?prefix=%00", 400),
    ]:
        answer = ask(server, target, headers=sign(server, key, target))
        assert (answer.status, answer.code[:3]) == (status, answer.code[:3])
    large = sign(server, key, path_of(key)) | {f"y-{n}": "x" * 1000 for n in range(40)}
    assert ask(server, path_of(key), headers=large).code == "RequestHeaderSectionTooLarge"


@pytest.mark.parametrize(
    "query", ["max-keys=x", "max-keys=-1", "list-type=3", "encoding-type=xml", "prefix=a&prefix=b"]
)
def test_invalid_listing_parameters(server: BucketServer, key: BucketKey, query: str) -> None:
    target = f"/{key.bucket}?{query}"
    answer = ask(server, target, headers=sign(server, key, target))
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_a_refused_upload_does_not_confuse_the_connection(server: BucketServer, key: BucketKey) -> None:
    # A client that waits for `100 Continue` keeps its body after a refusal,
    # and its next request must not be taken for that body.
    target = path_of(key)
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("PUT", target)
    for name, value in {
        **sign(server, key, target, method="PUT"),
        "Expect": "100-continue",
        "Content-Length": "5",
    }.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    assert (response.status, response.getheader("connection")) == (403, "close")
    response.read()
    connection.close()


def test_the_root_belongs_to_others_unless_signed(server: BucketServer) -> None:
    answer = ask(server, "/")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/json")
