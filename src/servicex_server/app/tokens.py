"""Who may use the server: access tokens, made and revoked from the command line."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

from servicex_server.app import database
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import Settings
from servicex_server.db.session import Database
from servicex_server.errors import NotFound
from servicex_server.service import principal

T = TypeVar("T")


def issue(settings: Settings, name: str, *, is_admin: bool) -> tuple[str, str | None]:
    """A new token for `name`, whose older one stops working, and the URL for clients if it is known."""
    data = DataDir(settings.data_dir)

    async def replace(db: Database) -> str:
        is_owners = await _is_owner(db, data, name)
        token = await principal.create_token(db, name, is_admin=is_admin or is_owners)
        if is_owners:
            # Or the next start would bring the older one back, and their client would go on with it.
            data.write_token(token)
            data.change_client_token(token)
        return token

    return with_database(settings, replace), settings.public_url or data.read_url()


def revoke(settings: Settings, name: str) -> None:
    """Makes the token of `name` stop working; the owner gets another at the next start.

    Raises:
        NotFound: nobody of that name has a token.
    """
    data = DataDir(settings.data_dir)

    async def remove(db: Database) -> bool:
        if await _is_owner(db, data, name):
            data.forget_token()
            data.change_client_token(None)
        return await principal.revoke_token(db, name)

    if not with_database(settings, remove):
        message = f"nobody called {name!r} has a token; `servicex-server token list` shows who has"
        raise NotFound(message)


def names(settings: Settings) -> list[str]:
    """Names of all users that have a token."""
    return [user.name for user in with_database(settings, principal.list_principals)]


def find_holder(settings: Settings, token: str) -> str | None:
    """Name of the user whose token this is, in a database that exists and is up to date; changes nothing."""

    async def find() -> str | None:
        async with Database(database.database_url(settings)) as db:
            holder = await principal.find_principal(db, token)
            return None if holder is None else holder.name

    return asyncio.run(find())


async def ensure_owner_token(db: Database, data: DataDir) -> str:
    """The token of the person who runs the server: the one kept in the data folder, or a new one.

    Whose token it is was decided when it was made. Under another login name the same folder is still the
    same person's, with the same requests.
    """
    known = data.read_token()
    if known is not None and await principal.find_principal(db, known) is not None:
        return known
    token = await principal.create_token(db, owner_name(), is_admin=True, token=known)
    data.write_token(token)
    return token


async def _is_owner(db: Database, data: DataDir, name: str) -> bool:
    """Whether the token kept in the data folder is that of `name`, or would be after the next start."""
    known = data.read_token()
    if known is None:
        return data.database.exists() and name == owner_name()
    owner = await principal.find_principal(db, known)
    return owner is not None and owner.name == name


def owner_name() -> str:
    """Name of the person who runs the server."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database, as in some containers
        return "owner"


def with_database(settings: Settings, task: Callable[[Database], Awaitable[T]]) -> T:
    """What the task returns, with the database of a deployment, or of a folder on which a server has run.

    Raises:
        ConfigurationError: none has; or its schema is not up to date.
    """
    database.require_used(settings)

    async def perform() -> T:
        async with Database(database.database_url(settings)) as db:
            return await task(db)

    return asyncio.run(perform())
