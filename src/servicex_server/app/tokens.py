"""Who may use the server: access tokens, made and revoked from the command line."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings
from servicex_server.db import schema
from servicex_server.db.session import Database
from servicex_server.errors import ConfigurationError, NotFound
from servicex_server.service import principal

T = TypeVar("T")


def issue(settings: Settings, name: str, *, is_admin: bool) -> tuple[str, str | None]:
    """A new token for `name`, whose older one stops working, and the server's URL if it is known."""
    token = _with_database(settings, lambda db: principal.create_token(db, name, is_admin=is_admin))
    return token, DataDir(settings.data_dir).read_url()


def revoke(settings: Settings, name: str) -> None:
    """Makes the token of `name` stop working.

    Raises:
        NotFound: nobody of that name has a token.
    """
    if not _with_database(settings, lambda db: principal.revoke_token(db, name)):
        message = f"nobody called {name!r} has a token; `servicex-server token list` shows who has"
        raise NotFound(message)


def names(settings: Settings) -> list[str]:
    """Names of all users that have a token."""
    return [user.name for user in _with_database(settings, principal.list_principals)]


async def ensure_owner_token(db: Database, data: DataDir) -> str:
    """The token of the person who runs the server: the one in his `servicex.yaml`, or a new one."""
    known = data.read_token()
    return await principal.create_token(db, owner_name(), is_admin=True, token=known)


def owner_name() -> str:
    """Name of the person who runs the server."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database, as in some containers
        return "owner"


def _with_database(settings: Settings, task: Callable[[Database], Awaitable[T]]) -> T:
    data = DataDir(settings.data_dir)
    if not data.database.exists():
        message = f"no server has run on the data folder {data.path} yet; name another with --data-dir"
        raise ConfigurationError(message)
    data.protect_database()
    schema.upgrade(data.database_url)

    async def perform() -> T:
        async with Database(data.database_url) as db:
            return await task(db)

    return asyncio.run(perform())
