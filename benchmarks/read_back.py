"""How fast results come back through the S3 endpoint: 1, 8 and 64 readers, each with a presigned URL.

The endpoint runs in a process of its own. Printed per number of readers: bytes per second of all together,
its ratio to one reader, the endpoint's CPU time per gigabyte (which a busy machine disturbs least) and its
resident memory after it. The object is in the page cache.

    python benchmarks/read_back.py [--object-mb 32] [--total-mb 2048] [--rounds 3]
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import os
import secrets
import socket
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import uvicorn
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from fastapi import FastAPI

from servicex_server.api.s3 import build_router
from servicex_server.model.bucket import BucketKey, BucketObject, MemoryBuckets
from servicex_server.model.ids import RequestId
from servicex_server.store.backends.local import LocalStore

READERS = (1, 8, 64)
NAME = "root:::host:result.parquet"
MEGA = 1_000_000


def serve(listener: socket.socket, folder: Path, key: BucketKey, object_bytes: int) -> None:
    """Runs the endpoint with one object on `listener`."""
    store, buckets = LocalStore(folder), MemoryBuckets()
    unfinished = store.scratch_folder() / "result"
    with unfinished.open("wb") as file:
        for _ in range(0, object_bytes, MEGA):
            file.write(secrets.token_bytes(MEGA))
    stored = store.put_file("bench/result", unfinished)
    buckets.add_bucket(key)
    found = BucketObject(NAME, stored.size_bytes, stored.etag, datetime.now(UTC), stored.key)
    buckets.add_object(key.bucket, found)
    app = FastAPI()
    app.include_router(build_router(buckets, store))
    uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False)).run([listener])


def read_objects(port: int, target: str, size_bytes: int, times: int) -> None:
    """One reader: fetches the object some times over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    buffer = bytearray(MEGA)
    for _ in range(times):
        connection.request("GET", target)
        response = connection.getresponse()
        n_read = 0
        while n := response.readinto(buffer):
            n_read += n
        if (response.status, n_read) != (200, size_bytes):
            message = f"status {response.status}, {n_read} of {size_bytes} bytes"
            raise RuntimeError(message)
    connection.close()


def measure(n_readers: int, read: Callable[[], None]) -> float:
    """Seconds until all readers are done."""
    threads = [threading.Thread(target=read) for _ in range(n_readers)]
    start = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return perf_counter() - start


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Found:
    """What so many readers got, all together."""

    n_readers: int
    mb_per_s: float
    cpu_s_per_gb: float
    resident_mb: float


def measure_readers(object_mb: int, total_mb: int, rounds: int, readers: Sequence[int]) -> Iterator[Found]:
    """Reads about `total_mb` in each round, for each number of readers."""
    key = BucketKey(secrets.token_hex(8), secrets.token_hex(16), RequestId(str(uuid4())))
    size_bytes = object_mb * MEGA
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0), backlog=256) as listener,
    ):
        port = listener.getsockname()[1]
        request = AWSRequest("GET", f"http://127.0.0.1:{port}/{key.bucket}/{NAME.replace(':', '%3A')}")
        HmacV1QueryAuth(Credentials(key.access_key, key.secret_key)).add_auth(request)
        target = request.url.removeprefix(f"http://127.0.0.1:{port}")
        server = multiprocessing.get_context("fork").Process(
            target=serve, args=(listener, Path(folder), key, size_bytes), daemon=True
        )
        server.start()
        pid = server.pid or 0
        try:
            read_objects(port, target, size_bytes, 2)
            for n_readers in readers:
                times = max(1, total_mb // object_mb // n_readers)
                total = times * n_readers * object_mb
                read = partial(read_objects, port, target, size_bytes, times)
                cpu_before = cpu_s(pid)
                seconds = [measure(n_readers, read) for _ in range(rounds)]
                cpu_per_gb = (cpu_s(pid) - cpu_before) / (total * rounds / 1000)
                yield Found(n_readers, total / statistics.median(seconds), cpu_per_gb, resident_mb(pid))
        finally:
            server.terminate()
            server.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--object-mb", type=int, default=32)
    parser.add_argument("--total-mb", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    single = 0.0
    for found in measure_readers(options.object_mb, options.total_mb, options.rounds, READERS):
        single = single or found.mb_per_s
        print(
            f"{found.n_readers:3} readers: {found.mb_per_s:6.0f} MB/s, {found.mb_per_s / single:.2f} of one; "
            f"endpoint {found.cpu_s_per_gb:.2f} CPU s/GB, {found.resident_mb:.0f} MB"
        )


if __name__ == "__main__":
    main()
