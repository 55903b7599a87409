"""Many small requests of several users for minutes, while now and then something breaks."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from chaos.arrival import FileList
from chaos.faults import FAULTS, Planned
from chaos.fleet import Fleet, running_fleet
from chaos.report import Outcome, find_defects
from chaos.runs import BOUND_S, Ground, break_something, keep_logs
from chaos.verdict import count_left, judge, judge_rows
from chaos.watch import TERMINAL, Watch
from servicex_server.model.shared import is_shared

USERS = ("anna", "ben", "chloe", "david")
PAUSE_S = 12.0
"""Between two faults, on average."""

_PATH = "/servicex/transformation"
_MOST_FILES = 12
_QUESTIONS = 20
"""So few that results are shared, and go while somebody else begins to share them."""
_OUTLIVES_S = BOUND_S + 60.0
"""A request that begins just before an outage, and one after it, may take so long."""


@dataclass
class _Tally:
    """What the users did together."""

    outcome: Outcome
    requests: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, what: str, seconds: float, complaints: list[str]) -> None:
        with self.lock:
            self.requests[what] += 1
            self.slowest_s = max(self.slowest_s, seconds)
            self.outcome.complaints += complaints


def run_soak(ground: Ground, seed: int, minutes: float, told: Callable[[str], None]) -> Outcome:
    """Several users for that long; afterwards nothing is unfinished, and nothing is left behind."""
    with keep_logs(ground, "soak") as (folder, outcome):
        with running_fleet(ground.services, folder, seed, ground.inputs.folder) as fleet:
            tally = _Tally(outcome)
            end = time.monotonic() + 60 * minutes
            tokens = [fleet.deployment.run("token", "create", name).strip() for name in USERS]
            users = [
                threading.Thread(
                    target=_use, args=(ground, fleet, token, tally, end, random.Random(seed + number))
                )
                for number, token in enumerate(tokens)
            ]
            started = time.monotonic()
            for user in users:
                user.start()
            memory = _break_now_and_then(fleet, outcome, end, random.Random(seed))
            for user in users:
                user.join()
            outcome.seconds = time.monotonic() - started
            outcome.restarts = sum(fleet.restarts.values())
            _judge_whole(fleet, outcome)
            outcome.complaints += fleet.complaints + fleet.stop()
            told(f"requests: {dict(tally.requests)}, the slowest took {tally.slowest_s:.1f} s")
            told("memory in MiB, of each role when it was first seen and last: " + ", ".join(memory))
        outcome.complaints += find_defects(folder)
    return outcome


def _use(ground: Ground, fleet: Fleet, token: str, tally: _Tally, end: float, dice: random.Random) -> None:
    while time.monotonic() < end:
        watch = Watch(fleet, token)
        started = time.monotonic()
        what, complaints = "nothing", []
        try:
            what = _request_something(ground, watch, dice)
        except Exception:  # noqa: BLE001  the others go on
            complaints = [f"a user met an error: {traceback.format_exc()}"]
        tally.note(what, time.monotonic() - started, complaints + watch.complaints)


def _request_something(ground: Ground, watch: Watch, dice: random.Random) -> str:
    """One request, from submit to its end or beyond; what was done with it."""
    names = dice.sample(ground.inputs.names, dice.randint(1, _MOST_FILES))
    title = f"{dice.getrandbits(64):x}"
    request_id = watch.submit(
        title,
        ground.paths_of(names),
        FileList(),
        give_up_s=_OUTLIVES_S,
        question=dice.randrange(_QUESTIONS),
    )
    what = dice.choices(("used", "canceled", "deleted"), (6, 2, 2))[0]
    if what == "canceled":
        time.sleep(dice.uniform(0, 0.5))
        _cancel(watch, request_id)
    elif watch.wait(request_id, _OUTLIVES_S) is None:
        watch.complaints.append(f"{request_id} did not end within {_OUTLIVES_S:g} s: {watch.status}")
    elif watch.status["status"] == "Fatal" and all(name in ground.inputs.bad for name in names):
        pass
    else:
        watch.complaints += judge(watch.fleet, watch, request_id, ground.inputs, names)
        if what == "deleted":
            _delete(watch, request_id)
    return what


def _cancel(watch: Watch, request_id: str) -> None:
    """Until it has ended; it may have done so before."""
    end = time.monotonic() + _OUTLIVES_S
    while watch.persist("GET", f"{_PATH}/{request_id}", end=end)["status"] not in TERMINAL:
        watch.ask("GET", f"{_PATH}/{request_id}/cancel", excused={400})
    watch.complaints += judge_rows(watch.fleet, request_id)


def _delete(watch: Watch, request_id: str) -> None:
    end = time.monotonic() + _OUTLIVES_S
    path = f"{_PATH}/{request_id}"
    while (
        watch.ask("DELETE", path, excused={404}) is None and watch.ask("GET", path, excused={404}) is not None
    ):
        if time.monotonic() > end:
            watch.complaints.append(f"{request_id} cannot be deleted")
            return


def _break_now_and_then(fleet: Fleet, outcome: Outcome, end: float, dice: random.Random) -> list[str]:
    """Breaks one thing at a time; returns how the processes' memory grew."""
    started = time.monotonic()
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(left_s, dice.expovariate(1 / PAUSE_S)))
        last = {name: _memory_mib(fleet.processes_of(name)) for name in fleet.deployment.roles}
        first = last | first
        if end - time.monotonic() > PAUSE_S:
            (fault,) = dice.choices(FAULTS, [fault.weight for fault in FAULTS])
            at_s = time.monotonic() - started
            break_something(fleet, Planned(at_s, fault, dice.randrange(2**32)), started, outcome)
    return [f"{name} {first[name]} {last[name]}" for name in last]


def _memory_mib(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total >> 20


def _judge_whole(fleet: Fleet, outcome: Outcome) -> None:
    unfinished = fleet.query("SELECT id, state FROM request WHERE finish_time IS NULL AND deleted_at IS NULL")
    if unfinished:
        outcome.complaints.append(f"unfinished requests remain: {unfinished}")
    fleet.deployment.run("sweep")
    known = {str(request_id) for (request_id,) in fleet.query("SELECT id FROM request")}
    keys = fleet.list_keys()
    orphans = {key.partition("/")[0] for key in keys if not is_shared(key)} - known
    if orphans:
        outcome.complaints.append(f"objects of requests that are gone remain: {orphans}")
    # Shared ones belong to no request: those that no result names any more go, those that one names stay.
    # What a worker left that was killed before it could tell is older than any soak when it goes.
    doomed = {str(key) for (key,) in fleet.query("SELECT store_key FROM shared_object WHERE n_results = 0")}
    if doomed & keys:
        outcome.complaints.append(f"shared objects that no result names remain: {sorted(doomed & keys)[:5]}")
    named = fleet.query(
        "SELECT store_key FROM file_result JOIN request ON request.number = request_number "
        "WHERE store_key IS NOT NULL AND deleted_at IS NULL"
    )
    lacking = {str(key) for (key,) in named} - keys
    if lacking:
        outcome.complaints.append(f"results name objects that are gone: {sorted(lacking)[:5]}")
    outcome.left = count_left(fleet, keys)
