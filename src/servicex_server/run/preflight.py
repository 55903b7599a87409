"""A query is tried on a few files before all of them are offered to the workers."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from servicex_server.errors import (
    FormatError,
    InvalidRequest,
    QueryError,
    TransformError,
    UnknownTree,
)
from servicex_server.model.kinds import ResultFormat
from servicex_server.model.unit import PreflightDone, PreflightUnit
from servicex_server.plan.plan import BoundPlan, Plan
from servicex_server.plan.tree import require_some_tree
from servicex_server.run.binding import bind_to_file
from servicex_server.run.execute import load_plan
from servicex_server.run.read.root import RootFile
from servicex_server.run.table import evaluate_empty
from servicex_server.run.write.canonical import schema_of
from servicex_server.run.write.fit import check_columns, check_format
from servicex_server.source.policy import SourcePolicy
from servicex_server.source.reading import Reading
from servicex_server.source.replica import FAULTS, Replicas
from servicex_server.source.stored import opener_of
from servicex_server.store.protocol import Store

log = logging.getLogger(__name__)

_PREFLIGHT_FILES = 3


def preflight_unit(
    unit: PreflightUnit, policy: SourcePolicy, reading: Reading | None = None, *, store: Store | None = None
) -> PreflightDone:
    """Binds the query to a few files.

    It is rejected if it does not parse, or if no file that can be read fits it; a file that cannot be
    read says nothing about the query.

    Args:
        store: where results of earlier requests are; without it, none of them can be read.
    """
    rejection: str | None = None
    try:
        plan = load_plan(unit.codegen, unit.selection, unit.tree_name)
        if plan.script is not None:
            # What it needs shows only when it runs.
            return PreflightDone(unit.request_id)
        files = _files_of(unit, policy, reading, store)
        rejection = _reject(plan, files, unit.result_format)
    except InvalidRequest as error:
        rejection = error.message
    except Exception:
        # A defect here must not keep a request from its files: each will tell its own reason.
        log.exception("preflight failed unexpectedly")
    return PreflightDone(unit.request_id, rejection)


def _files_of(
    unit: PreflightUnit, policy: SourcePolicy, reading: Reading | None, store: Store | None
) -> list[Replicas]:
    keys = (*unit.source_keys, *(None for _ in unit.files))
    return [
        Replicas(
            paths,
            policy,
            reading,
            opener=opener_of(store, paths[0], key) if store is not None and paths else None,
        )
        for paths, key in zip(unit.files[:_PREFLIGHT_FILES], keys, strict=False)
    ]


def _reject(plan: Plan, files: Sequence[Replicas], result_format: ResultFormat) -> str | None:
    """Why the query fits none of the files that can be read; None if it fits one, or none can be read."""
    faults: list[InvalidRequest] = []
    for replicas in files:
        try:
            if _fits(plan, replicas, result_format):
                return None
        except (QueryError, FormatError) as fault:
            faults.append(fault)
    # A file without the tree may be of another kind; what one with the tree lacks is to the point.
    faults.sort(key=lambda fault: isinstance(fault, UnknownTree))
    return faults[0].message if faults else None


def _fits(plan: Plan, replicas: Replicas, result_format: ResultFormat) -> bool:
    """Whether a replica can be read.

    Raises:
        QueryError, FormatError: it can, and the query does not fit it.
    """
    while True:
        try:
            with RootFile(replicas.open()) as file:
                bound = bind_to_file(plan, file)
                require_some_tree(bound, file)
                check_bound(bound, file, result_format)
                return True
        except FAULTS as fault:
            log.info("preflight cannot read a replica: %s", fault.message)
            if not replicas.give_up(fault):
                return False
        except TransformError as error:
            log.info("preflight cannot read a file: %s", error.message)
            return False


def check_bound(bound: BoundPlan, file: RootFile, result_format: ResultFormat) -> None:
    """Raises QueryError or FormatError if the plan cannot be evaluated, or its result not be written."""
    check_format(bound, result_format)
    for output in bound.outputs:
        empty = evaluate_empty(output, file.tree(output.tree))
        check_columns(schema_of(empty), result_format)
