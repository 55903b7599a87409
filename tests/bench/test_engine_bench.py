"""The engine benchmark on files of 2,000 events that uproot writes: it runs, and it notices wrong answers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from benchmarks.engine.command import main
from benchmarks.engine.digest import ColumnDigest, Digest
from benchmarks.engine.events import batches
from benchmarks.engine.expected import expected_answers
from benchmarks.engine.inputs import make_room
from benchmarks.engine.report import geometric_mean
from benchmarks.engine.wide import measure_fixed_cost

Run: TypeAlias = Callable[..., tuple[str, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the benchmark; gives what it prints and what it writes."""

    def run_with(*switches: str) -> tuple[str, dict[str, Any]]:
        small = ["--events", "2000", "--rounds", "1", "1", "--without-root"]
        assert main([*small, "--folder", str(tmp_path), "--outputs", str(tmp_path), *switches]) == 0
        return capsys.readouterr().out, json.loads((tmp_path / "engine.json").read_text())

    return run_with


def test_all_methods_give_the_same_rows_and_are_timed(run: Run) -> None:
    methods, queries = ("ours2", "func_adl", "uproot_raw"), ("Q2", "Q3", "Q4")
    switches = ("--codecs", "LZ4", "--queries", *queries, "--only", *methods)
    text, found = run("--parts", "times", *switches)
    assert [(item["query"], item["method"]) for item in found["measurements"]] == [
        (query, method) for query in queries for method in methods
    ]
    assert {item["problem"] for item in found["measurements"]} == {None}
    assert all(item["wall_s"] > 0 and item["cpu_s"] > 0 for item in found["measurements"])
    assert all(item["output_bytes"] > 0 for item in found["measurements"])
    (ratio,) = (row for row in found["ratios"] if row["ratio"] == "func_adl_uproot ÷ ours, 2 threads (wall)")
    assert ratio["geometric mean"] == pytest.approx(geometric_mean(ratio["queries"].values()))
    assert "| codec | query | ours, 2 threads | func_adl_uproot | uproot-raw |" in text
    assert "Without a number" not in text


def test_says_why_a_peer_has_no_number(run: Run) -> None:
    switches = ("--codecs", "RNTuple", "--queries", "Q2", "--only", "uproot_raw", "floor")
    text, found = run("--parts", "times", *switches)
    problems = {item["method"]: item["problem"] for item in found["measurements"]}
    assert problems["floor"] is None
    # uproot takes no cut on an RNTuple, and does not say so.
    assert problems["uproot_raw"].startswith("gives 2000 rows instead of ")
    assert f"- uproot-raw, RNTuple Q2: {problems['uproot_raw']}" in text


def test_asks_a_fresh_process_for_its_peak_memory(run: Run) -> None:
    text, found = run("--parts", "memory", "--only", "ours1")
    small, large = found["peak memory"]
    assert small["problem"] is None
    assert large["n_events"] == 4 * small["n_events"]
    assert min(small["peak_bytes"], large["peak_bytes"]) > 10_000_000
    assert "Peak memory for Q5" in text


def test_times_a_file_with_many_branches(samples: Path, tmp_path: Path) -> None:
    cost = measure_fixed_cost(samples / "scouting_nano.root", tmp_path, n_rounds=1)
    assert cost.n_branches > 200
    assert cost.n_events == 40
    assert min(*cost.ours_s, *cost.official_query_s, *cost.official_s) > 0


def test_draws_the_same_branches_in_each_batch() -> None:
    first, second = batches(50_001)
    assert [branch.name for branch in first] == [branch.name for branch in second]
    assert len({branch.name for branch in first}) == 103
    assert [len(batch[0].values) for batch in (first, second)] == [50_000, 1]


def test_every_query_keeps_some_and_drops_some() -> None:
    answers = expected_answers(2000)
    everything = answers["Q5"].columns["Jet_pt"].n_values
    assert answers["Q1"].n_rows == answers["Q3"].n_rows == answers["Q5"].n_rows == 2000
    assert 0 < answers["Q2"].n_rows < 200
    assert 0 < answers["Q4"].n_rows < 200
    assert 0 < answers["Q3"].columns["Jet_pt"].n_values < everything


DIGEST = Digest(3, {"a": ColumnDigest(3, 1.0, 5.0), "b": ColumnDigest(7, 0.0, 0.0)})


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (DIGEST, None),
        (dataclasses.replace(DIGEST, n_rows=2), "2 rows instead of 3"),
        (Digest(3, {"a": DIGEST.columns["a"]}), "other columns: b"),
        (Digest(3, {**DIGEST.columns, "b": ColumnDigest(6, 0.0, 0.0)}), "6 values of b instead of 7"),
        (
            Digest(3, {**DIGEST.columns, "a": ColumnDigest(3, 1.1, 5.0)}),
            "the values of a add up to 1.1 instead of 1.0",
        ),
        (
            Digest(3, {**DIGEST.columns, "a": ColumnDigest(3, float("nan"), float("nan"))}),
            "the values of a add up to nan instead of 1.0",
        ),
    ],
)
def test_finds_the_difference_of_two_results(other: Digest, difference: str | None) -> None:
    assert DIGEST.find_difference(other) == difference


def test_has_no_mean_where_a_query_is_missing() -> None:
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4.0)
    assert geometric_mean([2.0, None]) is None
    assert geometric_mean([]) is None


def test_keeps_the_inputs_small(tmp_path: Path) -> None:
    for name in ("old", "new", "used"):
        (tmp_path / f"{name}.root").write_bytes(bytes(100))
    make_room(tmp_path, {tmp_path / "used.root"}, 100)
    assert [path.name for path in tmp_path.iterdir()] == ["used.root"]
