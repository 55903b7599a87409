"""The few words in which the databases differ, said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Dialect,
    Float,
    Text,
    TypeDecorator,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, InstrumentedAttribute
from sqlalchemy.sql import ColumnElement

from servicex_server.db.document import write_json

_DOCUMENT_ROWS = 5_000
"""Rows of one document: some megabytes."""


def insert_new(connection: Connection, table: type[DeclarativeBase]) -> Any:
    """`INSERT … ON CONFLICT DO NOTHING` for the table in the connection's dialect; its `rowcount` is true.

    (Without the option SQLAlchemy does not keep the count that PostgreSQL's driver tells.)
    """
    return _build(connection.dialect.name, table)


def insert_bulk(
    connection: Connection,
    table: type[DeclarativeBase],
    rows: Sequence[Mapping[str, object]],
    *,
    skip_known: bool = False,
) -> int:
    """Stores rows that all have the same keys, the fastest way there is; returns how many were new.

    SQLite runs one prepared statement for each row. PostgreSQL gets all rows as one JSON document: as quick
    as COPY, a third of the time of a statement per row, and it can skip rows that are there already.
    """
    if connection.dialect.name != "postgresql":
        statement = _build("sqlite", table) if skip_known else _plain(table)
        stored: int = connection.execute(statement, list(rows)).rowcount
        return stored
    statement = _build_bulk(table, tuple(rows[0]), skip_known)
    return sum(
        connection.execute(statement, {"rows": write_json(rows[start : start + _DOCUMENT_ROWS])}).rowcount
        for start in range(0, len(rows), _DOCUMENT_ROWS)
    )


def is_one_of(dialect: str, column: InstrumentedAttribute[Any], name: str) -> ColumnElement[bool]:
    """`column IN (…)` of the values in the list that is the parameter `name`.

    They are one parameter, an array or a JSON document: the statement stays the same for any number of them,
    so that it is built, and parsed by the database, once.
    """
    if dialect == "postgresql":
        return column == any_(bindparam(name, type_=postgresql.ARRAY(column.type)))
    given = func.json_each(bindparam(name, type_=_JsonList())).table_valued("value")
    return column.in_(select(given.c.value))


class _JsonList(TypeDecorator[list[Any]]):
    """A list that SQLite gets as JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: list[Any] | None, dialect: Dialect) -> str:  # noqa: ARG002  SQLAlchemy's
        return write_json(value)


def clock_s(where: Connection | str) -> ColumnElement[float]:
    """Now, in seconds since 1970, by the clock of the database (not the time at which the transaction began).

    Args:
        where: a connection, or the name of its dialect.
    """
    dialect = where if isinstance(where, str) else where.dialect.name
    if dialect == "postgresql":
        return literal_column("extract(epoch FROM clock_timestamp())::double precision", Float)
    return literal_column("((julianday('now') - 2440587.5) * 86400.0)", Float)


def insert_once(
    connection: Connection, table: type[DeclarativeBase], *, returning: str, key: str | None = None
) -> Any:
    """An insert of one row that returns a column, or nothing if a row with this key (or any) is there."""
    return _build_once(connection.dialect.name, table, key, returning)


@cache
def _plain(table: type[DeclarativeBase]) -> Any:
    return sqlite.insert(table).execution_options(preserve_rowcount=True)


@cache
def _build_bulk(table: type[DeclarativeBase], names: tuple[str, ...], skip_known: bool) -> Any:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    columns = [table.__table__.c[name] for name in names]
    types = ", ".join(f"{column.name} {column.type.compile(dialect)}" for column in columns)
    # Names and types are those of our tables, the values are one parameter.
    document = f"SELECT * FROM json_to_recordset(CAST(:rows AS json)) AS new_row({types})"  # noqa: S608
    source = text(document).columns(*columns)
    statement = postgresql.insert(table).from_select([column.name for column in columns], source)
    if skip_known:
        statement = statement.on_conflict_do_nothing()
    return statement.execution_options(preserve_rowcount=True)


@cache
def _build(dialect: str, table: type[DeclarativeBase]) -> Any:
    return _insert(dialect, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)


@cache
def _build_once(dialect: str, table: type[DeclarativeBase], key: str | None, returning: str) -> Any:
    column = table.__table__.c[returning]
    keys = None if key is None else [key]
    return _insert(dialect, table).on_conflict_do_nothing(index_elements=keys).returning(column)


def _insert(dialect: str, table: type[DeclarativeBase]) -> Any:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
