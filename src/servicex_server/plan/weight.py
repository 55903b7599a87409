"""Which columns hold the weight of an event, for the sums that normalise a sample. Pure."""

from __future__ import annotations

from collections.abc import Iterable

WEIGHTS = frozenset(
    {"genWeight", "Generator_weight", "LHEWeight_originalXWGTUP", "mcEventWeight", "mcWeight", "weight_mc",
     "eventWeight", "weight"}
)  # fmt: skip
"""Names of the nominal event weight in CMS NanoAOD, ATLAS ntuples and common private formats."""


def weight_columns(columns: Iterable[str]) -> tuple[str, ...]:
    """Those columns that are event weights by their name, whatever folder or record they are in.

    >>> weight_columns(["Muon_pt", "genWeight", "EventInfo.mcEventWeight"])
    ('genWeight', 'EventInfo.mcEventWeight')
    """
    return tuple(name for name in columns if name.replace(".", "/").rpartition("/")[2] in WEIGHTS)
