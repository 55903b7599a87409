"""The schema's version: asked without alembic, changed with it.

A server starts only on the schema it was written for; alembic itself is imported by `upgrade` alone,
because it would cost every start a noticeable part of a second.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, inspect, make_url, text
from sqlalchemy.exc import DBAPIError

from servicex_server.db.session import build_engine, normalise_url
from servicex_server.errors import ConfigurationError

HEAD = "0003"
"""The revision this code works with; a test compares it with the migrations."""

COMMAND = "servicex-server db upgrade"

MIGRATIONS = Path(__file__).parent / "migrations"


def check(url: str) -> None:
    """Returns if the schema is the one this code works with.

    Raises:
        ConfigurationError: it is missing, older, or newer; the text names the command to run.
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
    """The revision the database is at; None for an empty or absent one."""
    address = make_url(normalise_url(url))
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).exists():
        return None  # connecting would create it
    engine = create_engine(address, hide_parameters=True)
    try:
        with engine.connect() as connection:
            if not inspect(connection).has_table("alembic_version"):
                return None
            found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
            return None if found is None else str(found)
    except DBAPIError as error:
        message = f"cannot reach the database {address.render_as_string(hide_password=True)}: {error.orig}"
        raise ConfigurationError(message) from error
    finally:
        engine.dispose()


def upgrade(url: str) -> str:
    """Creates the schema or brings it up to date, if need be; returns its revision.

    Raises:
        ConfigurationError: the database cannot be reached, or its schema is newer than this code.
    """
    found = read_version(url)
    if found == HEAD:
        return HEAD
    if found is not None and found > HEAD:
        check(url)
    from alembic import command  # noqa: PLC0415  see the module's docstring
    from alembic.config import Config  # noqa: PLC0415

    address = make_url(normalise_url(url))
    if address.get_backend_name() == "sqlite":
        Path(str(address.database)).parent.mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    engine = build_engine(url, size=1, busy_timeout_s=30.0, read_only=False)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except DBAPIError as error:
        message = f"cannot upgrade the database {address.render_as_string(hide_password=True)}: {error.orig}"
        raise ConfigurationError(message) from error
    finally:
        engine.dispose()
    return HEAD
