"""The report of a unit that whoever worked on it could not report itself."""

from __future__ import annotations

from servicex_server.model.unit import (
    Failure,
    FileFailed,
    PreflightDone,
    PreflightUnit,
    Reason,
    Report,
    Unit,
)


def ended_early(unit: Unit, reason: Reason, message: str, seconds: float) -> Report:
    """What to tell of a unit that was ended from outside.

    A preflight that could not be finished rejects nothing: the files themselves will show what is wrong.
    """
    if isinstance(unit, PreflightUnit):
        return PreflightDone(request_id=unit.request_id, rejection=None)
    return FileFailed(
        request_id=unit.request_id,
        file_id=unit.file_id,
        path=unit.paths[0] if unit.paths else "",
        failure=Failure(reason, message),
        seconds=seconds,
        attempt=unit.attempt,
        entry_start=unit.entry_start,
    )
