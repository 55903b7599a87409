"""Queries on objects that requests share: how many results name each, and which ones go.

An object lives while results name it. Once none does it is doomed, in the transaction that took the last
name away, and nothing names it again: keys never come twice. Its row stays for a while after the object is
gone, so that a report which was under way meanwhile is refused instead of naming what is not there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import BindParameter, Connection, bindparam, case, delete, func, select, update

from servicex_server.db.dialect import insert_bulk
from servicex_server.db.orm import SharedObjectRow

_COLUMNS = SharedObjectRow.__table__.c
_AT_ONCE = 1_000
_KEY: BindParameter[str] = bindparam("key")
_FEWER: BindParameter[int] = bindparam("fewer")
_COUNT = (
    update(SharedObjectRow)
    .where(_COLUMNS.store_key == _KEY)
    .values(n_results=_COLUMNS.n_results + bindparam("more"))
)
_UNCOUNT = (
    update(SharedObjectRow)
    .where(_COLUMNS.store_key == _KEY)
    .values(
        n_results=_COLUMNS.n_results - _FEWER,
        doomed_at=case((_COLUMNS.n_results <= _FEWER, bindparam("now")), else_=_COLUMNS.doomed_at),
    )
)
_DOOM = update(SharedObjectRow).where(_COLUMNS.store_key == _KEY).values(doomed_at=bindparam("now"))
_REMOVED = update(SharedObjectRow).where(_COLUMNS.store_key == _KEY).values(removed_at=bindparam("now"))


def hold_objects(connection: Connection, keys: Collection[str]) -> dict[str, int | None]:
    """Locks the objects until the transaction ends; unknown ones become known, named by no result yet.

    Whoever calls this also names them, or dooms those that nothing names.

    Returns:
        How many results name each; None for one that is doomed.
    """
    in_order = sorted(set(keys))  # the same everywhere, so that two transactions cannot wait for each other
    if not in_order:
        return {}
    rows = [{"store_key": key, "n_results": 0} for key in in_order]
    insert_bulk(connection, SharedObjectRow, rows, skip_known=True)
    return _lock(connection, in_order)


def add_names(connection: Connection, names: Mapping[str, int]) -> None:
    """That many more results name each of the objects, which are held and not doomed."""
    if names:
        connection.execute(_COUNT, [{"key": key, "more": names[key]} for key in sorted(names)])


def drop_names(connection: Connection, names: Mapping[str, int], now: datetime) -> int:
    """That many results that named the objects are gone; returns how many objects are doomed by that."""
    held = _lock(connection, sorted(names))
    rows = [{"key": key, "fewer": names[key], "now": now} for key in held]
    if rows:
        connection.execute(_UNCOUNT, rows)
    return sum(n_results is not None and n_results <= names[key] for key, n_results in held.items())


def doom_objects(connection: Connection, keys: Collection[str], now: datetime) -> list[str]:
    """Dooms those of the objects that no result names; returns which those are, now or since earlier."""
    held = hold_objects(connection, keys)
    rows = [{"key": key, "now": now} for key, n_results in held.items() if n_results == 0]
    if rows:
        connection.execute(_DOOM, rows)
    return [key for key, n_results in held.items() if not n_results]


def list_doomed(connection: Connection, limit: int) -> list[str]:
    """Some objects that are to be removed from the store."""
    query = select(_COLUMNS.store_key).where(_COLUMNS.doomed_at.is_not(None), _COLUMNS.removed_at.is_(None))
    return list(connection.execute(query.limit(limit)).scalars())


def mark_removed(connection: Connection, keys: Collection[str], now: datetime) -> None:
    """The store has them no more."""
    if keys:
        connection.execute(_REMOVED, [{"key": key, "now": now} for key in sorted(keys)])


def forget_removed(connection: Connection, before: datetime) -> int:
    """Drops what is known of some objects that were removed before that time; returns of how many."""
    some = select(_COLUMNS.store_key).where(_COLUMNS.removed_at < before).limit(_AT_ONCE)
    return connection.execute(delete(SharedObjectRow).where(_COLUMNS.store_key.in_(some))).rowcount


def count_objects(connection: Connection) -> int:
    """How many objects are known, those included that are gone since a short while."""
    return connection.execute(select(func.count()).select_from(SharedObjectRow)).scalar_one()


def find_known(connection: Connection, prefix: str) -> set[str]:
    """Keys of objects with that prefix (ending with '/') that the store should have, or is about to lose."""
    query = select(_COLUMNS.store_key).where(
        # '0' follows '/'; keys are compared by their bytes.
        _COLUMNS.store_key >= prefix,
        _COLUMNS.store_key < prefix[:-1] + "0",
        _COLUMNS.removed_at.is_(None),
    )
    return set(connection.execute(query).scalars())


def _lock(connection: Connection, in_order: list[str]) -> dict[str, int | None]:
    held: dict[str, int | None] = {}
    for start in range(0, len(in_order), _AT_ONCE):
        query = (
            select(_COLUMNS.store_key, _COLUMNS.n_results, _COLUMNS.doomed_at)
            .where(_COLUMNS.store_key.in_(in_order[start : start + _AT_ONCE]))
            .order_by(_COLUMNS.store_key)
            .with_for_update()
        )
        for row in connection.execute(query):
            held[row.store_key] = None if row.doomed_at is not None else row.n_results
    return held
