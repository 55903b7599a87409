"""Queries on users and the digests of their tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, select, update

from servicex_server.db.dialect import insert_new
from servicex_server.db.orm import PrincipalRow
from servicex_server.model.request import Principal


def put_principal(connection: Connection, principal: Principal, token_sha256: str, now: datetime) -> None:
    """Stores the user's only token digest in place of an earlier one."""
    values = {"token_sha256": token_sha256, "is_admin": principal.is_admin}
    made = connection.execute(
        insert_new(connection, PrincipalRow), {"name": principal.name, "created": now, **values}
    ).rowcount
    if not made:
        changed = update(PrincipalRow).where(PrincipalRow.name == principal.name).values(values)
        connection.execute(changed)


def delete_principal(connection: Connection, name: str) -> bool:
    """Whether there was such a user."""
    return connection.execute(delete(PrincipalRow).where(PrincipalRow.name == name)).rowcount > 0


def find_principal(connection: Connection, token_sha256: str) -> Principal | None:
    """The user whose token has this digest."""
    row = connection.execute(
        select(PrincipalRow.name, PrincipalRow.is_admin).where(PrincipalRow.token_sha256 == token_sha256)
    ).one_or_none()
    return None if row is None else Principal(name=row.name, is_admin=row.is_admin)


def list_principals(connection: Connection) -> list[Principal]:
    """Every user that has a token, by name."""
    rows = connection.execute(
        select(PrincipalRow.name, PrincipalRow.is_admin).order_by(PrincipalRow.name)
    ).all()
    return [Principal(name=row.name, is_admin=row.is_admin) for row in rows]
