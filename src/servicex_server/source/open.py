"""From a location to its bytes."""

from __future__ import annotations

from servicex_server.source import address
from servicex_server.source.policy import HTTP_SCHEMES, ROOT_SCHEMES, SourcePolicy, check, scheme_of
from servicex_server.source.protocol import ByteSource, SourceLimits
from servicex_server.source.url import split_url

_ROOT_PORT = 1094


def check_origin(location: str, policy: SourcePolicy) -> None:
    """Raises SourceRefused for a URL that this server would not read from, whoever reads it for us."""
    parts = split_url(check(policy, location))
    address.resolve(parts.host, parts.port or _ROOT_PORT, policy.allowed_private_hosts)


def open_source(location: str, policy: SourcePolicy, limits: SourceLimits | None = None) -> ByteSource:
    """The bytes of a file, if the policy lets it be read.

    Raises:
        SourceRefused: it may not be read here.
        SourceUnavailable: it cannot be read now.
    """
    checked = check(policy, location)
    scheme = scheme_of(checked)
    # The clients are heavy; a process that reads local files does not pay for them.
    if scheme in HTTP_SCHEMES:
        from servicex_server.source.http import HttpSource  # noqa: PLC0415

        return HttpSource(checked, policy, limits)
    if scheme in ROOT_SCHEMES:
        from servicex_server.source.xrootd import XrootdSource  # noqa: PLC0415

        return XrootdSource(checked, policy, limits)
    from servicex_server.source.local import LocalSource  # noqa: PLC0415

    return LocalSource(checked, policy)
