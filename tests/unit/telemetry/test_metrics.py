"""Metrics: named and documented as declared, with labels that tell nothing of people, loaded where needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from servicex_server.model.unit import Reason
from servicex_server.telemetry import metrics

DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
LABELS = {"route", "method", "status", "state", "outcome", "reason", "kind", "operation", "stage"}
UNITS = ("seconds", "bytes", "reports", "units", "slots", "streams", "alive")


def test_the_documented_table_is_what_is_declared() -> None:
    text = DOCS.read_text()
    (table,) = re.findall(r"^\| metric \|.*?\n\n", text, re.MULTILINE | re.DOTALL)
    assert table.strip() == metrics.describe()


def test_every_reason_is_documented() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| [^|]+ \| (yes|no) \|$", DOCS.read_text(), re.MULTILINE))
    assert rows == {reason.value: "yes" if reason.is_transient else "no" for reason in Reason}


def test_names_and_labels_follow_the_rules() -> None:
    assert len(metrics.DECLARED) > 20
    for metric in metrics.DECLARED:
        (family,) = metric.describe()
        assert family.name.startswith("servicex_")
        assert family.type == "counter" or family.name.endswith(UNITS), family.name
        assert family.documentation.endswith(".")
        assert set(metrics.label_names(metric)) <= LABELS


@pytest.mark.parametrize(
    "start",
    [
        "import servicex_server.cli",
        # What is forked for units, and what it loads.
        "import servicex_server.run.nursery, servicex_server.run.child, servicex_server.app.executor",
    ],
)
def test_neither_the_command_nor_a_child_loads_the_library(start: str) -> None:
    code = f"import sys; {start}; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gauges_of_a_queue_ask_it_while_it_is_there() -> None:
    def value(name: str) -> float:
        return metrics.REGISTRY.get_sample_value(f"servicex_queue_{name}") or 0.0

    with metrics.watch_queue(waiting=lambda: 3, leased=lambda: 2, slots=lambda: 4, reports=lambda: 1):
        assert [value(n) for n in ("waiting_units", "leased_units", "slots", "unrecorded_reports")] == [
            3,
            2,
            4,
            1,
        ]
    assert value("waiting_units") == 0
