"""How results name shared objects: counted exactly, and never again once an object is doomed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from servicex_server.db import schema, shared
from servicex_server.db.session import Database, Transaction

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(schema.upgrade, url)
    async with Database(url) as opened:
        yield opened


def name(transaction: Transaction, keys: list[str]) -> list[str]:
    """Names those of the objects that may be named, as recording a batch does."""
    held = shared.hold_objects(transaction, keys)
    able = [key for key in keys if held[key] is not None]
    shared.add_names(transaction, Counter(able))
    return able


async def test_names_are_counted_and_the_last_one_dooms(db: Database) -> None:
    assert await db.write(name, ["b", "a"]) == ["b", "a"]
    assert await db.write(name, ["b"]) == ["b"]
    assert await db.write(shared.drop_names, {"a": 1, "b": 1, "unknown": 3}, NOON) == 1
    assert await db.read(shared.list_doomed, 10) == ["a"]
    assert await db.write(name, ["a", "b"]) == ["b"], "what is doomed is refused"
    assert await db.write(shared.drop_names, {"b": 2}, NOON) == 1
    assert sorted(await db.read(shared.list_doomed, 10)) == ["a", "b"]
    await db.write(shared.mark_removed, ["a"], NOON)
    assert await db.read(shared.list_doomed, 10) == ["b"]
    assert await db.write(name, ["a"]) == [], "also once it is gone"
    assert await db.write(shared.forget_removed, NOON) == 0
    assert await db.write(shared.forget_removed, NOON + timedelta(seconds=1)) == 1


async def test_only_what_nothing_names_is_doomed_on_demand(db: Database) -> None:
    await db.write(name, ["named"])
    assert await db.write(shared.doom_objects, ["named", "stray"], NOON) == ["stray"]
    assert await db.write(shared.doom_objects, ["stray"], NOON) == ["stray"], "again is no error"
    assert await db.write(name, ["named", "stray"]) == ["named"]


async def test_objects_are_known_by_the_bytes_of_their_keys(db: Database) -> None:
    keys = [f"objects/{shard}/{shard}-1" for shard in ("0a", "0A", "0b", "ab")] + [
        "objects/0a0",
        "objects/0a",
    ]
    await db.write(name, keys)
    assert await db.read(shared.find_known, "objects/0a/") == {"objects/0a/0a-1"}
    await db.write(shared.drop_names, dict.fromkeys(keys, 1), NOON)
    assert await db.read(shared.find_known, "objects/0a/") == {"objects/0a/0a-1"}, "about to go"
    await db.write(shared.mark_removed, keys, NOON)
    assert await db.read(shared.find_known, "objects/0a/") == set()


async def test_many_at_once_agree(db: Database) -> None:
    """Names and last names lost, in any order: the books are right, and the doomed stay doomed."""
    keys = [f"k{number}" for number in range(5)]
    named: Counter[str] = Counter()
    refused: set[str] = set()

    async def act(seed: int) -> None:
        chance = random.Random(seed)
        mine: list[str] = []
        for _ in range(30):
            wanted = chance.sample(keys, 3)
            able = await db.write(name, wanted)
            named.update(able)
            mine += able
            refused.update(set(wanted) - set(able))
            if mine and chance.random() < 0.9:
                gone = Counter(mine)
                mine.clear()
                await db.write(shared.drop_names, gone, NOON)
                named.subtract(gone)

    await asyncio.gather(*(act(seed) for seed in range(4)))

    def look(transaction: Transaction) -> dict[str, int | None]:
        return shared.hold_objects(transaction, keys)

    held = await db.write(look)
    doomed = set(await db.read(shared.list_doomed, 10))
    assert {key for key, n_results in held.items() if n_results is None} == doomed
    assert refused <= doomed
    for key, n_results in held.items():
        assert named[key] == (n_results or 0)
