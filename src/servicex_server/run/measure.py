"""What a worker counts of the units that its children have done."""

from __future__ import annotations

from dataclasses import fields

from servicex_server.model.tally import StageSeconds
from servicex_server.model.unit import FileDone, FileFailed, Report
from servicex_server.telemetry.metrics import (
    WORKER_INPUT_BYTES,
    WORKER_RESULT_BYTES,
    WORKER_STAGE_SECONDS,
    WORKER_UNITS,
)

_STAGES = tuple(stage.name for stage in fields(StageSeconds))


def measure(report: Report | None) -> None:
    """Counts a unit; None for one that was abandoned. Children may report anything: no number goes down."""
    match report:
        case None:
            WORKER_UNITS.labels("abandoned").inc()
        case FileDone():
            WORKER_UNITS.labels("delivered").inc()
            WORKER_INPUT_BYTES.inc(max(0, report.bytes_read))
            WORKER_RESULT_BYTES.inc(max(0, report.size_bytes))
            for stage in _STAGES:
                seconds: float = getattr(report.tally.seconds, stage)
                if 0 < seconds < float("inf"):
                    WORKER_STAGE_SECONDS.labels(stage).inc(seconds)
        case FileFailed():
            WORKER_UNITS.labels("failed").inc()
        case _:
            WORKER_UNITS.labels("preflight").inc()
