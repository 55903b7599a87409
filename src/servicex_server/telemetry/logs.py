"""Log output: the standard library's records, rendered by structlog.

Everything else in the package logs through `logging.getLogger(__name__)`; only the composition
roots in `app/` call `configure`.
"""

from __future__ import annotations

import logging
import sys

import structlog

NOISY = ("httpx", "httpcore", "botocore", "aiosqlite", "alembic", "asyncio", "fsspec", "uvicorn")
"""Libraries whose chatter below WARNING is of no use to an operator."""

ECHOING = ("aiormq", "aio_pika")
"""Libraries that tell, as errors with tracebacks, what our own words tell in a line: the broker is away."""


def configure(level: str, *, as_json: bool) -> None:
    """Sends log records to stderr, as one JSON object per line or as readable lines.

    Args:
        level: name of the lowest level shown, such as "INFO".
        as_json: JSON lines for log collectors; readable text otherwise.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
    ]
    renderer: structlog.typing.Processor
    if as_json:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    mute_echoes(logging.CRITICAL if root.level > logging.DEBUG else logging.DEBUG)


def mute_echoes(level: int = logging.CRITICAL) -> None:
    """Shows of libraries that repeat our own words nothing below that level."""
    for name in ECHOING:
        logging.getLogger(name).setLevel(level)
