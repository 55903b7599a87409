"""Clients that go away in the middle cost nothing afterwards."""

from __future__ import annotations

import http.client
import threading
from collections.abc import AsyncGenerator
from pathlib import Path

import boto3
from botocore.config import Config

from bucket_server import serve
from servicex_server.store.backends.local import LocalStore

SIZE = 64 * 1024 * 1024


class WatchedStore(LocalStore):
    """Tells when every stream that was opened is closed again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, min_free_bytes=0)
        self.n_bytes_read = 0
        self._closed = threading.Semaphore(0)

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        pieces = super().stream(key, start, stop)
        try:
            async for piece in pieces:
                self.n_bytes_read += len(piece)
                yield piece
        finally:
            await pieces.aclose()
            self._closed.release()

    def wait_for_closed(self) -> bool:
        return self._closed.acquire(timeout=30)


def test_streams_end_when_clients_leave(tmp_path: Path) -> None:
    store = WatchedStore(tmp_path)
    with serve(tmp_path, store) as server:
        key = server.add_bucket()
        server.put(key, "big", bytes(SIZE))
        client = boto3.client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id=key.access_key,
            aws_secret_access_key=key.secret_key,
            config=Config(signature_version="s3"),
        )
        url = client.generate_presigned_url("get_object", Params={"Bucket": key.bucket, "Key": "big"})
        client.close()
        for _ in range(3):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", url.removeprefix(server.url))
            response = connection.getresponse()
            assert response.read(1000) == bytes(1000)
            response.close()
            connection.close()
            assert store.wait_for_closed()
        # What was read ahead of the client is bounded by buffers, not by the object.
        assert store.n_bytes_read < 3 * SIZE // 2
