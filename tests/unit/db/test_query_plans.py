"""With a million results no hot query reads a whole table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event

from benchmarks.database.fill import fill
from benchmarks.database.hot import changes, queries
from servicex_server.db import schema
from servicex_server.db.engine import build_engine

N_RESULTS = 1_000_000
LARGE = ("file_result", "dataset_file", "request")
IN_ORDER_OF_KEYS = {"list of all"}
"""SQLite calls it a scan, too, when the newest rows are read until there are enough."""


@contextmanager
def noted(engine: Engine) -> Iterator[list[tuple[str, Any]]]:
    """Statements that are run meanwhile, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def note(_connection: Connection, _cursor: object, text: str, values: Any, _: object, many: bool) -> None:
        if not many and re.match("SELECT|UPDATE|DELETE|INSERT", text):
            statements.append((text, values))

    event.listen(engine, "before_cursor_execute", note)
    yield statements
    event.remove(engine, "before_cursor_execute", note)


def explain(connection: Connection, statement: str, values: Any) -> list[str]:
    if connection.dialect.name == "postgresql":
        return list(connection.exec_driver_sql(f"EXPLAIN {statement}", values).scalars())
    return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.long
def test_no_hot_query_reads_a_whole_table(url: str) -> None:
    schema.upgrade(url)
    engine = build_engine(url, size=1, busy_timeout_s=10, read_only=False)
    fill(engine, N_RESULTS)
    whole = re.compile(rf"(?:Seq Scan on|^SCAN) (?:{'|'.join(LARGE)})\b")
    slow: list[str] = []
    for name, query in (queries(N_RESULTS) | changes(N_RESULTS)).items():
        with noted(engine) as statements, engine.begin() as connection:
            query(connection)
            asked = list(statements)
            assert asked or name.endswith("look-up"), f"{name}: nothing was asked"
            for statement, values in asked:
                plan = explain(connection, statement, values)
                if name not in IN_ORDER_OF_KEYS and any(whole.search(step) for step in plan):
                    slow.append("\n".join([f"{name}: {statement[:300]}", *plan]))
    engine.dispose()
    assert not slow, "\n\n".join(slow)
