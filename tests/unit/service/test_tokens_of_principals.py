"""Tokens open the server for whom they were made, and are not kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from service_bench import Bench, new_bench
from servicex_server.db.orm import PrincipalRow
from servicex_server.db.session import Transaction
from servicex_server.errors import InvalidRequest
from servicex_server.model.request import Principal
from servicex_server.service.principal import create_token, find_principal, list_principals, revoke_token


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with new_bench(tmp_path) as bench:
        yield bench


async def test_a_token_names_its_principal(bench: Bench, tmp_path: Path) -> None:
    services = bench.services
    token = await create_token(services.db, "marie")
    boss = await create_token(services.db, "lise", is_admin=True)
    assert await find_principal(services.db, token) == Principal("marie")
    assert await find_principal(services.db, boss) == Principal("lise", is_admin=True)
    for wrong in ("", token[:-1], token + "x", "\ud800", "\0"):
        assert await find_principal(services.db, wrong) is None
    assert [one.name for one in await list_principals(services.db)] == ["lise", "marie"]
    kept = [await services.db.read(_rows), *(str(path.read_bytes()) for path in _files(tmp_path))]
    assert not any(token in text for text in kept)
    assert all("marie" in "".join(texts) for texts in (kept[:1], kept[1:]) if texts)


def _rows(transaction: Transaction) -> str:
    return str(transaction.execute(select(*PrincipalRow.__table__.c)).all())


def _files(folder: Path) -> list[Path]:
    """SQLite's; those of PostgreSQL are its own."""
    return list(folder.glob("servicex.db*"))


async def test_a_new_token_replaces_the_old_one(bench: Bench) -> None:
    services = bench.services
    old = await create_token(services.db, "marie")
    new = await create_token(services.db, "marie", is_admin=True, token="from a file")
    assert new == "from a file"
    assert await find_principal(services.db, old) is None
    assert await find_principal(services.db, new) == Principal("marie", is_admin=True)
    assert await create_token(services.db, "marie", token=new) == new


async def test_a_revoked_token_opens_nothing(bench: Bench) -> None:
    token = await create_token(bench.services.db, "marie")
    assert await revoke_token(bench.services.db, "marie")
    assert not await revoke_token(bench.services.db, "marie")
    assert await find_principal(bench.services.db, token) is None


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 256])
async def test_odd_names_are_refused(bench: Bench, name: str) -> None:
    with pytest.raises(InvalidRequest):
        await create_token(bench.services.db, name)
