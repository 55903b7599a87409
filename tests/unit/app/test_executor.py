"""What the settings say of python queries reaches the process that runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from servicex_server.app import executor
from servicex_server.app.ports import sandbox_limits
from servicex_server.app.settings import load
from servicex_server.model.ids import FileId, RequestId
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import Failure, FileFailed, Reason, Report, TransformUnit, Unit
from servicex_server.run.sandbox.limits import SandboxLimits


def build(folder: Path, sandbox: object) -> Callable[[Unit], Report]:
    """The executor of a child, its sandbox as it comes out of the pipe."""
    arguments: dict[str, Any] = {
        "store": {"url": str(folder / "store"), "min_free_bytes": 0},
        "local_roots": [],
        "forbidden_folders": [],
        "allowed_private_hosts": [],
        "n_threads": 1,
        "sandbox": sandbox,
    }
    return executor.build(**msgspec.msgpack.decode(msgspec.msgpack.encode(arguments)))


@pytest.mark.parametrize(
    ("choices", "limits"),
    [
        ({"python_generator": "off"}, None),
        (
            {"python_memory_bytes": 2**29, "python_time_s": 7, "python_input_bytes": 5},
            SandboxLimits(memory_bytes=2**29, time_s=7.0, input_bytes=5, file_time_s=3240.0),
        ),
        ({"file_deadline_s": 100}, SandboxLimits(file_time_s=90.0)),
    ],
)
def test_bounds_of_the_settings_arrive(
    choices: dict[str, Any], limits: SandboxLimits | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    def note(unit: TransformUnit, *arguments: object, sandbox: object, **more: object) -> Report:
        seen.append(sandbox)
        return FileFailed(unit.request_id, unit.file_id, "", Failure(Reason.QUERY, "not run"), 0.0)

    monkeypatch.setattr(executor, "transform_unit", note)
    chosen = sandbox_limits(load(data_dir=tmp_path, **choices))
    assert chosen == limits
    execute = build(tmp_path, msgspec.to_builtins(chosen))
    execute(TransformUnit(RequestId("r"), FileId(1), (), "python", "", ResultFormat.PARQUET, "r/1"))
    assert seen == [limits]


def test_a_worker_without_roots_tells_that_it_is_the_worker(tmp_path: Path) -> None:
    execute = build(tmp_path, None)
    files = ("/data/x.root",)
    report = execute(
        TransformUnit(
            RequestId("r"), FileId(1), files, "uproot-raw", '[{"treename": "t"}]', ResultFormat.PARQUET, "r/1"
        )
    )
    assert isinstance(report, FileFailed)
    assert "not below a folder this worker reads from" in report.failure.message
    assert "setting `local_roots` of this worker; apps and workers need the same" in report.failure.message


@pytest.mark.parametrize("sandbox", [{"memory_bytes": "much"}, {"time_s": None}, {"n_threads": 1.5}])
def test_bounds_of_another_type_stop_the_child(sandbox: object, tmp_path: Path) -> None:
    with pytest.raises(msgspec.ValidationError):
        build(tmp_path, sandbox)
