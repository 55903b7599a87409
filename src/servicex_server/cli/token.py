"""`servicex-server token`: who may use the server."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings

token_app = typer.Typer(help="Who may use the server.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the user; requests and results belong to it.")]

_UNKNOWN_URL = "https://servicex.example.org"


@token_app.command()
def create(
    name: NameArgument,
    admin: Annotated[bool, typer.Option(help="May read and manage everybody's requests.")] = False,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Make an access token for a user (an older one of the same name stops working) and print it once.

    Standard output is the token alone, for scripts; beside it stands the user's servicex.yaml, without the
    token unless you read it in a terminal.
    """
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.datadir import client_config  # noqa: PLC0415  keeps --help quick
    from servicex_server.app.tokens import issue, names  # noqa: PLC0415

    is_another = name in names(settings)
    token, url = issue(settings, name, is_admin=admin)
    typer.echo(token)
    if is_another:
        typer.echo(f"\nThe earlier token of {name} has stopped working.", err=True)
    unknown = (
        "" if url else f" (with the server's URL in place of {_UNKNOWN_URL}: set public_url to have it here)"
    )
    typer.echo(f"\nThe servicex.yaml of {name}, or the entry to add to it{unknown}:\n", err=True)
    # Where the token is captured, standard error ends in the log of a job.
    shown = token if sys.stdout.isatty() else "<the token on standard output>"
    typer.echo(client_config(url or _UNKNOWN_URL, shown), err=True, nl=False)


@token_app.command()
def revoke(name: NameArgument, data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """Make a user's token stop working; requests and results stay. Your own is replaced at the next start."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.tokens import revoke as forget  # noqa: PLC0415  keeps --help quick

    forget(settings, name)
    typer.echo(f"{name}'s token no longer works")


@token_app.command("list")
def list_names(data_dir: DataDirOption = None, config: ConfigOption = None) -> None:
    """List the users that have a token."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.tokens import names  # noqa: PLC0415  keeps --help quick

    for name in names(settings):
        typer.echo(name)
