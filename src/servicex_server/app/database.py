"""Which database the settings mean, and the state its schema has to be in."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time

from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings
from servicex_server.db import schema
from servicex_server.errors import ConfigurationError, DatabaseUnreachable

logger = logging.getLogger(__name__)

_START_PATIENCE_S = 60.0
_START_PAUSE_S = 2.0


def is_external(settings: Settings) -> bool:
    """Whether the database is a deployment's, and not the file in the data folder."""
    return settings.database_url is not None


def database_url(settings: Settings) -> str:
    """The URL, which may hold a password: neither for messages nor for logs."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return DataDir(settings.data_dir).database_url


def prepare(settings: Settings) -> str:
    """The URL of a database that a server may work on.

    The file in the data folder is created and brought up to date. The schema of a deployment changes only by
    the hand of its operator: servers of the older version may still be running.

    Raises:
        ConfigurationError: the schema is not up to date (the text names the command), or cannot be read.
    """
    url = database_url(settings)
    if is_external(settings):
        schema.check(url)
    else:
        schema.upgrade(url)
    return url


async def prepare_when_up(settings: Settings, patience_s: float = _START_PATIENCE_S) -> str:
    """As `prepare`, but waits for a database that is being started, perhaps together with this server.

    Raises:
        ConfigurationError: as `prepare`; DatabaseUnreachable only after `patience_s`.
    """
    end_s = time.monotonic() + patience_s
    while True:
        try:
            return await asyncio.to_thread(prepare, settings)
        except DatabaseUnreachable as error:
            if not is_external(settings) or time.monotonic() + _START_PAUSE_S > end_s:
                raise
            logger.warning("database.awaited: %s", error.message)
        await asyncio.sleep(_START_PAUSE_S)


def upgrade(settings: Settings) -> str:
    """Creates the schema or brings it up to date; returns its revision."""
    if not is_external(settings):
        DataDir(settings.data_dir).create()
    return schema.upgrade(database_url(settings))


def check(settings: Settings) -> None:
    """Raises ConfigurationError, naming the command to run, unless the schema is up to date."""
    schema.check(database_url(settings))


def require_used(settings: Settings) -> None:
    """Makes sure that there is a database to look into, up to date.

    Raises:
        ConfigurationError: no server has run on the data folder yet, or as `prepare`.
    """
    data = DataDir(settings.data_dir)
    if not is_external(settings):
        if not data.database.exists():
            message = f"no server has run on the data folder {data.path} yet; name another with --data-dir"
            raise ConfigurationError(message)
        data.protect_database()
    prepare(settings)


def holder_name() -> str:
    """A name for this process in leases: its own, at this start only."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}:{secrets.token_hex(4)}"
