"""How fast the files of a look-up are recorded, and handed to the queue, on SQLite and on PostgreSQL.

    PYTHONPATH=src:tests python benchmarks/lookups.py [--files 50000]

Batches of 300 files come as the official finders send them, those of 1,000 from finders of ours; each file
has three replicas. The queue is in memory and has no worker, so that only the server's own work counts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec

from postgres_server import running_postgres
from service_bench import QUICK, USER, Bench, open_bench, prepare
from servicex_server.api.internal import PREFIX, build_internal_app
from servicex_server.db import schema
from servicex_server.did.limit import BATCH
from servicex_server.model.did import Did, FoundFile
from servicex_server.model.ids import DatasetId
from servicex_server.model.unit import Unit
from servicex_server.queue.transports.memory import MemoryQueue
from servicex_server.service.background import run_background
from servicex_server.service.lookup import add_found, close_lookup
from servicex_server.service.sidecar import SidecarReports
from servicex_server.service.submit import submit


class _Asked:
    """A finder elsewhere that is this script."""

    schemes = ("rucio",)

    def __init__(self) -> None:
        self.dataset_id: asyncio.Queue[DatasetId] = asyncio.Queue()

    async def ask(self, did: Did, dataset_id: DatasetId) -> None:
        del did
        await self.dataset_id.put(dataset_id)


class _Counting(MemoryQueue):
    """Counts what it is offered."""

    n_units = 0

    def __init__(self) -> None:
        super().__init__(max_units=10**6)
        self.has_more = asyncio.Event()

    async def publish(self, units: Sequence[Unit]) -> None:
        await super().publish(units)
        self.n_units += len(units)
        self.has_more.set()


def make_files(n_files: int) -> list[FoundFile]:
    """Files with three replicas each, of the length that grid paths have."""
    tail = "user.someone/xx/yy/user.someone.0000001._{:06d}.nano.root"
    return [
        FoundFile(
            tuple(f"root://eos{site}.example//atlas/rucio/{tail.format(number)}" for site in range(3)),
            f"{number:08x}",
            10**9,
            10**5,
        )
        for number in range(n_files)
    ]


async def tell(bench: Bench, dataset_id: DatasetId, files: Sequence[FoundFile], batch: int) -> None:
    """The files, batch after batch, as a finder of ours hands them over."""
    for start in range(0, len(files), batch):
        await add_found(bench.services, dataset_id, files[start : start + batch], batch=str(start))
    await close_lookup(bench.services, dataset_id, announced=len(files))


async def put(bench: Bench, dataset_id: DatasetId, files: Sequence[FoundFile], batch: int) -> None:
    """The files, call after call, as the official finders' library sends them (without a network)."""
    import httpx  # noqa: PLC0415

    app = build_internal_app(bench.services, SidecarReports(bench.services))
    bodies = [
        msgspec.json.encode(
            [
                {
                    "timestamp": str(start),
                    "paths": file.paths,
                    "adler32": file.adler32,
                    "file_size": file.size_bytes,
                    "file_events": file.n_events,
                }
                for file in files[start : start + batch]
            ]
        )
        for start in range(0, len(files), batch)
    ]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside") as client:
        for body in bodies:
            (await client.put(f"{PREFIX}/{dataset_id}/files", content=body)).raise_for_status()
        await client.put(f"{PREFIX}/{dataset_id}/complete", json={"files": len(files)})


async def measure(url: str, folder: Path, n_files: int) -> None:
    """Prints one line for each way."""
    _, store, root = await prepare(folder)
    files = make_files(n_files)
    for name, way, batch in (("finder of ours", tell, BATCH), ("official, by HTTP", put, 300)):
        remote = _Asked()
        limits = replace(QUICK, preflight_files=0)
        async with AsyncExitStack() as stack, open_bench(url, store, root, limits) as bench:
            queue = await stack.enter_async_context(_Counting())
            bench.services = replace(bench.services, remote_finders=remote, queue=queue)
            background = asyncio.ensure_future(run_background(bench.services))
            submission = bench.submission(files=None, did=f"rucio://x:{name.replace(' ', '')}")
            request_id = await submit(bench.services, USER, submission)
            dataset_id = await remote.dataset_id.get()
            begun, cpu = time.perf_counter(), time.process_time()
            await way(bench, dataset_id, files, batch)
            recorded = time.perf_counter() - begun
            while queue.n_units < n_files:
                queue.has_more.clear()
                await queue.has_more.wait()
            dispatched = time.perf_counter() - begun
            cpu = time.process_time() - cpu
            assert (await bench.get(request_id)).counts.files == n_files
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
        print(
            f"{url.split(':', 1)[0]:12} {name:18} batches of {batch:5}: "
            f"{n_files / recorded:8,.0f} files/s recorded, {n_files / dispatched:8,.0f} also with the queue, "
            f"{1e3 * cpu / n_files:.3f} ms CPU per file here"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=50_000)
    n_files: int = parser.parse_args().files
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "sqlite").mkdir()
        url = f"sqlite:///{folder / 'lookups.db'}"
        schema.upgrade(url)
        asyncio.run(measure(url, folder / "sqlite", n_files))
        (folder / "postgresql").mkdir()
        server = stack.enter_context(running_postgres())
        asyncio.run(measure(server.create(with_schema=True), folder / "postgresql", n_files))


if __name__ == "__main__":
    main()
