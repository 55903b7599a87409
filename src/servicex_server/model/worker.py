"""How a worker is set up: plain values that travel from the server to the worker process."""

from __future__ import annotations

from dataclasses import dataclass, field

HEAVY_MODULES = ("numpy", "awkward", "pyarrow", "pyarrow.parquet", "uproot")
"""Imported once, before slots are forked, so that each of them starts warm."""


@dataclass(frozen=True, slots=True)
class ExecutorSpec:
    """What turns a unit into a report, named so that another process can import it.

    Attributes:
        factory: 'module:callable'; called once per child process with `kwargs`, returns the function that
            takes a `Unit` and returns its `Report`.
        kwargs: plain values (numbers, text, bytes, None, lists, dicts). They may hold secrets: they travel
            through pipes only.
    """

    factory: str
    kwargs: dict[str, object] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker process and its slots.

    Attributes:
        queue_url: where units come from: `unix:///socket` of an embedded queue, or `amqp://…` of a broker.
        slots: how many units are worked on at once; each has a child process of its own.
        executor: what runs in the children.
        preload: modules to import before children are forked, besides the executor's own.
        memory_limit_bytes: bound on the address space of a child; None for no bound.
        drain_grace_s: how long running units may go on after the worker was asked to stop.
        parent_pid: the worker does not outlive this process; None for a worker on its own.
        log_level: of the worker and its children, which write to stderr.
        log_json: whether they write JSON lines.
        queue_prefix: of the names of a broker's queues.
        metrics_host: address on which the worker tells its metrics.
        metrics_port: port for them; 0 for none.
    """

    queue_url: str = field(repr=False)
    slots: int
    executor: ExecutorSpec
    preload: tuple[str, ...] = HEAVY_MODULES
    memory_limit_bytes: int | None = None
    drain_grace_s: float = 20.0
    parent_pid: int | None = None
    log_level: str = "INFO"
    log_json: bool = False
    queue_prefix: str = "servicex"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
