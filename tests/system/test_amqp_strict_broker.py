"""A broker with TLS, and with little patience for units that take long."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from rabbitmq_server import RabbitServer, free_ports, running_rabbitmq
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileDone, TransformUnit
from servicex_server.queue.transports.amqp import AmqpQueue, AmqpWorkSource

CONSUMER_TIMEOUT_S = 1.0
_ADVANCED = "[{rabbit, [{channel_tick_interval, 300}]}]."
_CONFIG = """\
consumer_timeout = 1000
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
"""


@dataclass
class StrictBroker:
    server: RabbitServer
    tls_port: int
    authority: Path

    @property
    def tls_url(self) -> str:
        return self.server.url.replace("amqp://", "amqps://").replace(
            f"127.0.0.1:{self.server.port}", f"localhost:{self.tls_port}"
        )


def make_certificates(folder: Path) -> None:
    """An authority of our own, and a certificate of it for localhost."""
    if shutil.which("openssl") is None:
        message = "missing for TLS tests: the program openssl"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"]
    commands = [
        ["req", "-x509", *key, "-subj", "/CN=test authority", "-keyout", "ca.key", "-out", "ca.pem"],
        ["req", *key[:3], "-subj", "/CN=localhost", "-keyout", "server.key", "-out", "server.csr"],
        [
            *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "names", "-out", "server.pem"),
        ],
    ]
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    for command in commands:
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StrictBroker]:
    folder = tmp_path_factory.mktemp("tls")
    make_certificates(folder)
    (port,) = free_ports(1)
    with running_rabbitmq(_CONFIG.format(port=port, folder=folder), _ADVANCED) as server:
        yield StrictBroker(server, port, folder / "ca.pem")


@pytest.fixture
def prefix() -> str:
    return f"strict-{uuid4().hex}"


UNIT = TransformUnit(
    request_id=RequestId("r"),
    file_id=FileId(1),
    paths=("/data/1.root",),
    codegen="uproot",
    selection="",
    result_format=ResultFormat.PARQUET,
    store_key="r/1",
)
DONE = FileDone(RequestId("r"), FileId(1), "/data/1.root", "r/1", 1, 1, 1, 1, 1.0)


async def test_a_unit_goes_over_tls(broker: StrictBroker, prefix: str) -> None:
    url = f"{broker.tls_url}?cafile={broker.authority}"
    async with (
        AmqpQueue(url, prefix=prefix, heartbeat_s=0.1) as queue,
        AmqpWorkSource(url, prefix=prefix, slots=1, heartbeat_s=0.1) as source,
    ):
        await queue.publish([UNIT])
        async with asyncio.timeout(20):
            delivery = await anext(source.units())
            await delivery.report(DONE)
            report = await anext(queue.reports())
        assert report.report == DONE
        await report.ack()


async def test_an_unknown_authority_is_not_trusted(
    broker: StrictBroker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AmqpQueue(broker.tls_url, prefix=prefix):
        assert "certificate verify failed" in caplog.text
        assert "pass%2F" not in caplog.text
        assert "pass/word" not in caplog.text


async def test_a_unit_that_outlasts_the_brokers_patience_is_done_once(
    broker: StrictBroker, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = broker.server.url
    async with (
        AmqpQueue(url, prefix=prefix, heartbeat_s=0.1) as queue,
        AmqpWorkSource(url, prefix=prefix, slots=1, heartbeat_s=0.1) as source,
    ):
        await queue.publish([UNIT])
        units = source.units()
        async with asyncio.timeout(20):
            delivery = await anext(units)
            # The broker closes the channel, and offers the unit again, to this worker that has it in hand.
            await asyncio.sleep(3 * CONSUMER_TIMEOUT_S)
            assert "delivery acknowledgement" in caplog.text
            await delivery.report(DONE)
            report = await anext(queue.reports())
        assert report.report == DONE
        await report.ack()
        following = replace(UNIT, file_id=FileId(2))
        await queue.publish([following])
        async with asyncio.timeout(20):
            second = await anext(units)
        assert second.unit == following, "the slot is free again, and the first did not come twice"
        await second.report(DONE)
