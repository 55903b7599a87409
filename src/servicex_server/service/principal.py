"""Who may use the server: names and access tokens, of which only a digest is kept."""

from __future__ import annotations

import hashlib
import secrets

from servicex_server.db import principal as principals
from servicex_server.db.session import Database
from servicex_server.errors import InvalidRequest
from servicex_server.model.request import Principal
from servicex_server.service.context import read_clock

_TOKEN_BYTES = 32
_NAME_CHARACTERS = 255


async def create_token(db: Database, name: str, *, is_admin: bool = False, token: str | None = None) -> str:
    """The user's new access token; one given earlier to the same name stops working.

    Args:
        db: an open database.
        name: the user; requests and results belong to it.
        is_admin: may read and manage everybody's requests.
        token: use this one, which the composition root keeps in a file, instead of a random one.

    Raises:
        InvalidRequest: the name is empty, too long or unprintable.
    """
    if not name.strip() or len(name) > _NAME_CHARACTERS or not name.isprintable():
        message = f"{name[:64]!r} cannot be a user's name; use 1 to {_NAME_CHARACTERS} printable characters"
        raise InvalidRequest(message)
    token = token or secrets.token_urlsafe(_TOKEN_BYTES)
    await db.write(
        principals.put_principal, Principal(name=name, is_admin=is_admin), _digest(token), read_clock()
    )
    return token


async def revoke_token(db: Database, name: str) -> bool:
    """Makes the user's token stop working; False if there was none. Requests and results stay."""
    return await db.write(principals.delete_principal, name)


async def list_principals(db: Database) -> list[Principal]:
    """The users that have a token, by name."""
    return await db.read(principals.list_principals)


async def find_principal(db: Database, token: str) -> Principal | None:
    """Whose access token this is, or None."""
    if not token:
        return None
    return await db.read(principals.find_principal, _digest(token))


def _digest(token: str) -> str:
    # A random token of 32 bytes needs no slow hash: there is nothing to guess from a dictionary.
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
