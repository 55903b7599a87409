"""A file list that one request gives up while another one takes it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from servicex_server.db import dataset as datasets
from servicex_server.db import request as requests
from servicex_server.db import schema
from servicex_server.db.request import NewRequest
from servicex_server.db.session import Database, Transaction
from servicex_server.model.ids import DatasetId, RequestId
from servicex_server.model.kinds import ResultDestination, ResultFormat
from servicex_server.model.lifecycle import Lifecycle

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)
PATHS = [f"f{number}.root" for number in range(10)]


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    schema.upgrade(url)
    async with Database(url) as db:
        yield db


def _submit(transaction: Transaction, name: str, now: datetime = NOON) -> tuple[DatasetId, int]:
    dataset_id, n_files = datasets.use_file_list(transaction, name="list", paths=PATHS, now=now)
    assert n_files == len(PATHS)
    new = NewRequest(
        id=RequestId(name),
        owner="marie",
        title=None,
        did="did",
        selection="",
        codegen="uproot",
        tree_name=None,
        result_format=ResultFormat.PARQUET,
        result_destination=ResultDestination.OBJECT_STORE,
        access_key=name,
        secret_key="",
        submit_time=NOON,
        renamed={},
    )
    number = requests.insert_request(transaction, new, dataset_id, Lifecycle(), has_ended=False)
    assert number is not None
    return dataset_id, number


async def test_one_list_is_stored_once(db: Database) -> None:
    made = await asyncio.gather(*(db.write(_submit, f"r{n}") for n in range(20)))
    assert len({dataset_id for dataset_id, _ in made}) == 1
    assert len({number for _, number in made}) == 20
    assert len(await db.read(datasets.list_files, made[0][0])) == len(PATHS)


async def test_its_last_use_is_kept_to_a_second(db: Database) -> None:
    for n, seconds in enumerate((0, 60, 60.5)):
        dataset_id, _ = await db.write(_submit, f"r{n}", NOON + timedelta(seconds=seconds))
    (dataset,) = await db.read(datasets.list_datasets, did_finder=None, with_stale=True)
    assert (dataset.id, dataset.last_used) == (dataset_id, NOON + timedelta(seconds=60))


async def test_files_go_in_steps_and_the_list_with_the_request(db: Database) -> None:
    dataset_id, number = await db.write(_submit, "one")
    assert await db.write(datasets.delete_some_files, number, 6) == 6
    following, _ = await db.write(_submit, "two")
    assert following != dataset_id, "a list that goes is not used again"
    assert await db.write(datasets.delete_some_files, number, 6) == 4
    assert await db.write(datasets.delete_some_files, number, 6) == 0
    await db.write(requests.delete_request, number)
    assert await db.read(datasets.find_dataset, dataset_id) is None
    assert len(await db.read(datasets.list_files, following)) == len(PATHS)


async def test_a_list_that_others_use_stays(db: Database) -> None:
    dataset_id, number = await db.write(_submit, "one")
    await db.write(_submit, "two")
    assert await db.write(datasets.delete_some_files, number, 6) == 0
    await db.write(requests.delete_request, number)
    assert len(await db.read(datasets.list_files, dataset_id)) == len(PATHS)


@pytest.mark.parametrize("in_steps", [True, False])
async def test_who_submits_while_the_list_goes_gets_another(db: Database, in_steps: bool) -> None:
    _, number = await db.write(_submit, "one")
    locked, leave = threading.Event(), threading.Event()

    def remove_slowly(transaction: Transaction) -> None:
        if in_steps:
            datasets.delete_some_files(transaction, number, 100)
        else:
            requests.delete_request(transaction, number)
        locked.set()
        leave.wait(30)

    removing = asyncio.create_task(db.write(remove_slowly))
    await asyncio.to_thread(locked.wait, 30)
    submitting = asyncio.create_task(db.write(_submit, "two"))
    await _until_blocked(db)
    leave.set()
    await removing
    taken, _ = await submitting
    assert len(await db.read(datasets.list_files, taken)) == len(PATHS)


@pytest.mark.parametrize("in_steps", [True, False])
async def test_who_removes_the_list_while_it_is_taken_leaves_it(db: Database, in_steps: bool) -> None:
    dataset_id, number = await db.write(_submit, "one")
    taken, leave = threading.Event(), threading.Event()

    def submit_slowly(transaction: Transaction) -> None:
        assert _submit(transaction, "two")[0] == dataset_id
        taken.set()
        leave.wait(30)

    submitting = asyncio.create_task(db.write(submit_slowly))
    await asyncio.to_thread(taken.wait, 30)
    if in_steps:
        removing = asyncio.create_task(db.write(datasets.delete_some_files, number, 100))
    else:
        removing = asyncio.create_task(db.write(_delete, number))
    await _until_blocked(db)
    leave.set()
    await submitting
    assert await removing == 0
    assert len(await db.read(datasets.list_files, dataset_id)) == len(PATHS)


def _delete(transaction: Transaction, number: int) -> int:
    requests.delete_request(transaction, number)
    return 0


async def _until_blocked(db: Database) -> None:
    """Until PostgreSQL tells of a session that waits for a lock; SQLite's writer waits by itself."""

    def count(transaction: Transaction) -> int:
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return int(transaction.execute(text(waiting)).scalar_one())

    if db.url.startswith("postgresql"):
        async with asyncio.timeout(20):
            while not await db.read(count):
                pass
