"""What a worker's child process runs: units against the store and sources that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from servicex_server.grid.access import GridAccess
from servicex_server.grid.export import export
from servicex_server.model.unit import PreflightUnit, Report, Unit
from servicex_server.run.execute import transform_unit
from servicex_server.run.preflight import preflight_unit
from servicex_server.run.sandbox.limits import SandboxLimits
from servicex_server.run.sandbox.stage import remove_abandoned
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.reading import Reading
from servicex_server.store.open import open_store


def build(
    *,
    store: dict[str, Any],
    local_roots: list[str],
    forbidden_folders: list[str],
    allowed_private_hosts: list[str],
    n_threads: int,
    sandbox: dict[str, object] | None,
    grid: dict[str, object] | None = None,
    reading: dict[str, object] | None = None,
) -> Callable[[Unit], Report]:
    """The function that turns a unit into its report; made once in each child.

    Args:
        store: arguments of `open_store`.
        sandbox: `SandboxLimits` of python queries as plain values; None to run none.
        grid: `GridAccess` as plain values.
        reading: `Reading` as plain values; None for its defaults.

    Raises:
        msgspec.ValidationError: `sandbox`, `grid` or `reading` holds values of other types.
    """
    results = open_store(**store)
    policy = SourcePolicy(
        local_roots=tuple(Path(root) for root in local_roots),
        forbidden_folders=tuple(Path(folder) for folder in forbidden_folders),
        allowed_private_hosts=tuple(allowed_private_hosts),
        grid=msgspec.convert(grid or {}, GridAccess, dec_hook=_to_path),
        reader="this worker",
    )
    # Before anything imports the XRootD client.
    export(policy.grid)

    # Gigabytes each, and this process may be the next one of the one that left them.
    remove_abandoned(results.scratch_folder())
    limits = msgspec.convert(sandbox, SandboxLimits | None)
    rules = msgspec.convert(reading, Reading | None)

    def execute(unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return preflight_unit(unit, policy, rules, store=results)
        return transform_unit(unit, results, policy, reading=rules, n_threads=n_threads, sandbox=limits)

    return execute


def _to_path(kind: type, value: object) -> Path:
    if kind is not Path or not isinstance(value, str):
        message = f"not a path: {value!r}"
        raise ValueError(message)
    return Path(value)
