"""One run of each kind: a seed, a single fault, a disk that gets full."""

from __future__ import annotations

import random
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos.arrival import Arrival, FileList, Finder
from chaos.faults import FAULTS, LONG_FAULTS, Planned, plan
from chaos.fleet import WORKERS, Fleet, running_fleet
from chaos.inputs import Inputs
from chaos.pace import PacedFiles
from chaos.report import Outcome, find_defects
from chaos.services import Services
from chaos.verdict import count_left, judge, judge_reasons
from chaos.watch import Watch

BOUND_S = 60.0
"""A request ends within that time once everything is whole again."""

PACE_S = 0.25
ARRIVALS: tuple[Arrival, ...] = (FileList(), Finder())
_SINGLE_FILES = 60
_DISK_BYTES = 6 * 2**20


@dataclass(frozen=True, slots=True)
class Ground:
    """What all runs share.

    Attributes:
        cache: folder for inputs, and the logs of runs that found something.
    """

    services: Services
    inputs: Inputs
    files: PacedFiles
    cache: Path

    def paths_of(self, names: Sequence[str]) -> list[str]:
        """Where a worker finds the files: every other one on its disk, the rest over HTTP, slowly."""
        return [
            str(self.inputs.folder / name) if number % 2 else f"{self.files.url}/{name}"
            for number, name in enumerate(names)
        ]


def run_seed(ground: Ground, seed: int) -> Outcome:
    """A request for all files, with the faults of the seed."""
    with keep_logs(ground, f"seed-{seed}") as (folder, outcome):
        with running_fleet(ground.services, folder, seed, ground.inputs.folder) as fleet:
            _request(ground, fleet, ground.inputs.names, plan(seed), outcome, arrival=ARRIVALS[seed % 2])
            outcome.complaints += fleet.stop()
        outcome.complaints += find_defects(folder)
    return outcome


def run_singles(ground: Ground, told: Callable[[Outcome], None]) -> None:
    """A smaller request for each kind of fault, which is the only one; all on one deployment."""
    names = ground.inputs.names[: _SINGLE_FILES - 2] + list(ground.inputs.bad)
    with keep_logs(ground, "singles") as (folder, whole):
        with running_fleet(ground.services, folder, 0, ground.inputs.folder) as fleet:
            for number, fault in enumerate((*FAULTS, *LONG_FAULTS)):
                outcome = Outcome(fault.name)
                _guarded(
                    _request,
                    outcome,
                    ground,
                    fleet,
                    names,
                    [Planned(0.3 + number % 5 / 5, fault, number)],
                    outcome,
                    number,
                    ARRIVALS["finder" in fault.name],
                )
                if outcome.complaints:
                    whole.complaints.append(f"see {fault.name}")  # so that logs are kept
                told(outcome)
            whole.complaints += fleet.stop()
        whole.complaints += find_defects(folder)
    told(whole)


def run_full_disk(ground: Ground) -> Outcome:
    """A local store on a disk that is too small: files fail with that reason, and a retry has them all."""
    with keep_logs(ground, "full disk") as (folder, outcome), _small_disk() as disk:
        (disk / "store").mkdir()
        store = {"store_url": str(disk / "store"), "min_free_bytes": "0", "results_disk_share": "1"}
        with running_fleet(
            ground.services, folder, 0, ground.inputs.folder, store=store, workers=WORKERS[:2]
        ) as fleet:
            _fill_and_retry(ground, fleet, disk, outcome)
            outcome.complaints += fleet.stop()
        outcome.complaints += find_defects(folder)
    return outcome


