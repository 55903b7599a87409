"""`servicex-server db`: bring the database's schema up to date, or ask whether it is."""

from __future__ import annotations

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings

db_app = typer.Typer(help="The database's schema.", no_args_is_help=True)


@db_app.command()
def upgrade(data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """Create the database or bring its schema up to date."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.embedded import upgrade_database  # noqa: PLC0415  keeps --help quick

    typer.echo(f"schema is at {upgrade_database(settings)}")


@db_app.command()
def check(data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """Exit 0 if the database's schema is up to date, 1 and the command to run if not."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.embedded import check_database  # noqa: PLC0415  keeps --help quick

    check_database(settings)
    typer.echo("schema is up to date")
