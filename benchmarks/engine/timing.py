"""All methods on the same query and file in turn, each round in another order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.engine.digest import Digest, digest_file
from benchmarks.engine.inputs import TREE, Input, warm
from benchmarks.engine.methods.protocol import Task
from benchmarks.engine.methods.table import METHODS
from benchmarks.engine.process import MethodFailed, MethodProcess, Spent
from benchmarks.engine.queries import Query

SLOW_S = 4.0
"""A query whose slowest method takes longer has fewer rounds."""


@dataclass(slots=True)
class Measurement:
    """What one method took for one query on one file.

    Attributes:
        spent: of each round, without the first, which is for warming up and for checking the rows.
        output_bytes: size of the result.
        problem: why there is no number.
    """

    codec: str
    query: str
    method: str
    n_events: int
    spent: list[Spent] = field(default_factory=list)
    output_bytes: int = 0
    problem: str | None = None

    @property
    def wall_s(self) -> float | None:
        """The median."""
        return median(spent.wall_s for spent in self.spent) if self.spent else None

    @property
    def cpu_s(self) -> float | None:
        """The median."""
        return median(spent.cpu_s for spent in self.spent) if self.spent else None


class Stable:
    """The processes of the methods, made anew when one has died.

    Args:
        outputs: folder for results.
        logs: folder for what the methods print.
    """

    def __init__(self, methods: Sequence[str], outputs: Path, *, logs: Path) -> None:
        self.methods = tuple(methods)
        self._outputs = outputs
        self._logs = logs
        self._processes: dict[str, MethodProcess] = {}

    def process(self, method: str) -> MethodProcess:
        """The living process of a method.

        Raises:
            MethodFailed: the method cannot be made.
        """
        found = self._processes.get(method)
        if found is None or not found.is_alive():
            if found is not None:
                found.close()
            found = self._processes[method] = MethodProcess(method, self._logs / f"{method}.log")
        return found

    def output(self, method: str) -> Path:
        """Where a method's result goes."""
        return self._outputs / f"{method}{METHODS[method].extension}"

    def close(self) -> None:
        for process in self._processes.values():
            process.close()
        for method in self.methods:
            self.output(method).unlink(missing_ok=True)


def measure(
    stable: Stable, query: Query, source: Input, expected: Digest, *, n_rounds: tuple[int, int]
) -> list[Measurement]:
    """Times every method on the query.

    Args:
        n_rounds: rounds of a quick query, and of one slower than `SLOW_S`.
    """
    warm(source.path)
    task = Task(query, source.path, TREE)
    results = {
        method: Measurement(source.codec, query.name, method, source.n_events) for method in stable.methods
    }
    slowest_s = max(_warm_up(stable, task, expected, result) for result in results.values())
    quick, slow = n_rounds
    for number in range(slow if slowest_s > SLOW_S else quick):
        for method in _turned(stable.methods, number):
            if results[method].problem is None:
                _time(stable, task, results[method])
    return list(results.values())


def _turned(methods: Sequence[str], by: int) -> Iterator[str]:
    """The methods from another one on in each round, so that none always follows the same."""
    start = by % len(methods)
    yield from methods[start:]
    yield from methods[:start]


def _warm_up(stable: Stable, task: Task, expected: Digest, result: Measurement) -> float:
    """Answers once and looks at the rows; returns the seconds that it took."""
    output = stable.output(result.method)
    try:
        process = stable.process(result.method)
        process.prepare(task)
        spent = process.answer(task, output)
        found = digest_file(output, task.tree, task.query.columns)
    except MethodFailed as error:
        result.problem = str(error)
        return 0.0
    result.output_bytes = output.stat().st_size
    if difference := expected.find_difference(found):
        result.problem = f"gives {difference}"
    return spent.wall_s


def _time(stable: Stable, task: Task, result: Measurement) -> None:
    output = stable.output(result.method)
    try:
        result.spent.append(stable.process(result.method).answer(task, output))
    except MethodFailed as error:
        result.problem = str(error)
        result.spent.clear()
    finally:
        output.unlink(missing_ok=True)


def of(measurements: Sequence[Measurement], codec: str, query: str) -> Mapping[str, Measurement]:
    """The measurements of one query on one file, by method."""
    return {item.method: item for item in measurements if (item.codec, item.query) == (codec, query)}
