"""What is broken, and how; and which of it at what moment."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from chaos.fleet import APPS, SWEEPERS, WORKERS, Fleet

Inject = Callable[[Fleet, random.Random], bool]
"""Breaks something and heals it, except for processes, which are started again by the fleet.

Returns whether there was something to break.
"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break a deployment.

    Attributes:
        weight: how often it is drawn.
    """

    name: str
    inject: Inject
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault at its moment, in seconds after the submit begins."""

    at_s: float
    fault: Fault
    seed: int


def plan(seed: int, *, window_s: float = 9.0) -> list[Planned]:
    """The faults of a seed, in their order."""
    dice = random.Random(seed)
    chosen: list[Fault] = []
    for fault in dice.choices(FAULTS, [fault.weight for fault in FAULTS], k=dice.randint(4, 9)):
        # A broker takes eight seconds to start; more than one such outage is no other test.
        if "broker" in fault.name and any("broker" in other.name for other in chosen):
            continue
        chosen.append(fault)
    moments = sorted(dice.uniform(0.0, window_s) for _ in chosen)
    return [Planned(at_s, fault, dice.randrange(2**32)) for at_s, fault in zip(moments, chosen, strict=True)]


# Processes


def _leader(fleet: Fleet, dice: random.Random) -> str | None:
    return fleet.leader() or dice.choice(APPS)


def _follower(fleet: Fleet, dice: random.Random) -> str | None:
    leader = fleet.leader()
    return dice.choice([name for name in APPS if name != leader])


def _worker(fleet: Fleet, dice: random.Random) -> str | None:
    return dice.choice([name for name in WORKERS if name in fleet.deployment.roles])


def _sweeper(fleet: Fleet, dice: random.Random) -> str | None:
    return dice.choice(SWEEPERS)


Choose = Callable[[Fleet, random.Random], str | None]


def _end(choose: Choose, number: signal.Signals) -> Inject:
    def inject(fleet: Fleet, dice: random.Random) -> bool:
        name = choose(fleet, dice)
        return name is not None and fleet.end(name, number)

    return inject


def _freeze(choose: Choose) -> Inject:
    def inject(fleet: Fleet, dice: random.Random) -> bool:
        name = choose(fleet, dice)
        if name is None:
            return False
        # The main process alone: what it started goes on beside it, as when only it hangs.
        return _hold(fleet.processes_of(name)[:1], dice.uniform(1, 9))

    return inject


def _nursery(fleet: Fleet, dice: random.Random) -> tuple[str, list[psutil.Process]] | None:
    """A worker's process that forks, and its children."""
    name = _worker(fleet, dice)
    processes = fleet.processes_of(name) if name is not None else []
    return None if name is None or len(processes) < 3 else (name, processes[1:])


def _kill_nursery(fleet: Fleet, dice: random.Random) -> bool:
    found = _nursery(fleet, dice)
    if found is None:
        return False
    with fleet.lock:
        fleet.expected.add(found[0])  # a worker ends when it cannot start children any more
    return _send(found[1][0], signal.SIGKILL)


def _kill_child(fleet: Fleet, dice: random.Random) -> bool:
    found = _nursery(fleet, dice)
    return found is not None and _send(dice.choice(found[1][1:]), signal.SIGKILL)


def _freeze_child(fleet: Fleet, dice: random.Random) -> bool:
    found = _nursery(fleet, dice)
    return found is not None and _hold([dice.choice(found[1][1:])], dice.uniform(1, 9))


def _kill_finder(fleet: Fleet, _dice: random.Random) -> bool:
    finder = fleet.finder
    if finder is None or finder.poll() is not None:
        return False
    finder.kill()
    return True


def _send(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _hold(processes: Sequence[psutil.Process], seconds: float) -> bool:
    held = [process for process in processes if _send(process, signal.SIGSTOP)]
    time.sleep(seconds)
    for process in held:
        _send(process, signal.SIGCONT)
    return bool(held)


# Services


def _restart(service: str, *, wipe: bool = False, away_s: float | None = None) -> Inject:
    def inject(fleet: Fleet, dice: random.Random) -> bool:
        crash, start = fleet.services.outage_of(service)
        with fleet.services.locks[service]:
            if service == "broker":
                _let_it_write(fleet)
            crash()
            time.sleep(dice.choice((0.0, dice.uniform(0, 4))) if away_s is None else away_s)
            if wipe:
                fleet.services.broker.wipe()
            start()
        return True

    return inject


def _let_it_write(fleet: Fleet) -> None:
    """RabbitMQ 3.10 does not survive a crash in the half second after a quorum queue was declared."""
    prefix = fleet.deployment.settings["queue_prefix"]
    names = [f"{prefix}.{name}" for name in ("units", "preflights", "failed", "reports")]
    with suppress(RuntimeError, ValueError, OSError):
        fleet.services.broker.wait_until_kept(*names)


def _freeze_service(service: str) -> Inject:
    def inject(fleet: Fleet, dice: random.Random) -> bool:
        with fleet.services.locks[service]:
            return _hold(fleet.services.processes_of(service), dice.uniform(1, 6))

    return inject


FAULTS = (
    Fault("kill child", _kill_child, 2),
    Fault("kill nursery", _kill_nursery),
    Fault("kill worker", _end(_worker, signal.SIGKILL), 2),
    Fault("kill leader", _end(_leader, signal.SIGKILL), 2),
    Fault("kill follower", _end(_follower, signal.SIGKILL)),
    Fault("kill sweeper", _end(_sweeper, signal.SIGKILL)),
    Fault("kill finder", _kill_finder),
    Fault("stop worker", _end(_worker, signal.SIGTERM)),
    Fault("stop leader", _end(_leader, signal.SIGTERM)),
    Fault("freeze child", _freeze_child),
    Fault("freeze worker", _freeze(_worker)),
    Fault("freeze leader", _freeze(_leader), 2),
    Fault("freeze follower", _freeze(_follower), 0.5),
    Fault("freeze sweeper", _freeze(_sweeper), 0.5),
    Fault("restart broker", _restart("broker"), 2),
    Fault("wipe broker", _restart("broker", wipe=True), 2),
    Fault("freeze broker", _freeze_service("broker")),
    Fault("restart postgres", _restart("postgres"), 2),
    Fault("freeze postgres", _freeze_service("postgres")),
    Fault("restart store", _restart("store"), 2),
    Fault("freeze store", _freeze_service("store")),
)

LONG_FAULTS = (
    Fault("miss broker", _restart("broker", away_s=40)),
    Fault("miss postgres", _restart("postgres", away_s=40)),
    Fault("miss store", _restart("store", away_s=75)),
)
"""Longer than the patience of those who wait; they come by themselves alone."""
