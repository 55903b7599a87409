"""`servicex-server transform`: try a query on files, without any server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicex_server.errors import InvalidRequest
from servicex_server.model.tally import Tally, to_document

if TYPE_CHECKING:
    from servicex_server.run.execute import TransformSummary


def transform(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="ROOT files: paths or URLs.")],
    codegen: Annotated[str, typer.Option(help="Query language: uproot, uproot-raw, tcut or python.")],
    selection: Annotated[str, typer.Option(help="The query's text, or @FILE that holds it.")],
    output: Annotated[
        Path, typer.Option(help="Result file; with several FILEs the folder for one result per file.")
    ],
    result_format: Annotated[
        str, typer.Option("--format", help="parquet, root-file (or root-ttree), root-rntuple, arrow or hdf5.")
    ] = "parquet",
    compression: Annotated[
        str | None,
        typer.Option(help="Codec and level of the results, such as zstd:3, zstd:3+split, gzip:6 or none."),
    ] = None,
    tree: Annotated[str | None, typer.Option(help="Tree to read, where the query does not name one.")] = None,
    max_events: Annotated[
        int | None, typer.Option(help="Read no more than so many entries per file.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Threads to work with; default one per core.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print rows, bytes and seconds per file as JSON.")
    ] = False,
) -> None:
    """Run a query over files and write the results, without any server; exit 1 if any file fails."""
    text = _read_selection(selection)
    from servicex_server.run.batch import FailedFile, transform_files  # noqa: PLC0415  keeps --help quick
    from servicex_server.run.heap import share_one_heap  # noqa: PLC0415

    share_one_heap()
    outcomes = transform_files(
        files,
        codegen=codegen,
        selection=text,
        result_format=result_format,
        output=output,
        tree_name=tree,
        max_events=max_events,
        n_threads=threads,
        compression=compression,
    )
    entries: list[dict[str, object]] = []
    has_failed = False
    for outcome in outcomes:
        if isinstance(outcome, FailedFile):
            has_failed = True
            typer.echo(f"error: {outcome.error.message}", err=True)
            entries.append({"file": outcome.location, "error": outcome.error.message})
            continue
        if outcome.missing_trees:
            names = ", ".join(map(repr, outcome.missing_trees))
            typer.echo(f"warning: {outcome.location} lacks {names}; skipped", err=True)
        entries.append(_to_entry(outcome))
        if not as_json:
            typer.echo(_to_line(outcome))
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
    if has_failed:
        raise typer.Exit(1)


def _to_line(summary: TransformSummary) -> str:
    rate = f"{summary.n_events_in} rows in, {summary.n_events_out} rows out"
    size = f"{summary.bytes_read} bytes read, {summary.size_bytes} written"
    return f"{summary.location} -> {summary.path}: {rate}, {size}, {summary.seconds:.2f} s"


def _to_entry(summary: TransformSummary) -> dict[str, object]:
    return {
        "file": summary.location,
        "output": str(summary.path),
        "rows_in": summary.n_events_in,
        "rows_out": summary.n_events_out,
        "bytes_read": summary.bytes_read,
        "bytes_written": summary.size_bytes,
        "seconds": round(summary.seconds, 6),
        "missing_trees": list(summary.missing_trees),
        **_describe(summary.tally),
    }


def _describe(tally: Tally) -> dict[str, object]:
    document = to_document(tally)
    return {
        "bytes_decompressed": document["bytes_decompressed"],
        "seconds_by_stage": {stage: round(value, 6) for stage, value in document["seconds"].items()},
        "cut_flow": document["cut_flow"],
        "sums_of_weights": document["sums_of_weights"],
    }


def _read_selection(selection: str) -> str:
    if not selection.startswith("@"):
        return selection
    path = Path(selection[1:])
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read the selection from {str(path)!r}: {error}"
        raise InvalidRequest(message) from error
