"""Who may use the server: names and access tokens, of which only a digest is kept."""

from __future__ import annotations

from servicex_server.db.session import Database
from servicex_server.model.request import Principal
from servicex_server.service.context import Services


async def create_token(db: Database, name: str, *, is_admin: bool = False, token: str | None = None) -> str:
    """The user's new access token; one given earlier to the same name stops working.

    Args:
        db: an open database.
        name: the user; requests and results belong to it.
        is_admin: may read and manage everybody's requests.
        token: use this one, which the composition root keeps in a file, instead of a random one.
    """
    raise NotImplementedError


async def revoke_token(db: Database, name: str) -> bool:
    """Makes the user's token stop working; False if there was none. Requests and results stay."""
    raise NotImplementedError


async def list_principals(db: Database) -> list[Principal]:
    """The users that have a token, by name."""
    raise NotImplementedError


async def find_principal(services: Services, token: str) -> Principal | None:
    """Whose access token this is, or None."""
    raise NotImplementedError
