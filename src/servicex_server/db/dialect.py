"""The few words in which the databases differ, said once."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, Float, literal_column
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql import ColumnElement


def insert_new(connection: Connection, table: type[DeclarativeBase]) -> Any:
    """`INSERT … ON CONFLICT DO NOTHING` for the table in the connection's dialect; its `rowcount` is true.

    (Without the option SQLAlchemy does not keep the count that PostgreSQL's driver tells.)
    """
    return _build(connection.dialect.name, table)


def clock_s(where: Connection | str) -> ColumnElement[float]:
    """Now, in seconds since 1970, by the clock of the database (not the time at which the transaction began).

    Args:
        where: a connection, or the name of its dialect.
    """
    dialect = where if isinstance(where, str) else where.dialect.name
    if dialect == "postgresql":
        return literal_column("extract(epoch FROM clock_timestamp())::double precision", Float)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)


@cache
def _build(dialect: str, table: type[DeclarativeBase]) -> Any:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return sqlite.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
