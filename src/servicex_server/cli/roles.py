"""`servicex-server app`, `worker`, `sweeper`, `finder`: the processes of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings

WorkersOption = Annotated[int | None, typer.Option(help="Files to work on at once (default: one per core).")]


def app(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (default 5000; 0 picks one).")] = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve HTTP in a deployment of several processes, which need PostgreSQL, RabbitMQ and a store."""
    settings = load_settings(config, host=host, port=port, data_dir=data_dir)
    from servicex_server.app.deployed import run_app  # noqa: PLC0415  keeps --help quick

    raise typer.Exit(run_app(settings))


def worker(
    workers: WorkersOption = None, data_dir: DataDirOption = None, config: ConfigOption = None
) -> None:
    """Transform files in a deployment of several processes. SIGTERM lets running files end."""
    settings = load_settings(config, workers=workers, data_dir=data_dir)
    from servicex_server.app.worker import run  # noqa: PLC0415  keeps --help quick

    raise typer.Exit(run(settings))


def sweeper(data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """Stand by to lead a deployment: offer work, record results, clean up. Apps do so, too."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.deployed import run_sweeper  # noqa: PLC0415  keeps --help quick

    raise typer.Exit(run_sweeper(settings))


def finder(
    scheme: Annotated[
        str, typer.Argument(help="Of the data sets: cernopendata, http, https, local, rucio, static, xrootd.")
    ],
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Look data sets up for any ServiceX server that names this scheme in its `broker_finders`."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.finder import run_finder  # noqa: PLC0415  keeps --help quick

    raise typer.Exit(run_finder(settings, scheme))
