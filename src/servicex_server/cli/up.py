"""`servicex-server up`: the whole server in one process tree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 5000; 0 picks one).")] = None,
    data_dir: DataDirOption = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes (default: one per core).")] = None,
    config: ConfigOption = None,
    auth: Annotated[
        bool | None,
        typer.Option("--auth/--no-auth", help="Ask for the access token on every call (default), or do not."),
    ] = None,
    local_root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder below which input files may be read; repeatable (default: this folder)."),
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = None,
) -> None:
    """Start the server: HTTP, workers, SQLite, local results. Ctrl-C stops it; a second start resumes."""
    settings = load_settings(
        config,
        host=host,
        port=port,
        data_dir=data_dir,
        workers=workers,
        auth=auth,
        local_roots=tuple(local_root) if local_root else None,
        log_level=log_level.upper() if log_level else None,
    )
    from servicex_server.app.embedded import run  # noqa: PLC0415  keeps --help quick

    raise typer.Exit(run(settings))
