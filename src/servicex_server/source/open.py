"""From a location to its bytes."""

from __future__ import annotations

from servicex_server.source.policy import SourcePolicy, check, scheme_of
from servicex_server.source.protocol import ByteSource, SourceLimits


def open_source(location: str, policy: SourcePolicy, limits: SourceLimits | None = None) -> ByteSource:
    """The bytes of a file, if the policy lets it be read.

    Raises:
        SourceRefused: it may not be read here.
        SourceUnavailable: it cannot be read now.
    """
    checked = check(policy, location)
    scheme = scheme_of(checked)
    # The clients are heavy; a process that reads local files does not pay for them.
    if scheme in ("http", "https"):
        from servicex_server.source.http import HttpSource  # noqa: PLC0415

        return HttpSource(checked, policy, limits)
    if scheme == "root":
        from servicex_server.source.xrootd import XrootdSource  # noqa: PLC0415

        return XrootdSource(checked, policy, limits)
    from servicex_server.source.local import LocalSource  # noqa: PLC0415

    return LocalSource(checked, policy)
