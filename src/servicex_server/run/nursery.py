"""The process that forks children: it imports the heavy modules once and then only waits.

So a new child costs a fork, not half a second of imports, and shares the modules' memory with the others. The
worker talks to it over a socket that it inherits as its standard input, one msgpack message per packet:

    worker -> nursery   Setup, then Fork (with the child's socket attached) and Kill
    nursery -> worker   Ready, then Forked and Exited

It stays single-threaded (forking with threads is unsound), ends when that socket is closed, and takes its
children with it. `multiprocessing.forkserver` does much of this, but its children keep it alive: with the
worker killed, one that hangs would run for ever.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import select
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from servicex_server.model.worker import ExecutorSpec
from servicex_server.run.child import ChildSettings, flush_streams, serve_units
from servicex_server.run.heap import share_one_heap
from servicex_server.run.lifeline import bound_memory, die_with_parent, volunteer_for_oom_killer
from servicex_server.telemetry import logs

logger = logging.getLogger(__name__)

MAX_PACKET_BYTES = 64 * 1024


class Setup(msgspec.Struct, tag="setup"):
    """What to import, and what the children do."""

    executor: ExecutorSpec
    preload: tuple[str, ...]
    memory_limit_bytes: int | None
    log_level: str
    log_json: bool
    parent_pid: int


class Fork(msgspec.Struct, tag="fork"):
    """Start a child that serves the attached socket."""

    number: int


class Kill(msgspec.Struct, tag="kill"):
    """Kill a child and whatever it started."""

    number: int


class Ready(msgspec.Struct, tag="ready"):
    """The modules are imported."""


class Forked(msgspec.Struct, tag="forked"):
    """The child has this process id."""

    number: int
    pid: int


class Exited(msgspec.Struct, tag="exited"):
    """The child has ended: its exit code, or minus the number of the signal that killed it."""

    number: int
    code: int


ToNursery = Setup | Fork | Kill
FromNursery = Ready | Forked | Exited

to_nursery = msgspec.msgpack.Decoder(ToNursery)
from_nursery = msgspec.msgpack.Decoder(FromNursery)
encode = msgspec.msgpack.Encoder().encode


def main() -> None:
    """Entry point of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=os.dup(0))
    _detach_standard_input()
    packet = control.recv(MAX_PACKET_BYTES)
    setup = to_nursery.decode(packet) if packet else None
    if not isinstance(setup, Setup):
        return
    die_with_parent(setup.parent_pid)
    logs.configure(setup.log_level, as_json=setup.log_json)
    share_one_heap()
    _preload((*setup.preload, setup.executor.factory.partition(":")[0]))
    nursery = _Nursery(control, ChildSettings(setup.executor, setup.memory_limit_bytes))
    with suppress(ConnectionError):
        nursery.run()


def _detach_standard_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _preload(modules: tuple[str, ...]) -> None:
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  # modules fail to import in every way
            # A child that needs it tries again and says what fails; without a mere accelerator it may work.
            logger.warning("nursery.import_failed: %s: %s", module, error)
    n_threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    if n_threads > 1:
        logger.warning("nursery.threaded: %d threads after imports; children may be born broken", n_threads)
    # Collected once and set aside: a collection in a child would otherwise copy every shared page.
    gc.collect()
    gc.freeze()


class _Nursery:
    def __init__(self, control: socket.socket, settings: ChildSettings) -> None:
        self._control = control
        self._settings = settings
        self._pids: dict[int, int] = {}  # number -> pid of children that have not been waited for

    def run(self) -> None:
        """Serves until the worker closes the socket."""
        wake_r, wake_w = os.pipe()
        os.set_blocking(wake_w, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        self._say(Ready())
        while True:
            readable, _, _ = select.select([self._control.fileno(), wake_r], [], [])
            if wake_r in readable:
                os.read(wake_r, 4096)
                self._reap()
            if self._control.fileno() in readable and not self._obey():
                return

    def _obey(self) -> bool:
        """Does what one message asks; False at the end."""
        packet, descriptors, _, _ = socket.recv_fds(
            self._control, MAX_PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not packet:
            return False
        match to_nursery.decode(packet):
            case Fork(number) if descriptors:
                self._fork(number, descriptors[0])
            case Kill(number) if number in self._pids:
                _kill_group(self._pids[number])
            case _:
                for descriptor in descriptors:
                    os.close(descriptor)
        return True

    def _fork(self, number: int, descriptor: int) -> None:
        flush_streams()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_child(descriptor, parent)
        with suppress(OSError):
            os.setpgid(pid, pid)  # the child does it too: whoever comes first
        os.close(descriptor)
        self._pids[number] = pid
        self._say(Forked(number, pid))

    def _become_child(self, descriptor: int, parent: int) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            with suppress(OSError):
                os.setpgid(0, 0)
            die_with_parent(parent)
            self._control.close()
            volunteer_for_oom_killer()
            if self._settings.memory_limit_bytes is not None:
                bound_memory(self._settings.memory_limit_bytes)
            code = serve_units(socket.socket(fileno=descriptor), self._settings)
        except (ConnectionError, KeyboardInterrupt):
            code = 0  # the worker has gone
        except BaseException:
            logger.exception("child.defect")
        finally:
            flush_streams()
            os._exit(code)

    def _reap(self) -> None:
        while self._pids:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            # What the child had started must not outlive it. Only after that its id may be used again.
            _kill_group(ended.si_pid)
            _, status = os.waitpid(ended.si_pid, 0)
            for number in [number for number, pid in self._pids.items() if pid == ended.si_pid]:
                del self._pids[number]
                self._say(Exited(number, os.waitstatus_to_exitcode(status)))

    def _say(self, message: FromNursery) -> None:
        self._control.send(encode(message))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
