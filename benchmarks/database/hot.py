"""The queries that run all day, on the database that `fill` makes: name, and what it asks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from benchmarks.database.fill import LEFT, file_id, request_id
from servicex_server.db import dataset as datasets
from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db import unit as units
from servicex_server.db.session import Transaction
from servicex_server.model.did import FoundFile
from servicex_server.model.ids import DatasetId, FileId, RequestId
from servicex_server.model.kinds import FileStatus
from servicex_server.model.tally import CutStep, StageSeconds, Tally
from servicex_server.model.unit import FileDone
from servicex_server.service.record import Observed, record
from servicex_server.store.protocol import StoredObject

START = datetime(2026, 5, 1, tzinfo=UTC)
LARGE = RequestId(request_id(1))
SMALL = RequestId(request_id(2))
PAGE = 100

Query = Callable[[Transaction], object]


def queries(n_results: int) -> dict[str, Query]:
    """What readers, dispatcher and sweeper ask of a database with so many results."""
    n_large = n_results // 2
    n_requests = 1 + n_results // 200
    recent = START + timedelta(milliseconds=n_large - 10)
    late_key = f"root:::eospublic.example::eos:opendata:cms:{n_large - 10}:file_.root.parquet"

    def page(*, offset: int = 0, since: datetime | None = None, status: FileStatus | None = None) -> Query:
        return lambda transaction: results.list_results(
            transaction, LARGE, 1, since=since, status=status, offset=offset, limit=PAGE
        )

    def waiting(after: int) -> Query:
        def run(transaction: Transaction) -> object:
            question = units.find_question(transaction, LARGE)
            assert question is not None
            return units.list_waiting(transaction, question, after=after, limit=500)[1]

        return run

    return {
        "status by id": lambda t: requests.find_request(t, LARGE),
        "status by number": lambda t: requests.find_request(t, "2"),
        "statistics": lambda t: requests.find_statistics(t, 1),
        "list of an owner": lambda t: requests.list_requests(t, owner="user3", limit=2000),
        "list of all": lambda t: requests.list_requests(t, owner=None, limit=2000),
        "data sets": lambda t: datasets.list_datasets(t, did_finder=None, with_stale=False),
        "results of a small request": lambda t: results.list_results(
            t, SMALL, 2, since=None, status=None, offset=0, limit=None
        ),
        "first page of results": page(),
        "last page of results": page(offset=n_large - PAGE),
        "last page of failures": page(offset=max(0, n_large // 50 - PAGE), status=FileStatus.FAILURE),
        "new results": page(since=recent),
        "first objects of a bucket": lambda t: results.list_objects(
            t, LARGE, prefix="", after=None, limit=1000
        ),
        "last objects of a bucket": lambda t: results.list_objects(
            t, LARGE, prefix="root", after=late_key, limit=1000
        ),
        "an object": lambda t: results.find_object(t, LARGE, late_key),
        "a key pair": lambda t: requests.find_bucket_key(t, "key1"),
        "work left, from the start": waiting(-1),
        "work left, from where it is": waiting(n_large - 1),
        "unfinished requests": requests.list_active,
        "late requests": lambda t: requests.list_late(t, active_before=START),
        "changed requests": lambda t: requests.list_counted(
            t, since=START + timedelta(minutes=n_requests - 2)
        ),
        "all unfinished, for an audit": lambda t: requests.list_counted(t, since=None),
        "audit of a small request": lambda t: results.count_outcomes(t, 2),
        "audit of the large request": lambda t: results.count_outcomes(t, 1),
        "deleted requests": requests.list_deleted,
        "known requests": lambda t: requests.find_known(t, [request_id(n) for n in range(1, 500)]),
    }


def changes(n_results: int) -> dict[str, Query]:
    """What changes a database with so many results, as often as it is called."""
    n_large = n_results // 2
    batches = itertools.count()
    numbers = itertools.count(3)
    positions = itertools.count(step=10_000)

    def report(transaction: Transaction) -> object:
        first = n_large + 200 * next(batches) % LEFT
        observed = [Observed(_report(first + n), STORED) for n in range(200)]
        return record(transaction, observed, 3, START + timedelta(days=1))

    def look_up(transaction: Transaction) -> object:
        files = [
            FoundFile((f"root://one.example//{n}.root", f"root://two.example//{n}.root"), "01234567", n, n)
            for n in range(10_000)
        ]
        datasets.insert_files(transaction, DatasetId(51), files, first_position=1000 + next(positions))
        return len(files)

    return {
        "200 reports": report,
        "10,000 files of a look-up": look_up,
        "2,000 results deleted": lambda t: results.delete_some(t, 1, 2000, START),
        "a small request deleted": lambda t: results.delete_some(t, next(numbers), 2000, START),
    }


STORED = StoredObject(key="k", size_bytes=1000, etag="e", modified=START)


def _report(position: int) -> FileDone:
    return FileDone(
        request_id=LARGE,
        file_id=FileId(file_id(position)),
        path=f"root://one.example//{position}.root",
        store_key=f"{LARGE}/{position}-0-1",
        n_events_in=1000,
        n_events_out=100,
        bytes_read=10**6,
        size_bytes=1000,
        seconds=1.5,
        tally=Tally(
            bytes_decompressed=10**8,
            seconds=StageSeconds(read=0.1, decompress=0.2),
            cut_flow=tuple(CutStep(f"any(Muon_pt > {cut})", 1000 - cut, "Events") for cut in range(3)),
        ),
    )
