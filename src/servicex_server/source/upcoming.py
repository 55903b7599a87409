"""Files that are read one after the other: the next one is opened while one is read."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import suppress

from servicex_server.errors import ServicexError
from servicex_server.source.pattern import explain_wildcard
from servicex_server.source.policy import LOCAL_SCHEMES, SourcePolicy, scheme_of
from servicex_server.source.reading import Reading
from servicex_server.source.replica import Replicas


def in_turn(
    files: Sequence[str], policy: SourcePolicy, reading: Reading | None = None
) -> Generator[str | Replicas]:
    """Each file as it was given, or its replicas if they are being opened already.

    While the caller has one, the next is opened if it is far away: else nothing would be done while two or
    three answers of its server are on their way. What is wrong with it is told when it is its turn.
    """
    following: Replicas | None = None
    try:
        for number, file in enumerate(files):
            current = following or file
            following = _begin(files[number + 1], policy, reading) if number + 1 < len(files) else None
            try:
                yield current
            finally:
                if isinstance(current, Replicas):
                    # In case that its reader failed before it came to open it.
                    current.abandon()
    finally:
        if following is not None:
            following.abandon()


def _begin(file: str, policy: SourcePolicy, reading: Reading | None) -> Replicas | None:
    if scheme_of(file) in LOCAL_SCHEMES or explain_wildcard(file) is not None:
        return None
    with suppress(ServicexError):
        replicas = Replicas((file,), policy, reading)
        replicas.open_ahead()
        return replicas
    return None
