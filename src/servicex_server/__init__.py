"""ServiceX server: filtered columns from LHC data sets, delivered while you wait.

The path of a request is the tree (stations sort alphabetically in flow order):

    api/      1  HTTP in and out: public routes, error mapping, the S3 read endpoint
    plan/     3  query text -> plan; pure
    queue/    4  work at least once
    run/      5  one work unit: read -> filter -> write
    store/    6  result objects

beside them: `model` (the nouns), `service` (use cases), `db`, `source` (the bytes of a replica),
`launch` (worker processes), `auth`, `app` (composition roots) and `cli`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from servicex_server.run.execute import TransformSummary

__all__ = ["transform"]


def transform(
    files: str | Path | Sequence[str | Path],
    *,
    codegen: str,
    selection: str,
    output: str | Path,
    result_format: str = "parquet",
    tree_name: str | None = None,
    max_events: int | None = None,
    n_threads: int | None = None,
    compression: str | None = None,
) -> list[TransformSummary]:
    """Runs a query over files as the server would, without any server.

    Args:
        files: ROOT files: paths or URLs.
        codegen: the query's language, by its code generator: `uproot`, `uproot-raw`,
            `tcut` or `python`.
        selection: the query's text; for `python` the source code, or its base64.
        output: the result file; with several files the folder that gets one result per file.
        result_format: `parquet`, `root-file`, `root-rntuple`, `arrow` or `hdf5`.
        tree_name: the tree to read, where the query does not name one.
        max_events: read no more than so many entries of each file.
        n_threads: threads to work with; None for one per core.
        compression: codec and level of the results, as in `zstd:3`; None for the format's default.

    Returns:
        For each file the path of its result, rows in and out, bytes read and written, seconds, and what
        else was counted.

    Raises:
        InvalidRequest: the query, the only file or the format is at fault.
        TransformError: the only file could not be transformed.
        FilesFailed: some of several files failed, for whatever reason. All were tried: the error carries
            the `results` of the others beside the `failures`.
    """
    # The engine is heavy, and a server process that imports this package does not need it.
    from servicex_server.run.batch import require_all, transform_files  # noqa: PLC0415

    inputs = [files] if isinstance(files, str | Path) else list(files)
    return require_all(
        transform_files(
            inputs,
            codegen=codegen,
            selection=selection,
            result_format=result_format,
            output=output,
            tree_name=tree_name,
            max_events=max_events,
            n_threads=n_threads,
            compression=compression,
        )
    )
