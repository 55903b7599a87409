"""What a worker's child process runs: units against the store and sources that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from servicex_server.model.unit import PreflightUnit, Report, Unit
from servicex_server.run.execute import preflight_unit, transform_unit
from servicex_server.source.policy import SourcePolicy
from servicex_server.store.backends.local import LocalStore


def build(
    *,
    store_folder: str,
    min_free_bytes: int,
    local_roots: list[str],
    forbidden_folders: list[str],
    allowed_private_hosts: list[str],
) -> Callable[[Unit], Report]:
    """The function that turns a unit into its report; made once in each child."""
    store = LocalStore(Path(store_folder), min_free_bytes=min_free_bytes)
    policy = SourcePolicy(
        local_roots=tuple(Path(root) for root in local_roots),
        forbidden_folders=tuple(Path(folder) for folder in forbidden_folders),
        allowed_private_hosts=tuple(allowed_private_hosts),
    )

    def execute(unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return preflight_unit(unit, policy)
        return transform_unit(unit, store, policy)

    return execute
