"""Whether a disk has room for results, as a finding for an operator."""

from __future__ import annotations

from servicex_server.app.finding import Finding, Grade
from servicex_server.app.settings import Settings


def examine_room(subject: str, where: str, free_bytes: int, settings: Settings) -> Finding:
    """What so much free room at that place means."""
    detail = f"{where}, {show_free(free_bytes)}"
    if free_bytes < settings.min_free_bytes:
        needed = f"; results are refused below {settings.min_free_bytes / 2**30:.1f} GiB (min_free_bytes)"
        return Finding(subject, Grade.FAIL, detail + needed)
    if free_bytes < 2 * settings.min_free_bytes:
        least = f"{2 * settings.min_free_bytes / 2**30:.1f} GiB (twice min_free_bytes)"
        remedy = f"; new requests are refused below {least}: see `servicex-server disk` and `sweep`"
        return Finding(subject, Grade.WARNING, detail + remedy)
    return Finding(subject, Grade.OK, detail)


def show_free(free_bytes: int) -> str:
    """Room that is left, in words."""
    return f"{free_bytes / 2**30:.1f} GiB free"
