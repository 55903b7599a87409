"""A worker that sends reports as fast as it is let: `python -m benchmarks.service.reporter DATA_FOLDER`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.service.noop import build
from servicex_server.app.datadir import DataDir
from servicex_server.queue.protocol import UnitDelivery
from servicex_server.queue.transports.embedded import connect

_SLOTS = 512


@contextmanager
def reporting(folder: Path) -> Iterator[None]:
    """Such a worker at the server with this data folder, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.service.reporter", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # it is there
        process.stdin.write(b"go\n")
        process.stdin.flush()
        yield
    finally:
        process.terminate()
        process.wait()


async def report_for_ever(folder: Path) -> None:
    """Answers every unit at once."""
    data = DataDir(folder)
    execute = build(store={"url": str(data.store)})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    async with connect(data.socket, _SLOTS) as source, asyncio.TaskGroup() as tasks:

        async def answer(delivery: UnitDelivery) -> None:
            await delivery.report(execute(delivery.unit))

        async for delivery in source.units():
            tasks.create_task(answer(delivery))


if __name__ == "__main__":
    asyncio.run(report_for_ever(Path(sys.argv[1])))
