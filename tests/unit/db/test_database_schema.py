"""The schema: what the migrations make is what the tables say, and a server starts on no other."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Column, MetaData, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from servicex_server.db import request as requests
from servicex_server.db import result as results
from servicex_server.db import schema
from servicex_server.db.orm import Base, PrincipalRow
from servicex_server.db.session import build_engine
from servicex_server.errors import ConfigurationError

NOON = datetime(2026, 5, 15, 12, tzinfo=UTC)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'folder' / 'servicex.db'}"


def test_an_upgrade_makes_what_the_tables_say(url: str) -> None:
    assert schema.upgrade(url) == schema.HEAD
    schema.check(url)
    assert schema.upgrade(url) == schema.HEAD, "again is no error"
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        mode = connection.execute(text("PRAGMA journal_mode")).scalar_one()
    engine.dispose()
    assert mode == "wal"


def test_a_database_of_the_first_version_is_brought_up_to_date(url: str) -> None:
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    Path(url.removeprefix("sqlite:///")).parent.mkdir()
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            insert(PrincipalRow).values(
                name="marie", token_sha256="0" * 64, is_admin=False, created=datetime.now(UTC)
            )
        )
    assert schema.upgrade(url) == schema.HEAD
    with engine.begin() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert connection.execute(select(PrincipalRow.name)).scalar_one() == "marie"
    engine.dispose()


def test_rows_of_the_first_release_survive(url: str) -> None:
    migrate(url, "0001")
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    times = dict.fromkeys(("created_at", "submit_time", "active_since", "last_used", "last_updated"), NOON)
    with engine.begin() as connection:
        old = MetaData()
        old.reflect(connection)
        for name in ("dataset", "dataset_file", "request", "file_result"):
            table = old.tables[name]
            values = {
                column.name: times.get(column.name, _plain(column))
                for column in table.columns
                if not column.nullable
            }
            connection.execute(table.insert(), values)
    assert schema.upgrade(url) == schema.HEAD
    with engine.connect() as connection:
        request = requests.find_request(connection, "1")
        assert request is not None
        assert request.compression is None
        (result,) = results.list_results(
            connection, request.id, 1, since=None, status=None, offset=0, limit=None, with_tally=True
        )
        assert result.tally is None
    engine.dispose()
    migrate(url, "0001", down=True)
    assert schema.read_version(url) == "0001"


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
    Path(url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, revision)
    engine.dispose()


def test_the_newest_migration_is_the_one_this_code_needs() -> None:
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.HEAD]


def test_a_missing_schema_is_refused_with_the_command(url: str) -> None:
    with pytest.raises(ConfigurationError, match="servicex-server db upgrade"):
        schema.check(url)
    assert not Path(url.removeprefix("sqlite:///")).exists(), "asking creates nothing"


@pytest.mark.parametrize(
    ("found", "words"),
    [("0000", f"needs {schema.HEAD}; run `servicex-server db upgrade`"), ("9999", "newer")],
)
def test_another_schema_is_refused(url: str, found: str, words: str) -> None:
    schema.upgrade(url)
    engine = build_engine(url, size=1, busy_timeout_s=1, read_only=False)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    engine.dispose()
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


def test_the_tables_can_be_made_on_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    statements = [
        *(str(CreateTable(table).compile(dialect=dialect)) for table in Base.metadata.sorted_tables),
        *(
            str(CreateIndex(index).compile(dialect=dialect))
            for table in Base.metadata.sorted_tables
            for index in table.indexes
        ),
    ]
    assert any('COLLATE "C"' in statement for statement in statements)
    assert any("JSONB" in statement for statement in statements)
    assert any("WHERE NOT is_stale" in statement for statement in statements)
