"""The HTTP edge over real services: SQLite, a queue and a store in memory, a worker that a test drives."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from servicex_server.api.config import ApiConfig
from servicex_server.api.server import build_app
from servicex_server.auth import AccessTokens
from servicex_server.db import schema
from servicex_server.db.session import Database
from servicex_server.did.protocol import RemoteFinders
from servicex_server.model.tally import CutStep, StageSeconds, Tally, WeightSum
from servicex_server.model.unit import (
    Failure,
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    Report,
    Unit,
)
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.background import run_background
from servicex_server.service.context import Services
from servicex_server.service.limits import Limits
from servicex_server.service.principal import create_token
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.memory import MemoryStore
from servicex_server.web import install_pages

BASE_URL = "http://127.0.0.1:5000"
SELECTION = '[{"treename": "Events", "expressions": ["Muon_pt"]}]'
RESULT = b"PAR1 a result PAR1"
REJECTION = "no branch 'Muon_ptt' in tree 'Events'; nearest: [Muon_pt, Muon_eta]"
CORRUPT = "the file [a, b] is <b>corrupt</b>"
TALLY = Tally(
    bytes_decompressed=5000,
    seconds=StageSeconds(decompress=0.125),
    cut_flow=(CutStep("all", 100, "Events"), CutStep("any(Muon_pt > 20)", 10, "Events")),
    sums_of_weights=(WeightSum("genWeight", 99.5, math.nan, "Events"),),
)

Outcome = Callable[[Unit], Report]


@dataclass
class Edge:
    """An application and what is behind it."""

    app: FastAPI
    services: Services
    queue: MemoryQueue
    store: MemoryStore
    folder: Path
    tokens: Mapping[str, str]
    _clients: list[httpx.AsyncClient] = field(default_factory=list)

    def http(self, name: str | None = "ann", **headers: str) -> httpx.AsyncClient:
        """A client of the user called `name`, or of nobody."""
        if name is not None:
            headers["Authorization"] = f"Bearer {self.tokens[name]}"
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url=BASE_URL,
            headers=headers,
            follow_redirects=False,
        )
        self._clients.append(client)
        return client

    def submission(self, *names: str, **changes: object) -> dict[str, object]:
        """The body of a submit of files with these names."""
        paths = [str(self.folder / name) for name in names or ("a.root",)]
        return {
            "title": "muons",
            "file-list": paths,
            "selection": SELECTION,
            "codegen": "uproot-raw",
            "result-destination": "object-store",
            "result-format": "parquet",
            **changes,
        }

    async def submit(self, *names: str, user: str = "ann", **changes: object) -> str:
        """The id of a new request."""
        answer = await self.http(user).post(
            "/servicex/transformation", json=self.submission(*names, **changes)
        )
        assert answer.status_code == 200, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id

    async def finish(self, request_id: str, user: str = "ann") -> dict[str, Any]:
        """The status of the request after a worker has done what there is to do."""
        async with self.working():
            while True:
                answer = await self.http(user).get(f"/servicex/transformation/{request_id}")
                status: dict[str, Any] = answer.json()
                if status["finish-time"] != "None":
                    return status

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker at work: `broken…` files fail, `lacking…` ones are rejected, others give one result.

        That of `earlier…` ones is said to be an earlier request's.
        """

        async def work() -> None:
            async with self.queue.connect(1) as source:
                async for delivery in source.units():
                    await delivery.report(self._outcome(delivery.unit))

        async with _running(work()):
            yield

    def _outcome(self, unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            is_lacking = Path(unit.files[0][0]).name.startswith("lacking")
            return PreflightDone(unit.request_id, REJECTION if is_lacking else None)
        path = unit.paths[0]
        if Path(path).name.startswith("broken"):
            failure = Failure(Reason.CORRUPT, CORRUPT)
            return FileFailed(unit.request_id, unit.file_id, path, failure, 0.5, attempt=unit.attempt)
        made = self.store.scratch_folder() / f"{unit.file_id}"
        made.write_bytes(RESULT)
        stored = self.store.put_file(unit.store_key, made)
        return FileDone(
            unit.request_id,
            unit.file_id,
            path,
            unit.store_key,
            n_events_in=100,
            n_events_out=10,
            bytes_read=1000,
            size_bytes=stored.size_bytes,
            seconds=0.5,
            attempt=unit.attempt,
            tally=TALLY,
            is_cached=Path(path).name.startswith("earlier"),
        )


@asynccontextmanager
async def _running(task: Awaitable[None]) -> AsyncIterator[None]:
    running = asyncio.ensure_future(task)
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def make_database(folder: Path) -> Path:
    """An empty database with the current schema."""
    path = folder / "blank.db"
    schema.upgrade(f"sqlite:///{path}")
    return path


@asynccontextmanager
async def open_edge(
    folder: Path,
    blank: Path,
    *,
    hold_s: float = 4.0,
    limits: Limits | None = None,
    remote_finders: RemoteFinders | None = None,
    **config: Any,
) -> AsyncIterator[Edge]:
    """A new server for one test: users ann and bob, administrator boss, no worker at work yet."""
    path = folder / "servicex.db"
    shutil.copyfile(blank, path)
    scratch = folder / "scratch"
    scratch.mkdir()
    store = MemoryStore(scratch)
    async with Database(f"sqlite:///{path}") as db, MemoryQueue() as queue:
        services = Services(
            db=db,
            queue=queue,
            store=store,
            policy=SourcePolicy(local_roots=(folder,), allowed_private_hosts=()),
            limits=limits or Limits(preflight_files=0),
            remote_finders=remote_finders,
        )
        tokens = {
            name: await create_token(db, name, is_admin=name == "boss") for name in ("ann", "bob", "boss")
        }
        settings = ApiConfig(
            app_version="1.2.3", access_tokens=AccessTokens(b"s" * 32), hold_s=hold_s, **config
        )
        app = build_app(services, settings, install_pages=install_pages)
        edge = Edge(app, services, queue, store, folder, tokens)
        async with _running(run_background(services)):
            try:
                yield edge
            finally:
                for client in edge._clients:
                    await client.aclose()


@pytest.fixture(scope="session")
def blank_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copied for each test, since making a schema takes longer than the tests."""
    return make_database(tmp_path_factory.mktemp("blank"))


@pytest.fixture
async def edge(tmp_path: Path, blank_database: Path) -> AsyncIterator[Edge]:
    """A server that asks for tokens."""
    async with open_edge(tmp_path, blank_database) as opened:
        yield opened
