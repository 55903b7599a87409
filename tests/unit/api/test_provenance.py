"""The record of a request: its schema, its documentation, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from edge import CORRUPT, SELECTION, Edge
from servicex_server.model.provenance import FORMAT, Provenance
from servicex_server.model.tally import CutStep, Tally
from servicex_server.service import provenance

DOCS = Path(__file__).parents[3] / "docs"
SCHEMA = DOCS / "provenance.schema.json"


async def fetch(edge: Edge, request_id: str) -> dict[str, Any]:
    answer = await edge.http().get(f"/servicex/transformation/{request_id}/provenance")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/json"
    record: dict[str, Any] = answer.json()
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    return record


def test_the_schema_in_the_documentation_is_that_of_the_record() -> None:
    assert json.loads(SCHEMA.read_text()) == msgspec.json.schema(Provenance)


def test_every_field_is_documented() -> None:
    text = (DOCS / "provenance.md").read_text()
    assert FORMAT in text
    for name, part in msgspec.json.schema(Provenance)["$defs"].items():
        for field in part["properties"]:
            assert f"`{field}`" in text or name == "CutRecord", (name, field)


async def test_a_record_tells_of_question_software_and_files(edge: Edge) -> None:
    request_id = await edge.submit("a.root", "broken.root", title="muons")
    await edge.finish(request_id)
    record = await fetch(edge, request_id)
    assert record["format"] == FORMAT
    assert record["request"]["title"] == "muons"
    assert record["request"]["state"] == "Complete"
    assert record["query"]["selection"] == SELECTION
    assert record["query"]["plan"].startswith("plan 1 uproot-raw\n")
    assert len(record["query"]["plan_sha256"]) == 64
    assert {"server", "engine", "python", "uproot", "awkward", "numpy", "pyarrow"} == set(record["versions"])
    assert record["versions"]["server"] == "1.2.3"
    assert record["counts"]["entries_before"] == 100
    good, bad = record["files"]
    assert (good["outcome"], good["entries_before"], good["entries_after"]) == ("delivered", 100, 10)
    assert good["object"]["key"].endswith(":a.root.parquet")
    assert good["object"]["etag"]
    assert (good["cache_hit"], good["adler32"], good["size_bytes"]) == (False, None, None)
    assert [step["rows"] for step in good["cut_flow"]] == [100, 10]
    assert good["sums_of_weights"][0]["after"] is None
    assert (bad["outcome"], bad["reason"], bad["object"]) == ("failed", CORRUPT, None)
    (attempt,) = bad["failed_attempts"]
    assert (attempt["attempt"], attempt["reason"], attempt["message"]) == (1, "corrupt", CORRUPT)
    assert record["totals"]["is_whole"]
    assert [step["rows"] for step in record["totals"]["cut_flow"]] == [100, 10]


async def test_a_record_of_what_goes_on_leaves_open_what_is_open(edge: Edge) -> None:
    record = await fetch(edge, await edge.submit("a.root", "b.root"))
    assert record["request"]["finish_time"] is None
    assert [file["outcome"] for file in record["files"]] == [None, None]
    assert record["files"][0]["replicas"][0].endswith("a.root")
    assert record["totals"]["cut_flow"] == []


@pytest.mark.parametrize("page", [1, 2, 3, 7, 8])
async def test_files_are_read_page_by_page(page: int, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "PAGE", page)
    names = [f"f{number}.root" for number in range(7)]
    request_id = await edge.submit(*names)
    await edge.finish(request_id)
    record = await fetch(edge, request_id)
    assert [Path(file["replica_used"]).name for file in record["files"]] == names
    assert [file["position"] for file in record["files"]] == list(range(7))
    assert record["totals"]["cut_flow"][0]["rows"] == 700


def test_totals_are_bounded() -> None:
    totals = provenance.Totals()
    for file in range(100):
        totals.add([Tally(cut_flow=tuple(CutStep(f"cut {file} {n}", 1) for n in range(100)))])
    record = totals.record()
    assert not record.is_whole
    assert 0 < len(record.cut_flow) <= 2_000
