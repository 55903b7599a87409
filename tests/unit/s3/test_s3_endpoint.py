"""How the endpoint answers when something behind it is not well."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from starlette.types import Message

from servicex_server.api.s3.endpoint import S3Endpoint
from servicex_server.errors import Busy, ConfigurationError, ServicexError
from servicex_server.model.bucket import BucketKey, BucketObject, MemoryBuckets
from servicex_server.model.ids import RequestId
from servicex_server.store.backends.memory import MemoryStore

KEY = BucketKey("AK", "very secret", RequestId("6b0f6ba8-9f0d-4ff1-8b8f-1f1f0d7c9a11"))


class FailingBuckets(MemoryBuckets):
    """Buckets whose database fails in some way."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def find_object(self, bucket: RequestId, key: str) -> BucketObject | None:
        raise self._error


async def ask(buckets: MemoryBuckets, scratch: Path, root_path: str = "") -> tuple[int, bytes]:
    """Status and body of a signed GET."""
    buckets.add_bucket(KEY)
    endpoint = S3Endpoint(buckets, MemoryStore(scratch), region="us-east-1", clock=lambda: datetime.now(UTC))
    path = f"{root_path}/{KEY.bucket}/object"
    request = AWSRequest("GET", f"http://server{path}", headers={"host": "server"})
    S3SigV4Auth(Credentials(KEY.access_key, KEY.secret_key), "s3", "us-east-1").add_auth(request)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": root_path,
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.items()],
    }
    await endpoint(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Busy("full of work"), 503, b"SlowDown"), (ConfigurationError("path /private"), 500, b"InternalError")],
)
async def test_errors_behind_are_answered_in_s3_words(
    tmp_path: Path, error: ServicexError, status: int, code: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await ask(FailingBuckets(error), tmp_path)
    assert answer[0] == status
    assert b"<Code>" + code in answer[1]
    assert error.message.encode() not in answer[1]


async def test_a_listed_object_that_the_store_lost_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    buckets = MemoryBuckets()
    buckets.add_bucket(KEY)
    lost = BucketObject("object", 1, "e", datetime(2026, 1, 1, tzinfo=UTC), "request/lost")
    buckets.add_object(KEY.bucket, lost)
    status, body = await ask(buckets, tmp_path)
    assert (status, b"<Code>NoSuchKey" in body) == (404, True)
    assert "request/lost" in caplog.text


async def test_no_secret_reaches_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await ask(MemoryBuckets(), tmp_path)
    caplog_of_server = [record for record in caplog.records if record.name.startswith("servicex_server")]
    assert not any("very secret" in record.getMessage() for record in caplog.records)
    assert caplog_of_server == []


async def test_a_root_path_is_part_of_the_signature_but_not_of_the_bucket(tmp_path: Path) -> None:
    status, body = await ask(MemoryBuckets(), tmp_path, "/behind/a/prefix")
    assert (status, b"<Code>NoSuchKey" in body) == (404, True)
