"""Every metric, declared in one place (`docs/metrics.md` is this file as a table; a test compares them).

Names follow https://prometheus.io/docs/practices/naming/: `servicex_`, what is counted, the unit. Labels have
few values, known beforehand: templates of routes, states, reasons. Names of users, ids of requests, paths and
hosts are never labels. Each process counts for itself, app, sweeper and worker alike, and starts at zero.

Code of children that do a worker's units never comes here: their reports tell the worker what it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `render` gives."""

REGISTRY = CollectorRegistry()
PROCESS = ProcessCollector(namespace="servicex", registry=REGISTRY)
"""Processor time, memory and open files of the process itself."""

# Most routes answer in milliseconds; a young request's status is held for up to 4 s, a submit for up to 20 s.
_HTTP_BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 25.0)
# A commit of SQLite or PostgreSQL, an operation on a local or remote store: half a millisecond to seconds.
_IO_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
# From skims of small local files to gigabytes over a slow line; an attempt may take an hour.
_FILE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
# At most as many as `Limits.report_batch`: full batches say that recording is the bottleneck.
_BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 150, 199)

HTTP_SECONDS = Histogram(
    "servicex_http_request_seconds",
    "Time until an answer begins, by route template, method and status; streams are counted when they end.",
    ("route", "method", "status"),
    buckets=_HTTP_BUCKETS,
    registry=REGISTRY,
)
HTTP_STREAMS = Gauge("servicex_http_event_streams", "Event streams that are open.", registry=REGISTRY)

REQUEST_TRANSITIONS = Counter(
    "servicex_request_transitions_total",
    "Requests that entered a state, by the process that stored it.",
    ("state",),
    registry=REGISTRY,
)
FILES_ENDED = Counter(
    "servicex_files_ended_total",
    "Files delivered, or failed for good and why (reason is empty for delivered ones).",
    ("outcome", "reason"),
    registry=REGISTRY,
)
ATTEMPTS_FAILED = Counter(
    "servicex_attempts_failed_total",
    "Attempts at files that failed, whether or not another followed.",
    ("reason",),
    registry=REGISTRY,
)
FILE_SECONDS = Histogram(
    "servicex_file_attempt_seconds",
    "Wall time of the attempts that delivered a file.",
    buckets=_FILE_BUCKETS,
    registry=REGISTRY,
)
INPUT_BYTES = Counter(
    "servicex_input_read_bytes_total", "Bytes fetched from inputs of delivered files.", registry=REGISTRY
)
RESULT_BYTES = Counter(
    "servicex_results_written_bytes_total", "Size of result objects of delivered files.", registry=REGISTRY
)
EVENTS = Counter(
    "servicex_events_processed_total", "Entries read of delivered files, before selection.", registry=REGISTRY
)
ROWS = Counter("servicex_rows_written_total", "Rows in results of delivered files.", registry=REGISTRY)

QUEUE_WAITING = Gauge(
    "servicex_queue_waiting_units", "Units of work that wait for a worker.", registry=REGISTRY
)
QUEUE_LEASED = Gauge("servicex_queue_leased_units", "Units in the hands of workers.", registry=REGISTRY)
QUEUE_SLOTS = Gauge(
    "servicex_queue_slots", "Units that connected workers can take at once.", registry=REGISTRY
)
QUEUE_REPORTS = Gauge(
    "servicex_queue_unrecorded_reports", "Reports of workers that are not recorded yet.", registry=REGISTRY
)

REPORTS = Counter(
    "servicex_reports_recorded_total",
    "Reports of workers that were recorded, repeats included.",
    ("kind",),
    registry=REGISTRY,
)
REPORT_BATCH = Histogram(
    "servicex_report_batch_reports",
    "Reports recorded in one transaction.",
    buckets=_BATCH_BUCKETS,
    registry=REGISTRY,
)
DB_WRITE_SECONDS = Histogram(
    "servicex_db_write_seconds",
    "Time from asking for a change of the database to its commit.",
    buckets=_IO_BUCKETS,
    registry=REGISTRY,
)
STORE_SECONDS = Histogram(
    "servicex_store_operation_seconds",
    "Time of operations on the result store (stream: until the first bytes).",
    ("operation",),
    buckets=_IO_BUCKETS,
    registry=REGISTRY,
)

