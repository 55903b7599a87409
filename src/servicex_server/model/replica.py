"""What happened at the replicas of a file, for its user and for whoever looks after sites."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

READ = "read"
"""Outcome of a replica whose bytes were used to the end."""
MOST_ATTEMPTS = 20
_LOCATION_CHARACTERS = 1000
_OUTCOME_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ReplicaAttempt:
    """What happened at one replica of a file.

    Attributes:
        location: without credentials.
        outcome: `read`, or in words why it was left.
        seconds: from asking for it until it was done with.
    """

    location: str
    outcome: str
    seconds: float


ReplicaDocument = list[list[str | float]]
"""One list of location, outcome and seconds for each attempt, as JSON."""


def to_document(attempts: Sequence[ReplicaAttempt]) -> ReplicaDocument:
    """The attempts as JSON that every database takes: bounded, no NUL, no NaN, whatever a worker sent.

    >>> to_document([ReplicaAttempt("root://host//x.root", "read", 0.5)])
    [['root://host//x.root', 'read', 0.5]]
    """
    return [
        [
            _text(attempt.location, _LOCATION_CHARACTERS),
            _text(attempt.outcome, _OUTCOME_CHARACTERS),
            attempt.seconds if math.isfinite(attempt.seconds) and attempt.seconds >= 0 else 0.0,
        ]
        for attempt in attempts[:MOST_ATTEMPTS]
    ]


def from_document(document: ReplicaDocument | None) -> tuple[ReplicaAttempt, ...]:
    """The attempts that `to_document` wrote down; none for what older versions recorded."""
    return tuple(
        ReplicaAttempt(str(location), str(outcome), float(seconds))
        for location, outcome, seconds in document or ()
    )


def _text(text: str, most: int) -> str:
    short = text if len(text) <= most else text[: most - 1] + "…"
    return short.replace("\0", "�").encode(errors="replace").decode()
