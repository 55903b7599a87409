"""A database with as many results as asked for, made by the database itself in about a minute per million."""

from __future__ import annotations

import json
from collections.abc import Mapping

from sqlalchemy import Connection, Engine, text

from servicex_server.model.tally import CutStep, StageSeconds, Tally, to_document

FILES_OF_SMALL = 100
LEFT = 1000
"""Files of the large request that have no result yet, all at its end."""
_LISTS = 50

_SERIES = {
    "postgresql": "SELECT n FROM generate_series(0, {last}) AS made(n)",
    "sqlite": "SELECT n FROM (WITH RECURSIVE made(n) AS "
    "(SELECT 0 UNION ALL SELECT n + 1 FROM made WHERE n < {last}) SELECT n FROM made)",
}
_TIME = {
    "postgresql": "timestamptz '2026-05-01 00:00Z' + {} * interval '1 millisecond'",
    "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', '2026-05-01', ({} / 1000.0) || ' seconds')",
}
_JSON = {"postgresql": "CAST({} AS jsonb)", "sqlite": "{}"}
_TALLY = json.dumps(
    to_document(
        Tally(
            bytes_decompressed=10**8,
            seconds=StageSeconds(read=0.1, decompress=0.2),
            cut_flow=tuple(CutStep(f"any(Muon_pt > {cut})", 1000 - cut, "Events") for cut in range(3)),
        )
    )
)


def fill(engine: Engine, n_results: int) -> None:
    """Puts that many results into a database with the current schema and nothing in it.

    Half of them are of request 1, which still runs; the others of finished requests of a hundred files,
    which share fifty file lists. One file in fifty has failed.
    """
    n_large = n_results // 2
    n_small = n_results // 2 // FILES_OF_SMALL
    is_postgresql = engine.dialect.name == "postgresql"
    with engine.begin() as connection:
        _add_datasets(connection, n_large + LEFT)
        _add_requests(connection, n_large, n_small)
        _add_results(connection, n_large, n_small)
        for table, key in (("dataset", "id"), ("request", "number")) if is_postgresql else ():
            newest = f"(SELECT max({key}) FROM {table})"
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {newest})"))
    if is_postgresql:  # which does so by itself, but later; SQLite never does
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def request_id(number: int) -> str:
    """The id of the request with that number."""
    return f"00000000-0000-4000-8000-{number:012d}"


def file_id(position: int) -> int:
    """The id of the file of request 1 at that position."""
    return position + 1


def _add_datasets(connection: Connection, n_files: int) -> None:
    """Data set 1 of so many files, and the file lists that the other requests share."""
    time = _TIME[connection.dialect.name].format("n")
    dataset = {
        "id": "n + 1",
        "name": "'list ' || n",
        "did_finder": "'user'",
        "n_files": _first(n_files, FILES_OF_SMALL),
        "size_bytes": "0",
        "n_events": "0",
        "last_used": time,
        "last_updated": time,
        "lookup_status": "'complete'",
        "is_stale": "false",
    }
    _insert(connection, "dataset", 1 + _LISTS, dataset)
    path = "'root://eospublic.example//eos/opendata/cms/' || n || '/file_.root'"
    file = {
        "dataset_id": "1",
        "position": "n",
        "paths": _JSON[connection.dialect.name].format(f"'[\"' || {path} || '\"]'"),
        "adler32": "'xxx'",
        "size_bytes": "0",
        "n_events": "0",
    }
    _insert(connection, "dataset_file", n_files, file)
    small = {"dataset_id": f"2 + n / {FILES_OF_SMALL}", "position": f"n % {FILES_OF_SMALL}"}
    _insert(connection, "dataset_file", _LISTS * FILES_OF_SMALL, file | small)


def _add_requests(connection: Connection, n_large: int, n_small: int) -> None:
    """Request 1, which is not through, and the others, which have ended a minute after another."""
    time = _TIME[connection.dialect.name].format("60000 * n")
    failed = _first((n_large + 49) // 50, FILES_OF_SMALL // 50)
    request = {
        "number": "n + 1",
        "id": "'00000000-0000-4000-8000-' || substr('' || (1000000000001 + n), 2)",
        "owner": "'user' || (n % 20)",
        "title": "'a title'",
        "did": "'did'",
        "dataset_id": _first(1, f"2 + (n - 1) % {_LISTS}"),
        "selection": f"'{'x' * 300}'",
        "codegen": "'uproot'",
        "result_format": "'parquet'",
        "result_destination": "'object-store'",
        "state": _first("'Running'", "'Complete'"),
        "is_fileset_complete": "true",
        "is_preflight_pending": "false",
        "files": _first(n_large + LEFT, FILES_OF_SMALL),
        "completed": f"{_first(n_large, FILES_OF_SMALL)} - {failed}",
        "failed": failed,
        "submit_time": time,
        "active_since": time,
        "finish_time": _first("NULL", time),
        "access_key": "'key' || n",
        "secret_key": "'secret'",
        "renamed": _JSON[connection.dialect.name].format("'{}'"),
        "last_result_at": time,
    }
    totals = dict.fromkeys(("total_seconds", "total_bytes", "total_events"), "1")
    _insert(connection, "request", 1 + n_small, request | totals)


def _add_results(connection: Connection, n_large: int, n_small: int) -> None:
    """The results of request 1 in the order of its files, then those of the others."""
    time = _TIME[connection.dialect.name]
    name = "'root:::eospublic.example::eos:opendata:cms:' || n || ':file_.root.parquet'"
    large = {
        "request_number": "1",
        "file_id": "n + 1",
        "entry_start": "0",
        "path": "'root://eospublic.example//eos/opendata/cms/' || n || '/file_.root'",
        "status": "CASE WHEN n % 50 = 0 THEN 'failure' ELSE 'success' END",
        "object_name": f"CASE WHEN n % 50 != 0 THEN {name} END",
        "store_key": "'store/' || n",
        "etag": "'etag'",
        "modified": time.format("n"),
        "size_bytes": "1000000",
        "n_events_in": "1000",
        "n_events_out": "100",
        "bytes_read": "5000000",
        "seconds": "1.5",
        "attempts": "1",
        "reason": "CASE WHEN n % 50 = 0 THEN 'the file is corrupt' END",
        "created_at": time.format("n"),
        "tally": _JSON[connection.dialect.name].format(f"'{_TALLY}'"),
    }
    _insert(connection, "file_result", n_large, large)
    which, position = f"(n / {FILES_OF_SMALL})", f"n % {FILES_OF_SMALL}"
    small = {
        "request_number": f"{which} + 2",
        "file_id": f"{n_large + LEFT + 1} + ({which} % {_LISTS}) * {FILES_OF_SMALL} + {position}",
        "created_at": time.format(f"(60000 * {which} + {position})"),
    }
    _insert(connection, "file_result", n_small * FILES_OF_SMALL, large | small)


def _first(first: object, others: object) -> str:
    """One value for row 0 and another one for the others."""
    return f"CASE n WHEN 0 THEN {first} ELSE {others} END"


def _insert(connection: Connection, table: str, n_rows: int, columns: Mapping[str, str]) -> None:
    """Inserts rows whose columns are expressions of `n`, which counts from 0."""
    series = _SERIES[connection.dialect.name].format(last=n_rows - 1)
    names, values = ", ".join(columns), ", ".join(columns.values())
    statement = f"INSERT INTO {table} ({names}) SELECT {values} FROM ({series}) rows ORDER BY n"
    # No parameters, whatever colons there are.
    connection.execute(text(statement.replace(":", "\\:")))
