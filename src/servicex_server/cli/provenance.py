"""`servicex-server provenance`: save where the results of a request come from."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from servicex_server.cli.endpoint import TokenFileOption, UrlOption, find_endpoint
from servicex_server.cli.stream import ContactLost, check
from servicex_server.errors import InvalidRequest

if TYPE_CHECKING:
    import httpx


def provenance(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the request, or its number.")],
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write, - for standard output.")
    ] = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Save the record of a request, from its query to its results, in ID.provenance.json or another file."""
    import httpx  # noqa: PLC0415  keeps --help quick

    path = output or Path(f"{quote(request_id, safe='')}.provenance.json")
    with find_endpoint(url, token_file).client() as client:
        try:
            _save(client, request_id, path)
        except httpx.TransportError as error:
            message = f"the record did not come whole ({type(error).__name__}: {error}); try again"
            raise ContactLost(message) from error


def _save(client: httpx.Client, request_id: str, path: Path) -> None:
    source = f"/servicex/transformation/{quote(request_id, safe='')}/provenance"
    with client.stream("GET", source) as answer:
        check(answer)
        if str(path) == "-":
            for chunk in answer.iter_bytes():
                sys.stdout.buffer.write(chunk)
            sys.stdout.flush()
            return
        part = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with part.open("wb") as file:
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            part.replace(path)
        except OSError as error:
            message = f"cannot write {path}: {error.strerror}"
            raise InvalidRequest(message) from error
        finally:
            part.unlink(missing_ok=True)
    typer.echo(f"saved {path}", err=True)
