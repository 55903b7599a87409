"""Where the server of a command is: what the flags say, or the `servicex.yaml` that the client would find."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from servicex_server.errors import ConfigurationError

if TYPE_CHECKING:
    import httpx

UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="The server (default: the default endpoint of the servicex.yaml found)."),
]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="File that holds the access token and nothing else.")
]

CONFIG_NAMES = (".servicex", "servicex.yaml")
_LARGEST_FILE = 2**20
SILENCE_S = 45.0
"""A server says something every 15 s."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server, and the token that opens it."""

    url: str
    token: str | None = field(default=None, repr=False)

    def client(self) -> httpx.Client:
        """An HTTP client of this server."""
        import httpx  # noqa: PLC0415  keeps --help quick

        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            return httpx.Client(base_url=self.url, headers=headers, timeout=httpx.Timeout(10, read=SILENCE_S))
        except (httpx.InvalidURL, UnicodeError) as error:
            message = f"the server's URL cannot be used: {error}"
            raise ConfigurationError(message) from error


def find_endpoint(url: str | None, token_file: Path | None) -> Endpoint:
    """The server that flags or files name.

    Raises:
        ConfigurationError: none is named, or a file cannot be read.
    """
    token = _read_token(token_file) if token_file is not None else None
    if url is not None and not url.startswith(("http://", "https://")):
        message = "--url must start with http:// or https://"
        raise ConfigurationError(message)
    if url is not None and token is not None:
        return Endpoint(url.rstrip("/"), token)
    path = next(_candidates(Path.cwd(), Path.home()), None)
    known = [] if path is None else _read_endpoints(path)
    if url is not None:
        same = (entry.token for entry in known if entry.url == url.rstrip("/"))
        return Endpoint(url.rstrip("/"), next(same, None))
    if not known:
        message = (
            "no server is named: there is no servicex.yaml or .servicex with an endpoint in this folder, "
            "those above it and your home; give --url and --token-file"
        )
        raise ConfigurationError(message)
    return Endpoint(known[0].url, token or known[0].token)


def show_command(verb: str, request_id: str, url: str | None, token_file: Path | None) -> str:
    """A command for the same request on the same server, to be pasted.

    >>> show_command("follow", "17", "http://one:5000", None)
    'servicex-server follow 17 --url http://one:5000'
    """
    words = ["servicex-server", verb, request_id]
    words += ["--url", url] if url is not None else []
    words += ["--token-file", str(token_file)] if token_file is not None else []
    return shlex.join(words)


def _candidates(folder: Path, home: Path) -> Iterator[Path]:
    """The client's configuration files, in the order in which it looks for them."""
    for place in (folder, *folder.parents, home):
        for name in CONFIG_NAMES:
            if (place / name).is_file():
                yield place / name


def _read_endpoints(path: Path) -> list[Endpoint]:
    """The endpoints in a file, its default first."""
    import yaml  # noqa: PLC0415  keeps --help quick

    try:
        content = yaml.safe_load(_read(path))
        entries = [
            (entry.get("name"), Endpoint(str(entry["endpoint"]).rstrip("/"), str(entry.get("token") or "")))
            for entry in content["api_endpoints"]
        ]
        default = content.get("default_endpoint", content.get("default-endpoint"))
    except (yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        message = f"{path} has no list `api_endpoints` as the client wants it"
        raise ConfigurationError(message) from error
    return [endpoint for _, endpoint in sorted(entries, key=lambda entry: entry[0] != default)]


def _read_token(path: Path) -> str:
    token = _read(path).strip()
    if not token or not token.isascii() or len(token.split()) != 1:
        message = f"{path} does not hold one token and nothing else"
        raise ConfigurationError(message)
    return token


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_LARGEST_FILE)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        message = f"cannot read {path}: {why}"
        raise ConfigurationError(message) from error
