"""The schema's version: asked without alembic, changed with it.

A server starts only on the schema it was written for; alembic itself is imported by `upgrade` alone,
because it would cost every start a noticeable part of a second.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import DBAPIError

from servicex_server.db.engine import build_engine, in_one_line, parse_url, show_url
from servicex_server.errors import ConfigurationError, DatabaseUnreachable

HEAD = "0007"
"""The revision this code works with; a test compares it with the migrations."""

COMMAND = "servicex-server db upgrade"

MIGRATIONS = Path(__file__).parent / "migrations"

_UPGRADE_LOCK = 0x53_58_44_42
"""Key of PostgreSQL's advisory lock that keeps a second upgrade waiting until the first is through."""
_LOCK_PATIENCE_S = 120.0


def check(url: str) -> None:
    """Returns if the schema is the one this code works with.

    Raises:
        ConfigurationError: it is missing, older, or newer; the text names the command to run.
        DatabaseUnreachable: nobody can tell.
    """
    found = read_version(url)
    if found == HEAD:
        return
    if found is None:
        message = f"the database has no schema yet; create it with `{COMMAND}`"
    elif found < HEAD:
        message = f"the database's schema is at {found}, this version needs {HEAD}; run `{COMMAND}`"
    else:
        message = (
            f"the database's schema is at {found}, newer than {HEAD}, which this version knows; "
            "install the newer version again, or restore a backup"
        )
    raise ConfigurationError(message)


def read_version(url: str) -> str | None:
    """The revision the database is at; None for an empty or absent one.

    Raises:
        DatabaseUnreachable: no connection could be made.
    """
    address = parse_url(url)
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists():
        return None  # connecting would create it
    engine = _build(url)
    try:
        with engine.connect() as connection:
            return _find_version(connection)
    except DBAPIError as error:
        message = f"cannot reach the database {show_url(url)}: {in_one_line(error)}"
        raise DatabaseUnreachable(message) from error.orig
    finally:
        engine.dispose()


def upgrade(url: str) -> str:
    """Creates the schema or brings it up to date, if need be; returns its revision. Several may try at once.

    Raises:
        ConfigurationError: the database cannot be reached, or its schema is newer than this code.
    """
    found = read_version(url)
    if found == HEAD:
        return HEAD
    if found is not None and found > HEAD:
        check(url)
    address = parse_url(url)
    if address.get_backend_name() == "sqlite":
        Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = _build(url)
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
            if _find_version(connection) != HEAD:  # while we waited somebody else may have done it
                _migrate(connection)
    except DBAPIError as error:
        message = f"cannot upgrade the database {show_url(url)}: {in_one_line(error)}"
        raise ConfigurationError(message) from error.orig
    finally:
        engine.dispose()
    return HEAD


def _build(url: str) -> Engine:
    # Rewriting a large table takes as long as it takes, so there is no bound on statements.
    return build_engine(url, size=1, busy_timeout_s=_LOCK_PATIENCE_S, read_only=False)


def _find_version(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
