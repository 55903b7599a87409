"""What this server may read: local roots, network hosts, URL schemes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from servicex_server.errors import SourceRefused
from servicex_server.grid.access import NO_GRID_ACCESS, GridAccess, callers_access
from servicex_server.model.naming import show_location
from servicex_server.source import address
from servicex_server.source.url import split_url

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")

LOCAL_SCHEMES = (None, "file")
ROOT_SCHEMES = ("root", "roots")
HTTP_SCHEMES = ("http", "https", "davs")
REMOTE_SCHEMES = HTTP_SCHEMES + ROOT_SCHEMES
ALLOWED = "a path below the configured local roots, or a file://, http[s]://, davs:// or root[s]:// URL"


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """What may be read.

    Attributes:
        local_roots: folders below which local files may lie, after symbolic links are resolved.
        allowed_private_hosts: host names, addresses or networks that may be loopback, link-local,
            private or reserved; "*" for all.
        forbidden_folders: folders below which nothing is read although they lie below a root, such as the
            server's own, where everybody's results and its secrets are.
        unrestricted_local: read any local file; for a process that runs with its caller's own rights.
        grid: what grid storage is shown.
        reader: whose policy it is, in messages: apps and workers may have been told different ones.
    """

    local_roots: tuple[Path, ...] = ()
    allowed_private_hosts: tuple[str, ...] = ()
    forbidden_folders: tuple[Path, ...] = ()
    unrestricted_local: bool = False
    grid: GridAccess = NO_GRID_ACCESS
    reader: str = "this server"


CALLERS_OWN = SourcePolicy(
    allowed_private_hosts=("*",), unrestricted_local=True, grid=callers_access(os.environ)
)
"""For a process that the reader started: whatever its caller may read."""


def check(policy: SourcePolicy, url_or_path: str) -> str:
    """The location in its normal form, if the policy lets it be read.

    Local paths are resolved through symbolic links; relative ones are looked up below each root. Host
    names are not looked up here: whether their addresses may be reached is decided when connecting.

    Raises:
        SourceRefused: not allowed, or not a location; the text names what is.
    """
    if not url_or_path or any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in url_or_path):
        message = f"not a file location: {url_or_path!r}; allowed is {ALLOWED}"
        raise SourceRefused(message)
    scheme = scheme_of(url_or_path)
    if scheme is None:
        return str(_resolve_local(policy, url_or_path))
    if scheme == "file":
        return str(_resolve_local(policy, _path_of_file_url(url_or_path)))
    if scheme not in REMOTE_SCHEMES:
        shown = show_location(url_or_path)
        message = f"cannot read {shown!r}: the scheme {scheme}:// is not supported; allowed is {ALLOWED}"
        raise SourceRefused(message)
    check_host(policy, url_or_path)
    # The XRootD client has its own idea of a URL: it gets one put together from the parts that were checked.
    return str(split_url(url_or_path)) if scheme in ROOT_SCHEMES else url_or_path


def scheme_of(location: str) -> str | None:
    """The URL scheme in lower case; None for a plain path."""
    match = _SCHEME.match(location)
    return match.group(1).lower() if match else None


def check_host(policy: SourcePolicy, url: str) -> None:
    """Raises SourceRefused if the URL has no usable host, or spells out an address that is not allowed."""
    host = split_url(url).host
    literal = address.from_literal(host)
    if literal is not None:
        address.refuse_private(host, literal, policy.allowed_private_hosts)
    name = address.canonical_host(host)
    is_local = name in _LOCAL_NAMES or name.endswith(".localhost")
    if is_local and not address.is_allowed(host, None, policy.allowed_private_hosts):
        address.refuse_private(host, address.LOOPBACK, policy.allowed_private_hosts)


def may_read_local(policy: SourcePolicy, resolved: Path) -> bool:
    """Whether a path without symbolic links may be read."""
    if any(resolved.is_relative_to(os.path.realpath(folder)) for folder in policy.forbidden_folders):
        return False
    return policy.unrestricted_local or any(
        resolved.is_relative_to(os.path.realpath(root)) for root in policy.local_roots
    )


def refuse_local(policy: SourcePolicy, asked: str) -> SourceRefused:
    """The refusal for a local path, in words that do not tell whether the path exists."""
    roots = ", ".join(str(root) for root in policy.local_roots)
    if not roots:
        roots = (
            f"none are configured (setting `local_roots` of {policy.reader}; apps and workers need the same)"
        )
    if policy.local_roots and policy.forbidden_folders:
        roots += " (except the server's own data folder)"
    message = f"the file {asked!r} is not below a folder {policy.reader} reads from; local roots: {roots}"
    return SourceRefused(message)


def _path_of_file_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        message = f"cannot read {show_location(url)!r}: a file:// URL names no host; allowed is file:///path"
        raise SourceRefused(message)
    return unquote(url.split("://", 1)[1].removeprefix("localhost"))


def _resolve_local(policy: SourcePolicy, path: str) -> Path:
    if "\0" in path:
        raise refuse_local(policy, path.replace("\0", "?"))
    if Path(path).is_absolute() or policy.unrestricted_local:
        candidates = [Path(os.path.realpath(path))]
    else:
        candidates = [Path(os.path.realpath(root / path)) for root in policy.local_roots]
    allowed = [candidate for candidate in candidates if may_read_local(policy, candidate)]
    if not allowed:
        raise refuse_local(policy, path)
    # Not Path.exists, which raises for a name that is too long.
    return next((candidate for candidate in allowed if os.path.exists(candidate)), allowed[0])  # noqa: PTH110
