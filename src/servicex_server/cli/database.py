"""`servicex-server db`: bring the database's schema up to date, or ask whether it is."""

from __future__ import annotations

from typing import Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings

db_app = typer.Typer(help="The database's schema.", no_args_is_help=True)

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="postgresql://... of a deployment. Other users of this machine see what stands here: a password "
        "is better kept in SERVICEX_DATABASE_URL or in the file that SERVICEX_DATABASE_URL_FILE names.",
    ),
]


@db_app.command()
def upgrade(
    database: DatabaseOption = None, data_dir: DataDirOption = None, config: ConfigOption = None
) -> None:
    """Create the database's tables or bring them up to date. Several may do so at once."""
    settings = load_settings(config, data_dir=data_dir, database_url=database)
    from servicex_server.app.database import upgrade as bring_up  # noqa: PLC0415  keeps --help quick

    typer.echo(f"schema is at {bring_up(settings)}")


@db_app.command()
def check(
    database: DatabaseOption = None, data_dir: DataDirOption = None, config: ConfigOption = None
) -> None:
    """Exit 0 if the database's schema is up to date, 1 and the command to run if not."""
    settings = load_settings(config, data_dir=data_dir, database_url=database)
    from servicex_server.app.database import check as look  # noqa: PLC0415  keeps --help quick

    look(settings)
    typer.echo("schema is up to date")
