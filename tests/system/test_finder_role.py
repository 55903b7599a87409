"""`servicex-server finder`: a finder of ours as a program of its own, beside servers that name its scheme."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deployment import Deployment
from http_thread import serving
from rabbitmq_server import RabbitServer, free_ports, running_rabbitmq
from server_process import ServerProcess
from servicex_server.model.ids import DatasetId
from servicex_server.queue.celery_wire import finder_queue, lookup_task
from servicex_server.queue.transports.amqp.celery import CeleryPublisher
from web_listing import Answer, nginx_index, running_web


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with running_rabbitmq() as server:
        yield server


def submit(server: ServerProcess, did: str) -> str:
    with server.client() as client:
        answer = client.post(
            "/servicex/transformation",
            json={
                "did": did,
                "selection": '[{"treename": "Events", "filter_name": ["MET_pt"]}]',
                "codegen": "uproot-raw",
                "result-format": "parquet",
                "result-destination": "object-store",
            },
        )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["request_id"])


def until_ended(server: ServerProcess, request_id: str) -> dict[str, Any]:
    """The status after the request has ended; the server holds each answer for a while."""
    with server.client() as client:
        for _ in range(200):
            status: dict[str, Any] = client.get(f"/servicex/transformation/{request_id}").json()
            if status["finish-time"] != "None":
                return status
    raise AssertionError(status)


def test_a_finder_beside_the_server(broker: RabbitServer, samples: Path, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in range(3):
        shutil.copy(samples / "nano_dy.root", inputs / f"f{number}.root")
    (internal,) = free_ports(1)
    environment = {
        "SERVICEX_BROKER_FINDERS": "local",
        "SERVICEX_FINDER_BROKER_URL": broker.url,
        "SERVICEX_INTERNAL_PORT": str(internal),
        "SERVICEX_LOCAL_ROOTS": str(inputs),
    }
    finders = Deployment(tmp_path, {"finder_broker_url": broker.url, "local_roots": str(inputs)})
    with ServerProcess(tmp_path / "data", ("--workers", "1"), environment) as server:
        request_ids = [
            submit(server, f"local://{inputs}/*.root"),
            submit(server, f"local://{inputs}/*.root?files=2"),
            submit(server, f"local://{inputs}/*.nothing"),
            submit(server, "local:///etc/*"),
        ]
        role = finders.add("finder", "finder", "local")
        try:
            role.wait_for("ServiceX finder of local:// data sets is ready")
            ended = [until_ended(server, request_id) for request_id in request_ids]
            assert role.stop() == 0
        finally:
            role.kill()
    assert [(status["status"], status["files-completed"]) for status in ended[:2]] == [
        ("Complete", 3),
        ("Complete", 2),
    ]
    assert [status["status"] for status in ended[2:]] == ["Bad Dataset"] * 2
    assert "does not exist: no file matches" in ended[2]["title"]
    assert "not a name that the local finder understands" in ended[3]["title"]


def test_a_web_finder_beside_the_server(broker: RabbitServer, samples: Path, tmp_path: Path) -> None:
    (internal,) = free_ports(1)
    environment = {
        "SERVICEX_BROKER_FINDERS": "http",
        "SERVICEX_FINDER_BROKER_URL": broker.url,
        "SERVICEX_INTERNAL_PORT": str(internal),
        "SERVICEX_ALLOWED_PRIVATE_HOSTS": "127.0.0.1",
    }
    content = Answer((samples / "nano_dy.root").read_bytes(), "application/octet-stream")
    pages = {f"/data/{name}.root": content for name in ("a", "b")}
    pages["/data/"] = nginx_index("/data", ["a.root", "b.root", "notes.txt"])
    finders = Deployment(tmp_path, {"finder_broker_url": broker.url, "allowed_private_hosts": "127.0.0.1"})
    with running_web(pages) as url, ServerProcess(tmp_path / "up", ("--workers", "1"), environment) as server:
        request_ids = [submit(server, f"{url}/data/*.{ending}") for ending in ("root", "nothing")]
        role = finders.add("finder", "finder", "http")
        try:
            role.wait_for("ServiceX finder of http:// data sets is ready")
            good, bad = (until_ended(server, request_id) for request_id in request_ids)
            assert role.stop() == 0
        finally:
            role.kill()
    assert (good["status"], good["files-completed"]) == ("Complete", 2)
    assert bad["status"] == "Bad Dataset"
    assert "does not exist: no file matches" in bad["title"]


async def test_look_ups_that_nobody_can_be_told_of_hold_up_no_others(
    broker: RabbitServer, tmp_path: Path
) -> None:
    (nobody,) = free_ports(1)
    told: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    class Internal(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            loop.call_soon_threadsafe(told.put_nowait, self.path)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    role = Deployment(tmp_path, {"finder_broker_url": broker.url, "static_files": "root://host//x.root"}).add(
        "finder", "finder", "static"
    )
    try:
        role.wait_for("is ready")
        async with CeleryPublisher(broker.url) as publisher:
            with serving(ThreadingHTTPServer(("127.0.0.1", 0), Internal)) as url:
                endpoints = [f"http://127.0.0.1:{nobody}/"] * 6 + [f"{url}/"]
                for number, endpoint in enumerate(endpoints):
                    task = lookup_task("static", "x", DatasetId(number), endpoint)
                    await publisher.send(finder_queue("static"), task)
                async with asyncio.timeout(120):
                    assert [await told.get(), await told.get()] == ["/6/files", "/6/complete"]
    finally:
        role.kill()


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("finder", "nowhere"), {}, "there is no 'nowhere' finder"),
        (("finder", "rucio"), {}, "needs the setting `rucio_host`"),
        (("finder", "servicex"), {}, "is a part of each server"),
        (("finder", "static"), {}, "needs the setting `static_files`"),
        (("finder", "local"), {}, "SERVICEX_FINDER_BROKER_URL"),
        (("up", "--port", "0"), {"broker_finders": "rucio"}, "SERVICEX_FINDER_BROKER_URL"),
        (
            ("up", "--port", "0"),
            {"broker_finders": "rucio", "finder_broker_url": "amqp://localhost:1"},
            "SERVICEX_INTERNAL_PORT",
        ),
        (("up", "--port", "0"), {"finders": "nowhere"}, "there is no 'nowhere'"),
    ],
)
def test_what_is_missing_is_told(
    tmp_path: Path, arguments: tuple[str, ...], settings: dict[str, str], words: str
) -> None:
    role = Deployment(tmp_path, {}).add("role", *arguments, **settings)
    assert role.process is not None
    try:
        assert role.process.wait(60) == 1
    finally:
        role.kill()
    assert words in role.text()