def _request(
    ground: Ground,
    fleet: Fleet,
    names: list[str],
    faults: Sequence[Planned],
    outcome: Outcome,
    question: int = 0,
    arrival: Arrival = ARRIVALS[0],
) -> None:
    watch = Watch(fleet)
    restarts = sum(fleet.restarts.values())
    started = time.monotonic()
    breaking = [
        threading.Thread(target=break_something, args=(fleet, planned, started, outcome))
        for planned in faults
    ]
    for thread in breaking:
        thread.start()
    try:
        request_id = watch.submit(
            f"{outcome.name} {started}",
            ground.paths_of(names),
            arrival,
            give_up_s=90,
            question=question,
        )
        over = threading.Event()
        following = threading.Thread(target=watch.follow, args=(request_id, over))
        following.start()
        dataset_id = watch.persist("GET", f"/servicex/transformation/{request_id}", end=started + 90)[
            "did_id"
        ]
        arrival.tell(fleet, int(dataset_id), ground.paths_of(names))
    finally:
        for thread in breaking:
            thread.join()
    whole = time.monotonic()
    over.set()
    following.join()
    ended = watch.wait(request_id, BOUND_S)
    outcome.seconds, outcome.healed_s = time.monotonic() - started, time.monotonic() - whole
    outcome.restarts = sum(fleet.restarts.values()) - restarts
    if ended is None:
        outcome.complaints.append(f"{request_id} did not end within {BOUND_S:g} s: {watch.status}")
    else:
        outcome.complaints += judge(fleet, watch, request_id, ground.inputs, names)
        errors = watch.persist(
            "GET", f"/servicex/transformation/{request_id}/errors", end=time.monotonic() + 30
        )
        bad = [name for name in names if name in ground.inputs.bad]
        outcome.complaints += judge_reasons(errors["errors"], bad)
    outcome.left = count_left(fleet, fleet.list_keys())
    outcome.complaints += watch.complaints + fleet.complaints
    fleet.complaints.clear()


def break_something(fleet: Fleet, planned: Planned, started: float, outcome: Outcome) -> None:
    """Injects the fault at its moment, and notes it."""
    time.sleep(max(0.0, started + planned.at_s - time.monotonic()))
    begun = time.monotonic()
    try:
        is_done = planned.fault.inject(fleet, random.Random(planned.seed))
    except Exception:  # noqa: BLE001  a defect of ours, to be told
        outcome.complaints.append(f"{planned.fault.name} could not be injected: {traceback.format_exc()}")
        return
    took = f" for {time.monotonic() - begun:.1f}" if time.monotonic() - begun > 0.5 else ""
    outcome.faults.append(f"{planned.fault.name} at {planned.at_s:.1f}{took}{'' if is_done else ' (missed)'}")


def _fill_and_retry(ground: Ground, fleet: Fleet, disk: Path, outcome: Outcome) -> None:
    names = ground.inputs.names
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(_DISK_BYTES - 2**20))
    watch = Watch(fleet)
    started = time.monotonic()
    paths = [str(ground.inputs.folder / name) for name in names]
    request_id = watch.submit("full disk", paths, ARRIVALS[0], give_up_s=60)
    ended = watch.wait(request_id, BOUND_S)
    outcome.faults.append("disk full")
    errors = watch.persist("GET", f"/servicex/transformation/{request_id}/errors", end=time.monotonic() + 30)[
        "errors"
    ]
    full = [entry for entry in errors if "is full" in entry["info"] or "no space is left" in entry["info"]]
    if ended is None or ended["status"] != "Complete":
        outcome.complaints.append(f"on a full disk it ended as {watch.status}")
    if len(full) + len(ground.inputs.bad) != len(errors) or not full:
        outcome.complaints.append(
            f"{len(full)} files of {len(errors)} failed because of the disk: {errors[:5]}"
        )
    ballast.unlink()
    if watch.ask("POST", f"/servicex/transformation/{request_id}/retry") is None:
        outcome.complaints.append("the retry was refused")
    watch.status = {}
    watch.wait(request_id, BOUND_S)
    outcome.seconds = time.monotonic() - started
    outcome.complaints += judge(fleet, watch, request_id, ground.inputs, names)
    outcome.left = count_left(fleet, fleet.list_keys())
    outcome.complaints += watch.complaints + fleet.complaints


@contextmanager
def _small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="chaos-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def keep_logs(ground: Ground, name: str) -> Iterator[tuple[Path, Outcome]]:
    """A folder for logs, which stays if something was found, and the outcome to fill in."""
    outcome = Outcome(name)
    folder = Path(tempfile.mkdtemp(prefix="chaos-")) / name.replace(" ", "-")
    folder.mkdir()
    try:
        yield folder, outcome
    except Exception:  # noqa: BLE001  the other runs go on
        outcome.complaints.append(f"the run ended early: {traceback.format_exc()}")
    if outcome.complaints:
        kept = ground.cache / "logs" / folder.name
        _copy_logs(folder, kept)
        outcome.complaints.append(f"logs are in {kept}")
    subprocess.run(["rm", "-rf", str(folder.parent)], check=True)


def _copy_logs(folder: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for log in folder.glob("*.log"):
        (kept / log.name).write_bytes(log.read_bytes())


def _guarded(run: Callable[..., None], outcome: Outcome, *arguments: object) -> None:
    try:
        run(*arguments)
    except Exception:  # noqa: BLE001  the other faults have their turn
        outcome.complaints.append(f"the run ended early: {traceback.format_exc()}")
