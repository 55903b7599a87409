"""Queries on leases: who leads, by the clock of the database alone, so that no holder's clock matters."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from servicex_server.db.dialect import clock_s
from servicex_server.db.orm import LeaseRow

_LONGEST_TERMS = 10
"""A lease with more than this many terms to go was given before the database's clock was set back."""


def acquire(connection: Connection, name: str, holder: str, ttl_s: float) -> bool:
    """Whether `holder` has the lease for the next `ttl_s` seconds: it was free, run out, or its own already.

    Calling it again renews; run again after a commit whose word was lost, it says the same.
    """
    row = connection.execute(
        _acquire(connection.dialect.name),
        {"new_name": name, "new_holder": holder, "ttl_s": ttl_s},
    ).one_or_none()
    return row is not None


def release(connection: Connection, name: str, holder: str) -> None:
    """Gives the lease back, if it is (still) the holder's."""
    connection.execute(delete(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder))


def find_holder(connection: Connection, name: str) -> str | None:
    """Who has the lease now."""
    return connection.execute(
        select(LeaseRow.holder).where(LeaseRow.name == name, LeaseRow.expires_at > clock_s(connection))
    ).scalar_one_or_none()


@cache
def _acquire(dialect: str) -> Any:
    now = clock_s(dialect)
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(LeaseRow).values(
        name=bindparam("new_name"), holder=bindparam("new_holder"), expires_at=now + bindparam("ttl_s")
    )
    return statement.on_conflict_do_update(
        index_elements=[LeaseRow.name],
        set_={"holder": statement.excluded.holder, "expires_at": statement.excluded.expires_at},
        where=or_(
            LeaseRow.holder == statement.excluded.holder,
            LeaseRow.expires_at <= now,
            LeaseRow.expires_at > now + _LONGEST_TERMS * bindparam("ttl_s"),
        ),
    ).returning(LeaseRow.holder)
