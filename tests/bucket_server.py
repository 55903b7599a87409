"""The S3 endpoint on a real server at 127.0.0.1, in a thread, with buckets that a test fills."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import uvicorn
from fastapi import FastAPI

from servicex_server.api.s3 import build_root_route, build_router
from servicex_server.model.bucket import BucketKey, BucketObject, MemoryBuckets
from servicex_server.model.ids import RequestId
from servicex_server.store.backends.local import LocalStore
from servicex_server.store.protocol import Store

ODD_KEYS = (
    "plain.parquet",
    "root:::eospublic.cern.ch::eos:opendata:cms:Run2016.root.parquet",
    "with space+plus%25percent.root",
    "a=b&c=d?e#f;g,h.root",
    "tilde~star*bang!(paren)'quote\"double.root",
    "unicode-µ-ΔR-日本語-😀.root",
    "brackets[0]{1}<2>|^`@$.root",
    "percent%3Acolon%2Fslash.root",
    "folder/inner:file.root",
    "trailing.",
    ".hidden",
)


@dataclass
class Clock:
    """The present time, moved as a test likes."""

    offset: timedelta = field(default_factory=timedelta)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass
class BucketServer:
    """A running endpoint; `port` is where it listens."""

    port: int
    buckets: MemoryBuckets
    store: Store
    clock: Clock

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def add_bucket(self) -> BucketKey:
        bucket = RequestId(str(uuid4()))
        key = BucketKey(access_key=f"AK{bucket[:8]}", secret_key=f"sk/{bucket}+x=", bucket=bucket)
        self.buckets.add_bucket(key)
        return key

    def put(self, key: BucketKey, name: str, content: bytes) -> BucketObject:
        path = self.store.scratch_folder() / uuid4().hex
        path.write_bytes(content)
        stored = self.store.put_file(f"{key.bucket}/{uuid4().hex}", path)
        found = BucketObject(name, stored.size_bytes, stored.etag, stored.modified, stored.key)
        self.buckets.add_object(key.bucket, found)
        return found

    def list_only(self, key: BucketKey, names: list[str]) -> None:
        """Lists objects that are not there to be read."""
        for n, name in enumerate(names):
            found = BucketObject(name, n, f"{n:x}-1", datetime(2026, 11, 22, tzinfo=UTC), "none")
            self.buckets.add_object(key.bucket, found)


@contextmanager
def serve(folder: Path, store: Store | None = None) -> Iterator[BucketServer]:
    """Runs an endpoint on a free port until the block is left."""
    store = store or LocalStore(folder, min_free_bytes=0)
    buckets, clock = MemoryBuckets(), Clock()
    app = FastAPI()
    app.router.routes.append(build_root_route(buckets, store, clock=clock))
    app.include_router(build_router(buckets, store, clock=clock))
    # Clients may connect as soon as the socket listens, so nothing has to wait for the thread.
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield BucketServer(listener.getsockname()[1], buckets, store, clock)
        finally:
            server.should_exit = True
            thread.join()
