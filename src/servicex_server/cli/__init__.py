"""The command `servicex-server`: one module per command group.

Heavy imports happen inside the commands, so that `--help` and shell completion answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from servicex_server.cli.check import check
from servicex_server.cli.config import config_app
from servicex_server.cli.database import db_app
from servicex_server.cli.disk import disk, sweep
from servicex_server.cli.follow import follow
from servicex_server.cli.provenance import provenance
from servicex_server.cli.proxy import clear, init, proxy
from servicex_server.cli.retry import retry
from servicex_server.cli.roles import app as app_role
from servicex_server.cli.roles import finder, sweeper, worker
from servicex_server.cli.token import token_app
from servicex_server.cli.transform import transform
from servicex_server.cli.up import up
from servicex_server.errors import ServicexError

app = typer.Typer(
    name="servicex-server",
    help="Filtered columns from LHC data sets, delivered while you wait.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich would quadruple the time to the first line of help
)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Filtered columns from LHC data sets, delivered while you wait."""
    if show:
        from importlib.metadata import version as installed  # noqa: PLC0415  keeps --help quick

        typer.echo(installed("servicex-server"))
        raise typer.Exit


app.command()(up)
app.command("app")(app_role)
app.command()(worker)
app.command()(sweeper)
app.command()(finder)
app.command()(check)
app.command()(transform)
app.command()(disk)
app.command()(sweep)
app.command()(follow)
app.command()(retry)
app.command()(provenance)
app.command()(proxy)
app.command()(init)
app.command()(clear)
app.add_typer(token_app, name="token")
app.add_typer(config_app, name="config")
app.add_typer(db_app, name="db")


def main() -> None:
    """Runs the command; an error the server raised on purpose is one line on stderr and exit code 1."""
    try:
        app()
    except ServicexError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201  the command's own output
        _exit(1)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            _exit(end.code or 0)
        raise


def _exit(code: int) -> NoReturn:
    if "XRootD" in sys.modules:
        # Its client's threads outlive the interpreter, which may then end in a crash.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
