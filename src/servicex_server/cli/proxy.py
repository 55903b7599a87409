"""`servicex-server proxy`, `init` and `clear`: grid certificates and the proxy made from them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicex_server.cli.options import ConfigOption, DataDirOption, load_settings
from servicex_server.errors import CredentialError

if TYPE_CHECKING:
    from servicex_server.grid.certificate import UserCertificate

_LONGEST_PASSPHRASE = 4096

NamespaceOption = Annotated[
    str | None,
    typer.Option("--namespace", help="Kubernetes namespace, for Secrets there; default the data folder."),
]


def proxy(
    once: Annotated[
        bool, typer.Option("--once", help="Make one proxy and end; exit 1 if that fails.")
    ] = False,
    cert_dir: Annotated[
        Path | None,
        typer.Option(help="Folder with usercert.pem and userkey.pem (default: where `init` puts them)."),
    ] = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Keep a grid proxy fresh, from a user's certificate. A passphrase is read from the standard input."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.proxy import keep_fresh, load_user, renew_once  # noqa: PLC0415  keeps --help quick

    passphrase = _read_passphrase(load_user(settings, cert_dir))
    if once:
        made = renew_once(settings, cert_dir, passphrase)
        typer.echo(f"made a proxy: {made}")
        return
    raise typer.Exit(keep_fresh(settings, cert_dir, passphrase))


def init(
    cert_dir: Annotated[Path, typer.Option(help="Folder with usercert.pem and userkey.pem.")] = Path(
        "~/.globus"
    ),
    namespace: NamespaceOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
) -> None:
    """Install your grid certificate for `proxy`. A passphrase is read from the standard input."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.proxy import install, load_user  # noqa: PLC0415

    passphrase = _read_passphrase(load_user(settings, cert_dir))
    typer.echo(f"installed in {install(settings, cert_dir, passphrase, namespace)}")


def clear(
    namespace: NamespaceOption = None, data_dir: DataDirOption = None, config: ConfigOption = None
) -> None:
    """Remove the certificate that `init` installed, and the proxy made from it."""
    settings = load_settings(config, data_dir=data_dir)
    from servicex_server.app.proxy import remove  # noqa: PLC0415

    removed = remove(settings, namespace)
    for what in removed:
        typer.echo(f"removed {what}")
    if not removed:
        typer.echo("there was nothing to remove")


def _read_passphrase(user: UserCertificate) -> bytes | None:
    """One line of the standard input, if the key needs it. Never an argument: other users see those.

    Raises:
        CredentialError: there is none.
    """
    if not user.is_protected:
        return None
    if sys.stdin.isatty():
        import getpass  # noqa: PLC0415

        passphrase = getpass.getpass(f"Passphrase of {user.subject}: ").encode()
    else:
        passphrase = sys.stdin.buffer.readline(_LONGEST_PASSPHRASE).rstrip(b"\r\n")
    if not passphrase:
        message = f"the key of {user.subject} has a passphrase: give it on the standard input"
        raise CredentialError(message)
    return passphrase
