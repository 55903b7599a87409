"""The schema: what the migrations make is what the tables say, and a server starts on no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Column, Connection, Engine, FromClause, MetaData, func, select, text

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db import schema, shared
from servicex_server.db.engine import build_engine
from servicex_server.db.orm import Base
from servicex_server.errors import ConfigurationError

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    return config


def revisions() -> list[str]:
    """Every released revision, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][
        ::-1
    ]


def test_an_upgrade_makes_what_the_tables_say(url: str) -> None:
    assert schema.upgrade(url) == schema.HEAD
    schema.check(url)
    assert schema.upgrade(url) == schema.HEAD, "again is no error"
    with opened(url) as engine, engine.connect() as connection:
        assert differences(connection) == []
        if engine.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    assert schema.upgrade(f"sqlite:///{tmp_path / 'folder' / 'servicex.db'}") == schema.HEAD


@pytest.mark.parametrize("head", revisions()[:-1])
def test_rows_of_every_release_survive(url: str, head: str) -> None:
    migrate(url, head)
    with opened(url) as engine:
        with engine.begin() as connection:
            before = fill(connection)
            named = "UPDATE file_result SET object_name = 'x', store_key = 'request/1-0-1'"
            connection.execute(text(named))
        assert schema.upgrade(url) == schema.HEAD
        with engine.connect() as connection:
            assert differences(connection) == []
            assert {table.name: count(connection, table) for table in Base.metadata.sorted_tables} == {
                table.name: 1 if table.name in before else 0 for table in Base.metadata.sorted_tables
            }
            request = requests.find_request(connection, "1")
            assert request is not None
            assert request.compression is None
            (result,) = results.list_results(
                connection, request.id, 1, since=None, status=None, offset=0, limit=None, with_tally=True
            )
            assert (result.created_at, result.tally) == (NOON, None)
            assert result.store_key == "request/1-0-1"
            if head < "0005":  # later ones know of shared results themselves
                assert (result.is_cached, request.cached) == (False, 0)
            (found,) = results.list_objects(connection, request.id, prefix="", after=None, limit=9)
            assert found.store_key == "request/1-0-1"
        with engine.begin() as connection:
            assert results.delete_some(connection, 1, 9, NOON) > 0
            requests.delete_request(connection, 1)
            assert shared.list_doomed(connection, 9) == [], "its objects are its own"
    migrate(url, head, down=True)
    assert schema.read_version(url) == head


def test_many_may_upgrade_at_once(url: str) -> None:
    program = f"from servicex_server.db import schema; print(schema.upgrade({url!r}))"
    command = [sys.executable, "-c", program]
    upgrades = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [upgrade.communicate(timeout=60) for upgrade in upgrades] == [(f"{schema.HEAD}\n", "")] * 3
    schema.check(url)


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    yield engine
    engine.dispose()


def differences(connection: Connection) -> list[Any]:
    """What alembic would change to get from the database to the tables."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


def fill(connection: Connection) -> set[str]:
    """Puts one row into every table that the database has; returns their names."""
    times = ("created", "created_at", "submit_time", "active_since", "last_used", "last_updated")
    old = MetaData()
    old.reflect(connection)
    tables = [table for table in old.sorted_tables if table.name != "alembic_version"]
    for table in tables:
        values = {
            column.name: NOON if column.name in times else _plain(column)
            for column in table.columns
            if not column.nullable
        }
        connection.execute(table.insert(), values)
    return {table.name for table in tables}


def count(connection: Connection, table: FromClause) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _plain(column: Column[object]) -> object:
    words = {"result_format": "parquet", "result_destination": "object-store", "state": "Complete"}
    if column.name in words:
        return words[column.name]
    if column.name == "status":
        return "success"
    if isinstance(column.type, JSON):
        return {}
    return 1 if column.type.python_type in (int, float, bool) else "1"


def migrate(url: str, revision: str, *, down: bool = False) -> None:
    """Goes to one revision, as `schema.upgrade` goes to the newest."""
    config = alembic_config()
    with opened(url) as engine, engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)


def test_the_newest_migration_is_the_one_this_code_needs() -> None:
    assert revisions()[-1] == schema.HEAD
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [schema.HEAD]


def test_a_missing_schema_is_refused_with_the_command(url: str) -> None:
    with pytest.raises(ConfigurationError, match="servicex-server db upgrade"):
        schema.check(url)
    if url.startswith("sqlite"):
        assert not Path(url.removeprefix("sqlite:///")).exists(), "asking creates nothing"


@pytest.mark.parametrize(
    ("found", "words"),
    [("0000", f"needs {schema.HEAD}; run `servicex-server db upgrade`"), ("9999", "newer")],
)
def test_another_schema_is_refused(url: str, found: str, words: str) -> None:
    schema.upgrade(url)
    with opened(url) as engine, engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    with pytest.raises(ConfigurationError, match=words):
        schema.check(url)
    if found > schema.HEAD:
        with pytest.raises(ConfigurationError, match=words):
            schema.upgrade(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "servicex.db"
    path.write_bytes(b"this is not a database, only a long enough text" * 100)
    with pytest.raises(ConfigurationError, match="not a database"):
        schema.check(f"sqlite:///{path}")


def test_alembic_is_imported_for_upgrades_alone(url: str) -> None:
    schema.upgrade(url)
    program = (
        "import sys\nfrom servicex_server.db import schema\nfrom servicex_server.db.session import Database\n"
        f"schema.check({url!r}); schema.upgrade({url!r})\nprint('alembic' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"
