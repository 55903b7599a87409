"""A whole server without HTTP: a database, the queue and store of one process, and scripted workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from servicex_server.db.engine import build_engine
from servicex_server.db.orm import Base
from servicex_server.db.session import Database
from servicex_server.model.ids import RequestId
from servicex_server.model.kinds import RequestState
from servicex_server.model.request import ANYONE, Principal, Submission, TransformRequest
from servicex_server.model.unit import (
    Failure,
    FileDone,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    Report,
    TransformUnit,
    Unit,
)
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.background import run_background
from servicex_server.service.context import Services
from servicex_server.service.limits import Limits
from servicex_server.service.read import get_request, wait_for
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.memory import MemoryStore
from servicex_server.store.protocol import Store

SELECTION = '[{"treename": "Events", "filter_name": ["Muon_pt"]}]'
QUICK = Limits(retry_backoff_s=0.0, publish_retry_s=0.01, preflight_wait_s=30.0)

Behaviour = Callable[[Services, Unit], Awaitable[Report | None]]


class Bench:
    """Services over one database, and what tests do with them."""

    def __init__(self, services: Services, root: Path) -> None:
        self.services = services
        self.root = root
        self.seen: list[Unit] = []

    def submission(self, n_files: int = 1, **changes: object) -> Submission:
        files = tuple(str(self.root / f"f{number}.root") for number in range(n_files))
        values: dict[str, object] = {
            "selection": SELECTION,
            "codegen": "uproot-raw",
            "files": files,
            "title": "a title",
        }
        return Submission(**(values | changes))  # type: ignore[arg-type]  # tests name the fields

    async def until(
        self, request_id: RequestId, predicate: Callable[[TransformRequest], bool]
    ) -> TransformRequest:
        request = await wait_for(self.services, request_id, predicate, 30)
        assert predicate(request), request
        return request

    async def until_ended(self, request_id: RequestId) -> TransformRequest:
        return await self.until(request_id, lambda request: request.state.is_terminal)

    async def get(self, request_id: RequestId) -> TransformRequest:
        return await get_request(self.services, ANYONE, request_id)

    @asynccontextmanager
    async def working(self, behave: Behaviour | None = None, *, slots: int = 4) -> AsyncIterator[None]:
        """The background tasks and one worker that answers as `behave` does, or well."""
        tasks = [
            asyncio.create_task(run_background(self.services)),
            asyncio.create_task(self._work(behave or succeed, slots)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, behave: Behaviour, slots: int) -> None:
        queue = self.services.queue
        assert isinstance(queue, MemoryQueue)
        async with queue.connect(slots) as source:
            async for delivery in source.units():
                self.seen.append(delivery.unit)
                report = await behave(self.services, delivery.unit)
                if report is not None:
                    await delivery.report(report)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Asks again until the condition, which has to let others run, holds."""
    async with asyncio.timeout(30):
        while not await condition():
            pass


async def succeed(services: Services, unit: Unit) -> Report:
    """Delivers ten bytes for every file."""
    if isinstance(unit, PreflightUnit):
        return PreflightDone(unit.request_id)
    put(services, unit, b"0123456789")
    return done(unit)


def put(services: Services, unit: TransformUnit, content: bytes) -> None:
    path = services.store.scratch_folder() / unit.store_key.replace("/", "-")
    path.write_bytes(content)
    services.store.put_file(unit.store_key, path)


def done(unit: TransformUnit, **changes: object) -> FileDone:
    values: dict[str, object] = {
        "request_id": unit.request_id,
        "file_id": unit.file_id,
        "path": unit.paths[0],
        "store_key": unit.store_key,
        "n_events_in": 100,
        "n_events_out": 7,
        "bytes_read": 1000,
        "size_bytes": 4711,
        "seconds": 0.5,
        "attempt": unit.attempt,
    }
    return FileDone(**(values | changes))  # type: ignore[arg-type]


def failed(unit: TransformUnit, reason: Reason, message: str = "it went wrong") -> FileFailed:
    return FileFailed(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=unit.paths[0],
        failure=Failure(reason, message),
        seconds=0.1,
        attempt=unit.attempt,
    )


def is_running(request: TransformRequest) -> bool:
    return request.state is RequestState.RUNNING


USER = Principal("marie")
OTHER = Principal("niels")


async def prepare(folder: Path) -> tuple[str, MemoryStore, Path]:
    """An empty database, an empty store, and a folder of inputs."""
    url = await asyncio.to_thread(new_database, folder)
    scratch, root = folder / "scratch", folder / "inputs"
    scratch.mkdir()
    root.mkdir()
    return url, MemoryStore(scratch), root


def new_database(folder: Path) -> str:
    """The URL of a database with the newest schema, without the time that alembic takes.

    (Alembic's own tests compare the two.) The service's tests put PostgreSQL in its place: their conftest.
    """
    url = f"sqlite:///{folder / 'servicex.db'}"
    engine = build_engine(url, size=1, busy_timeout_s=5, read_only=False)
    Base.metadata.create_all(engine)
    engine.dispose()
    return url


@asynccontextmanager
async def open_bench(
    url: str, store: Store, root: Path, limits: Limits = QUICK, *, max_units: int = 100_000
) -> AsyncIterator[Bench]:
    async with Database(url) as db, MemoryQueue(max_units=max_units) as queue:
        policy = SourcePolicy(local_roots=(root,))
        yield Bench(Services(db=db, queue=queue, store=store, policy=policy, limits=limits), root)


@asynccontextmanager
async def new_bench(folder: Path, limits: Limits = QUICK) -> AsyncIterator[Bench]:
    url, store, root = await prepare(folder)
    async with open_bench(url, store, root, limits) as bench:
        yield bench
