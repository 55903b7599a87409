"""`servicex-server disk` and `sweep`: what an operator sees, and what goes."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from service_bench import USER, open_bench
from servicex_server.app.database import upgrade
from servicex_server.app.datadir import DataDir
from servicex_server.app.settings import load
from servicex_server.cli import app
from servicex_server.errors import ConfigurationError
from servicex_server.model.shared import new_object_key
from servicex_server.service.delete import delete
from servicex_server.service.submit import submit
from servicex_server.store.backends.local import LocalStore

ANCIENT = "0.0000001"
"""Days: everything that has ended is older."""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("SERVICEX_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two requests that have ended, of three files and one."""
    folder = tmp_path_factory.mktemp("filled")
    settings = load(data_dir=folder / "data")
    upgrade(settings)
    data = DataDir(settings.data_dir)
    (folder / "inputs").mkdir()

    async def fill() -> None:
        store = LocalStore(data.store, min_free_bytes=0)
        async with open_bench(data.database_url, store, folder / "inputs") as bench, bench.working():
            for n_files, title in ((3, "muons \x1b[31mred\nsecond line"), (1, None)):
                submission = bench.submission(n_files, title=title)
                await bench.until_ended(await submit(bench.services, USER, submission))

    asyncio.run(fill())
    return folder / "data"


@pytest.fixture
def data_dir(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(filled, tmp_path / "data"))


def invoke(*arguments: str, **environment: str) -> str:
    result = CliRunner().invoke(app, arguments, env=environment)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def objects(data_dir: Path) -> list[Path]:
    return [path for path in (data_dir / "store" / "objects").rglob("*") if path.is_file()]


def test_disk_tells_what_is_kept(data_dir: Path) -> None:
    lines = invoke("disk", "--data-dir", str(data_dir)).splitlines()
    assert lines[0].split() == ["size", "files", "age", "state", "owner", "request", "title"]
    assert lines[1].split()[:6] == ["30", "B", "3", "0", "min", "Complete"]
    assert "marie" in lines[1]
    assert lines[1].endswith("muons  [31mred second line"), "nothing of a title steers the terminal"
    assert "\x1b" not in "".join(lines)
    assert lines[3].startswith("2 requests keep 4 files, 40 B of at most ")
    assert lines[4].startswith("disk: ")
    assert lines[5] == "0 requests with 0 B go at the next sweep"


def test_disk_shows_the_largest_and_what_goes_next(data_dir: Path) -> None:
    text = invoke("disk", "--data-dir", str(data_dir), "--limit", "1", SERVICEX_RESULTS_MAX_AGE_DAYS=ANCIENT)
    assert "goes next" in text
    assert "... and 1 smaller ones (--limit shows more)" in text
    assert "2 requests with 40 B go at the next sweep" in text


def test_disk_as_json(data_dir: Path) -> None:
    document = json.loads(
        invoke("disk", "--data-dir", str(data_dir), "--json", SERVICEX_RESULTS_MAX_BYTES="5")
    )
    assert document["totals"] == {"requests": 2, "files": 4, "bytes": 40, "bound_bytes": 5}
    assert document["disk"]["free_bytes"] <= document["disk"]["size_bytes"]
    first, second = document["requests"]
    assert (first["bytes"], first["files"], first["owner"], first["state"]) == (30, 3, "marie", "Complete")
    assert second["title"] is None
    assert document["expiring"] == [], "they have only just ended"
    assert sorted(each["bytes"] for each in document["spared"]) == [10, 30]
    assert document["young_objects"] == {"objects": 0, "bytes": 0}


def test_what_stays_though_results_take_too_much_is_told(data_dir: Path) -> None:
    arguments = ("--data-dir", str(data_dir))
    stray = DataDir(data_dir).store / "objects" / new_object_key(f"objects/0a/0a{'1' * 62}")
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"not reported yet")
    # The one of three files ended first; without it the other one fits.
    for command in (("disk",), ("sweep", "--dry-run"), ("sweep",)):
        text = invoke(*command, *arguments, SERVICEX_RESULTS_MAX_BYTES="10")
        assert "1 requests with 30 B stay although that is too much: they ended within the last hour" in text
        assert "1 objects with 16 B that no request has are younger than 2 d and stay until then" in text
        text = invoke(*command, *arguments)
        assert "stay although" not in text, "they fit"
    assert stray.exists()


def test_sweep_removes_or_only_tells(data_dir: Path) -> None:
    arguments = ("sweep", "--data-dir", str(data_dir))
    text = invoke(*arguments, "--dry-run", SERVICEX_RESULTS_MAX_AGE_DAYS=ANCIENT)
    assert text.count("would expire") == 2
    assert "would remove 2 requests (40 B of them expired)" in text
    assert len(objects(data_dir)) == 4
    assert "removed 0 requests" in invoke(*arguments)
    assert len(objects(data_dir)) == 4
    text = invoke(*arguments, SERVICEX_RESULTS_MAX_AGE_DAYS=ANCIENT)
    assert text.count("expired  ") == 2
    assert "removed 2 requests (40 B of them expired)" in text
    assert objects(data_dir) == []
    assert json.loads(invoke("disk", "--data-dir", str(data_dir), "--json"))["requests"] == []


def test_sweep_removes_what_is_left_of_deleted_requests_and_of_unknown_ones(data_dir: Path) -> None:
    data = DataDir(data_dir)
    ids = [
        each["request_id"]
        for each in json.loads(invoke("disk", "--data-dir", str(data_dir), "--json"))["requests"]
    ]

    async def delete_one() -> None:
        async with open_bench(data.database_url, LocalStore(data.store, min_free_bytes=0), data_dir) as bench:
            await delete(bench.services, USER, ids[0])

    asyncio.run(delete_one())
    stray = data.store / "objects" / str(uuid4()) / "1-1"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    document = json.loads(invoke("sweep", "--data-dir", str(data_dir), "--dry-run", "--json"))
    assert document == {
        "dry_run": True,
        "expired": [],
        "removed_requests": 1,
        "orphans": 1,
        "scratch_files": 0,
        "spared": [],
        "young_objects": {"objects": 0, "bytes": 0},
    }
    assert len(objects(data_dir)) == 5
    document = json.loads(invoke("sweep", "--data-dir", str(data_dir), "--json"))
    assert (document["removed_requests"], document["orphans"], document["dry_run"]) == (1, 1, False)
    assert {path.parent.name for path in objects(data_dir)} == {ids[1]}


@pytest.mark.parametrize("command", ["disk", "sweep"])
def test_a_folder_without_a_server_is_told(tmp_path: Path, command: str) -> None:
    with pytest.raises(ConfigurationError, match="no server has run on the data folder"):
        invoke(command, "--data-dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
