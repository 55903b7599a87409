"""`servicex-server retry`: another try for the failed files of a request."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from servicex_server.cli.endpoint import TokenFileOption, UrlOption, find_endpoint, show_command
from servicex_server.cli.follow import printable
from servicex_server.cli.stream import ContactLost, check


def retry(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the request, or its number.")],
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Try the failed files of a finished request again, under the same id; its results so far stay."""
    import httpx  # noqa: PLC0415  keeps --help quick

    with find_endpoint(url, token_file).client() as client:
        try:
            answer = client.post(f"/servicex/transformation/{quote(request_id, safe='')}/retry")
        except httpx.TransportError as error:
            message = (
                f"the server did not answer ({type(error).__name__}: {error}); it may have begun all the "
                f"same: see `{show_command('follow', request_id, url, token_file)}`"
            )
            raise ContactLost(message) from error
    check(answer)
    typer.echo(printable(str(answer.json()["message"])))
    typer.echo(f"follow it: {show_command('follow', request_id, url, token_file)}")
