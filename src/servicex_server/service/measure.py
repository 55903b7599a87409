"""What is counted of reports once they are recorded."""

from __future__ import annotations

from collections.abc import Sequence

from servicex_server.model.kinds import FileStatus
from servicex_server.model.unit import FileDone, FileFailed, Report
from servicex_server.service.record import Recorded
from servicex_server.telemetry import metrics


def measure(reports: Sequence[Report], recorded: Recorded) -> None:
    """Counts a committed batch; outcomes that were there before do not count again."""
    metrics.REPORT_BATCH.observe(len(reports))
    for report in reports:
        metrics.REPORTS.labels(_kind(report)).inc()
    reasons: dict[tuple[int, int, int], str] = {}
    for attempt in recorded.attempts:
        metrics.ATTEMPTS_FAILED.labels(attempt.reason).inc()
        reasons[attempt.request_number, attempt.file_id, attempt.entry_start] = attempt.reason
    for result in recorded.results:
        if result.status is FileStatus.FAILURE:
            reason = reasons.get((result.request_number, result.file_id, result.entry_start), "")
            metrics.FILES_ENDED.labels("failed", reason).inc()
            continue
        metrics.FILES_ENDED.labels("delivered", "").inc()
        metrics.FILE_SECONDS.observe(result.seconds)
        metrics.INPUT_BYTES.inc(max(0, result.bytes_read))
        metrics.RESULT_BYTES.inc(max(0, result.size_bytes))
        metrics.EVENTS.inc(max(0, result.n_events_in))
        metrics.ROWS.inc(max(0, result.n_events_out))


def _kind(report: Report) -> str:
    match report:
        case FileDone():
            return "done"
        case FileFailed():
            return "failed"
        case _:
            return "preflight"
