"""What the use cases work with: one frozen bundle, made by a composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from servicex_server.db.session import Database
from servicex_server.did.protocol import Finder, RemoteFinders
from servicex_server.model.compression import Compression
from servicex_server.model.kinds import ResultFormat
from servicex_server.plan.parse import CODEGENS
from servicex_server.queue.protocol import Crew, Hints, Queue
from servicex_server.service.backlog import Backlog
from servicex_server.service.limits import Limits
from servicex_server.service.notify import Notifier
from servicex_server.service.stream import Streams
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.protocol import Store


class Leadership:
    """Whether this process leads, which changes while it runs; `leader.run_while_leader` says when."""

    __slots__ = ("is_held",)

    def __init__(self, *, is_held: bool = True) -> None:
        self.is_held = is_held


def read_clock() -> datetime:
    """Now, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The ports and bounds of one server.

    Attributes:
        db: the truth.
        queue, store: where work and results go.
        policy: which inputs may be read.
        sees_inputs: this process has the local files of its workers before it, and can tell what is missing.
        limits: bounds and intervals.
        codegens: names of code generators and what they are.
        withheld: names of generators that this server knows but does not offer, and why.
        compressions: of results whose submitter asks for none; formats that are missing have their default.
        result_cache: results of earlier requests are taken, unless a request asks for none.
        finders: of data sets, by scheme, inside this process.
        absent_finders: schemes of ours that this server has no finder for, and what each needs.
        remote_finders: those that are programs of their own; None if there are none.
        default_scheme: of data sets that are named without one.
        notifier: wakes those who wait for a request.
        streams: those who follow requests, event by event.
        backlog: what this process still has to hand to the queue.
        hints: tells the other servers of a request that changed; None where there are no others.
        crew: the workers; None where they are this server's own children.
        leadership: whether this process does the background work; always, where it is the only one.
        clock: now, as an aware UTC time.
    """

    db: Database
    queue: Queue
    store: Store
    policy: SourcePolicy
    sees_inputs: bool = False
    limits: Limits = field(default_factory=Limits)
    codegens: Mapping[str, str] = field(default_factory=lambda: dict(CODEGENS))
    withheld: Mapping[str, str] = field(default_factory=dict)
    compressions: Mapping[ResultFormat, Compression] = field(default_factory=dict)
    result_cache: bool = True
    finders: Mapping[str, Finder] = field(default_factory=dict)
    absent_finders: Mapping[str, str] = field(default_factory=dict)
    remote_finders: RemoteFinders | None = None
    default_scheme: str = "rucio"
    notifier: Notifier = field(default_factory=Notifier)
    streams: Streams = field(default_factory=Streams)
    backlog: Backlog = field(default_factory=Backlog)
    hints: Hints | None = None
    crew: Crew | None = None
    leadership: Leadership = field(default_factory=Leadership)
    clock: Callable[[], datetime] = read_clock

    @property
    def lacks_workers(self) -> bool:
        """Whether requests wait for a worker to be connected, as far as is known."""
        return self.crew is not None and self.crew.is_absent
