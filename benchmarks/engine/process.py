"""A method in a process of its own, which lives as long as a worker would: imports are paid before."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import re
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from benchmarks.engine.methods.protocol import CannotAnswerError, Method, Task
from benchmarks.engine.methods.table import METHODS

START_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 1200.0


@dataclass(frozen=True, slots=True)
class Spent:
    """What one answer took.

    Attributes:
        cpu_s: of all threads of the process, in user and system mode.
    """

    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Request:
    verb: Literal["prepare", "answer", "peak"]
    task: Task | None = None
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    text: str


class MethodFailed(Exception):
    """The method could not do what it was asked; says why in one line."""


class MethodProcess:
    """The near end of a method's process; ends it on leaving the block.

    Args:
        log: file that takes what the method prints.
    """

    def __init__(self, name: str, log: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._near, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, name, log), daemon=True)
        self._process.start()
        far.close()
        self._receive(START_TIMEOUT_S)

    def prepare(self, task: Task) -> None:
        """Lets the method do what is done once per query.

        Raises:
            MethodFailed: it cannot.
        """
        self._ask(_Request("prepare", task))

    def answer(self, task: Task, output: Path) -> Spent:
        """Lets the method answer the task prepared last.

        Raises:
            MethodFailed: it cannot.
        """
        spent = self._ask(_Request("answer", task, output))
        if not isinstance(spent, Spent):
            message = f"{self.name} gave {spent!r}"
            raise TypeError(message)
        return spent

    def peak_bytes(self) -> int:
        """The largest resident set that the process has had."""
        return int(self._ask(_Request("peak")))

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def _ask(self, request: _Request) -> Any:
        try:
            self._near.send(request)
        except OSError as error:
            message = "its process has ended"
            raise MethodFailed(message) from error
        return self._receive(ANSWER_TIMEOUT_S)

    def _receive(self, timeout_s: float) -> Any:
        try:
            if not self._near.poll(timeout_s):
                self._process.kill()
                message = f"no answer within {timeout_s:.0f} s"
                raise MethodFailed(message)
            reply = self._near.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            message = f"its process ended with code {self._process.exitcode}"
            raise MethodFailed(message) from error
        if isinstance(reply, _Failure):
            raise MethodFailed(reply.text)
        return reply

    def close(self) -> None:
        self._near.close()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()


def _serve(connection: Connection, name: str, log: Path) -> None:
    """The far end."""
    with log.open("a") as sink:
        os.dup2(sink.fileno(), sys.stdout.fileno())
        os.dup2(sink.fileno(), sys.stderr.fileno())
        faulthandler.enable()
    try:
        method = METHODS[name].make()
    except Exception as error:  # noqa: BLE001 (whatever it is, the table says so)
        connection.send(_Failure(_one_line(error)))
        return
    connection.send(None)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        connection.send(_obey(method, request))


def _obey(method: Method, request: _Request) -> object:
    try:
        match request:
            case _Request("prepare", Task() as task):
                method.prepare(task)
                return None
            case _Request("answer", Task() as task, Path() as output):
                return _time(method, task, output)
            case _:
                return peak_bytes()
    except Exception as error:  # noqa: BLE001 (whatever it is, the table says so)
        return _Failure(_one_line(error))


def _time(method: Method, task: Task, output: Path) -> Spent:
    output.unlink(missing_ok=True)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    method.answer(task, output)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, CannotAnswerError) else f"{type(error).__name__}: {text}"


def peak_bytes() -> int:
    """The largest resident set of this process, as Linux keeps it: proc(5), VmHWM."""
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        message = "this system does not tell peak memory"
        raise OSError(message)
    return 1024 * int(found.group(1))
