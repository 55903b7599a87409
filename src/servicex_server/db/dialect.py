"""The few words in which the databases differ, said once."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase


def insert_new(connection: Connection, table: type[DeclarativeBase]) -> Any:
    """`INSERT … ON CONFLICT DO NOTHING` for the table in the connection's dialect; its `rowcount` is true.

    (Without the option SQLAlchemy does not keep the count that PostgreSQL's driver tells.)
    """
    return _build(connection.dialect.name, table)


@cache
def _build(dialect: str, table: type[DeclarativeBase]) -> Any:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return sqlite.insert(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
