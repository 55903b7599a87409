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
    allowed_private_hosts: list[str],
    n_threads: int,
) -> Callable[[Unit], Report]:
    """The function that turns a unit into its report; made once in each child."""
    store = LocalStore(Path(store_folder), min_free_bytes=min_free_bytes)
    policy = SourcePolicy(
        local_roots=tuple(Path(root) for root in local_roots),
        allowed_private_hosts=tuple(allowed_private_hosts),
    )

    def execute(unit: Unit) -> Report:
        if isinstance(unit, PreflightUnit):
            return preflight_unit(unit, policy)
        return transform_unit(unit, store, policy, n_threads=n_threads)

    return execute