WORKER_PROCESS_RESTARTS = Counter(
    "servicex_worker_process_restarts_total",
    "Worker processes that died and were replaced by this one.",
    registry=REGISTRY,
)
WORKER_SLOTS = Gauge("servicex_worker_slots", "Units that this worker takes at once.", registry=REGISTRY)
WORKER_CHILDREN = Gauge(
    "servicex_worker_children_alive", "Child processes of this worker that live.", registry=REGISTRY
)
WORKER_CHILD_RESTARTS = Counter(
    "servicex_worker_child_restarts_total",
    "Children that ended or were retired and were replaced.",
    registry=REGISTRY,
)
WORKER_BUSY_SECONDS = Counter(
    "servicex_worker_busy_seconds_total",
    "Time for which children had units, added up over them.",
    registry=REGISTRY,
)
WORKER_UNITS = Counter(
    "servicex_worker_units_total",
    "Units that this worker was given, by outcome: delivered, failed, preflight or abandoned.",
    ("outcome",),
    registry=REGISTRY,
)
WORKER_STAGE_SECONDS = Counter(
    "servicex_worker_stage_seconds_total",
    "Where the time of delivered files went: read, decompress, filter, encode, write; threads are added up.",
    ("stage",),
    registry=REGISTRY,
)
WORKER_INPUT_BYTES = Counter(
    "servicex_worker_input_read_bytes_total", "Bytes fetched from inputs by this worker.", registry=REGISTRY
)
WORKER_RESULT_BYTES = Counter(
    "servicex_worker_results_written_bytes_total", "Bytes of results by this worker.", registry=REGISTRY
)

PROXY_EXPIRY = Gauge(
    "servicex_proxy_expiry_timestamp_seconds",
    "When the grid proxy that `servicex-server proxy` keeps ends, in Unix time; 0 for none.",
    registry=REGISTRY,
)
PROXY_CERTIFICATE_EXPIRY = Gauge(
    "servicex_proxy_certificate_expiry_timestamp_seconds",
    "When the certificate that it is made from ends, in Unix time; 0 for none.",
    registry=REGISTRY,
)
PROXY_RENEWALS = Counter(
    "servicex_proxy_renewals_total",
    "Attempts to renew the proxy, by outcome: renewed or failed.",
    ("outcome",),
    registry=REGISTRY,
)

DECLARED: tuple[Counter | Gauge | Histogram, ...] = tuple(
    metric for metric in list(globals().values()) if isinstance(metric, Counter | Gauge | Histogram)
)
"""All of the above in their order."""


@contextmanager
def watch_queue(
    *,
    waiting: Callable[[], float],
    leased: Callable[[], float],
    slots: Callable[[], float],
    reports: Callable[[], float],
) -> Iterator[None]:
    """Lets the gauges of the queue ask these functions while the context lasts."""
    asked = (
        (QUEUE_WAITING, waiting),
        (QUEUE_LEASED, leased),
        (QUEUE_SLOTS, slots),
        (QUEUE_REPORTS, reports),
    )
    for gauge, ask in asked:
        gauge.set_function(ask)
    try:
        yield
    finally:
        for gauge, _ in asked:
            gauge.set_function(_zero)


def _zero() -> float:
    return 0.0


def render() -> bytes:
    """All values, in Prometheus' text format (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)


def describe() -> str:
    """The table of metrics in `docs/metrics.md`."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for metric in DECLARED:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in label_names(metric)) or ""
        lines.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(lines)


def label_names(metric: Counter | Gauge | Histogram) -> tuple[str, ...]:
    """Names of the labels that the metric was declared with."""
    names: tuple[str, ...] = ()
    with suppress(AttributeError):
        names = tuple(metric._labelnames)  # noqa: SLF001  the library does not tell them otherwise
    return names
