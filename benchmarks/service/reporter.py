"""A worker that sends reports as fast as it is let: `python -m benchmarks.service.reporter DATA_FOLDER`.

Its objects are laid into the store's folder without waiting for the disk, for which workers wait: what is
measured is how fast the server takes reports, not how fast one disk syncs.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.service import noop
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


def _lay_into(folder: Path) -> Callable[[str, bytes], None]:
    made: set[Path] = set()

    def lay(key: str, content: bytes) -> None:
        path = folder / key
        if path.parent not in made:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            made.add(path.parent)
        path.write_bytes(content)

    return lay


async def report_for_ever(folder: Path) -> None:
    """Answers every unit at once."""
    data = DataDir(folder)
    execute = noop.build(store={"url": str(data.store)}, put=_lay_into(data.store / "objects"))
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
