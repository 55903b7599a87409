"""Executors that misbehave on demand, for the tests of the worker; imported by its child processes."""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from servicex_server.launch.local import LocalWorkers
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import FileDone, PreflightDone, PreflightUnit, Report, TransformUnit, Unit
from servicex_server.model.worker import ExecutorSpec
from servicex_server.queue.transports.embedded import EmbeddedQueue


def mumble(unit: TransformUnit) -> Report:
    """Reports a path as the file system may spell it: text that no encoder takes."""
    return replace(done(unit), path="/data/\udcff.root")


class Panic(BaseException):
    """The error of a package that does not expect to be survived."""


def build(**settings: object) -> Callable[[Unit], Report]:
    """The executor: the unit's selection names one of the functions below."""
    if "complaint" in settings:
        raise RuntimeError(settings["complaint"])

    def execute(unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            if unit.selection == "crash":
                os._exit(3)
            return PreflightDone(unit.request_id, rejection=f"checked {len(unit.files)}")
        return ACTIONS[unit.selection](unit)

    return execute


def build_nothing() -> None:
    """A factory that forgets to return the executor."""


def done(unit: TransformUnit) -> FileDone:
    """Ends at once; the report's path tells the process."""
    return FileDone(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=str(os.getpid()),
        store_key=unit.store_key,
        n_events_in=0,
        n_events_out=0,
        bytes_read=0,
        size_bytes=0,
        seconds=0.0,
        attempt=unit.attempt,
    )


def wait(unit: TransformUnit) -> Report:
    """Says its process id through the first path, a FIFO, and goes on when the second one holds a byte."""
    started, go = unit.paths
    Path(started).write_text(str(os.getpid()))
    with Path(go).open("rb", buffering=0) as fifo:
        fifo.read(1)
    return done(unit)


def hang(unit: TransformUnit) -> Report:
    """Says its process id through the first path, a FIFO, if there is one."""
    if unit.paths:
        Path(unit.paths[0]).write_text(str(os.getpid()))
    while True:
        time.sleep(3600)


def hang_in_c(unit: TransformUnit) -> Report:
    """Never gives the interpreter back, as a library that has lost its way."""
    if unit.paths:
        Path(unit.paths[0]).write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(1_000_000)
    return done(unit)


def hang_with_offspring(unit: TransformUnit) -> Report:
    """Starts a process that does not know of any parent; says the ids of both."""
    offspring = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(unit.paths[0]).write_text(f"{os.getpid()} {offspring.pid}")
    while True:
        time.sleep(3600)


def fail(unit: TransformUnit) -> Report:
    message = f"cannot make sense of {unit.paths[0]}"
    raise ValueError(message)


def panic(unit: TransformUnit) -> Report:
    """As compiled packages do whose errors are no ordinary exceptions."""
    raise Panic(unit.selection)


def leave(unit: TransformUnit) -> Report:
    os._exit(3)


def exhaust(unit: TransformUnit) -> Report:
    bytearray(1 << 50)
    return done(unit)


def mix_up(unit: TransformUnit) -> Report:
    return done(replace(unit, file_id=unit.file_id + 1))  # type: ignore[arg-type]  # still an id


ACTIONS: dict[str, Callable[[TransformUnit], Report]] = {
    function.__name__: function
    for function in (
        done,
        wait,
        hang,
        hang_in_c,
        hang_with_offspring,
        fail,
        mumble,
        panic,
        leave,
        exhaust,
        mix_up,
    )
}


async def serve_one(socket_path: str, selection: str, *paths: str) -> None:
    """A server that publishes one unit and waits for its report for ever."""
    unit = TransformUnit(
        RequestId("r"), FileId(1), paths, "uproot", selection, ResultFormat.PARQUET, store_key="r/1-1"
    )
    async with (
        EmbeddedQueue(Path(socket_path)) as queue,
        LocalWorkers(Path(socket_path), 1, ExecutorSpec("worker_executors:build"), preload=()),
    ):
        await queue.publish([unit])
        await anext(queue.reports())


if __name__ == "__main__":
    asyncio.run(serve_one(*sys.argv[1:]))
