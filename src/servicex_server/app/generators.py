"""Which query languages this server offers: all of ours, but users' code only where it can be locked away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from servicex_server.app.settings import Settings
from servicex_server.plan.parse import CODEGENS
from servicex_server.run.sandbox.available import why_unavailable

SANDBOXED = "python"


@dataclass(frozen=True, slots=True)
class Generators:
    """Code generators by name: those offered with what they are, the others with why not."""

    offered: Mapping[str, str]
    withheld: Mapping[str, str]


def look_for_generators(settings: Settings) -> Generators:
    """What is offered under these settings, on this machine. Starts a process to see whether it can."""
    reason = (
        "the setting python_generator is off" if settings.python_generator == "off" else why_unavailable()
    )
    if reason is None:
        return Generators(dict(CODEGENS), {})
    offered = {name: text for name, text in CODEGENS.items() if name != SANDBOXED}
    return Generators(offered, {SANDBOXED: reason})
