"""What the server shows to grid storage, and to which hosts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class GridAccess:
    """The service identity as files, each of which others may replace or remove at any time.

    Attributes:
        proxy_file: RFC 3820 proxy: certificates and key; where the file is missing, there is no proxy.
        cert_dir: certificates of the grid's authorities, by hash.
        token_file: a bearer token.
        hosts: names that may see the token, and the proxy over https; `*.domain` for all below it, `*` for
            all. Over root:// a proxy is shown to every server: it proves who we are and gives nothing away.
        private_folder: where copies go of files that others may read too, which grid clients refuse.
        is_callers: the process runs with its caller's own rights, so that the XRootD client finds by itself
            what the caller's environment names.
    """

    proxy_file: Path | None = None
    cert_dir: Path | None = None
    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    private_folder: Path | None = None
    is_callers: bool = False

    def is_trusted(self, host: str) -> bool:
        """Whether the host may see the token.

        >>> GridAccess(hosts=("*.example.org",)).is_trusted("Door.Example.org")
        True
        >>> GridAccess(hosts=("*.example.org",)).is_trusted("example.org.evil.net")
        False
        """
        name = host.lower().rstrip(".")
        for pattern in self.hosts:
            wanted = pattern.lower()
            if wanted in ("*", name) or (wanted.startswith("*.") and name.endswith(wanted[1:])):
                return True
        return False


NO_GRID_ACCESS = GridAccess()
"""Nothing is shown to anybody."""


def callers_access(environment: Mapping[str, str]) -> GridAccess:
    """What the variables of grid tools name, for a process of the caller's own.

    The hosts that see it over https are those of `SERVICEX_GRID_HOSTS`, as for a server.
    """
    names = environment.get("SERVICEX_GRID_HOSTS", "").split(",")
    return GridAccess(
        proxy_file=_path(environment, "X509_USER_PROXY"),
        cert_dir=_path(environment, "X509_CERT_DIR"),
        token_file=_path(environment, "BEARER_TOKEN_FILE"),
        hosts=tuple(name.strip() for name in names if name.strip()),
        is_callers=True,
    )


def _path(environment: Mapping[str, str], name: str) -> Path | None:
    value = environment.get(name)
    return Path(value) if value else None
